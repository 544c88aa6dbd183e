# Serves an exported folder, mounted at /model, with what that needs and no more:
#   docker build -t detnet-serve .
#   docker run --rm -p 8000:8000 --read-only --tmpfs /tmp -v "$PWD/exported:/model:ro" detnet-serve
# Versions are those of requirements.lock. Neither torch nor what only training needs is installed.
FROM python:3.12-slim

WORKDIR /app
COPY requirements.lock pyproject.toml README.md LICENSE ./
RUN for name in annotated-doc annotated-types anyio click fastapi h11 hotcoco idna numpy \
        opentelemetry-api openvino pillow prometheus-client pycocotools pydantic pydantic-core \
        python-multipart pyyaml starlette typing-extensions typing-inspection uvicorn; \
    do grep -E "^$name==[^;]*( ;.*)?$" requirements.lock || exit 1; done > serve.txt \
    && pip install --no-cache-dir --no-deps -r serve.txt
COPY detnet ./detnet
RUN pip install --no-cache-dir --no-deps . && rm -r /app/*

RUN useradd --system --no-create-home detnet
USER detnet
EXPOSE 8000
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=3s --start-period=60s \
    CMD ["python", "-c", "import urllib.request as u; u.urlopen('http://127.0.0.1:8000/ready', timeout=2)"]
ENTRYPOINT ["detnet", "serve", "/model", "--host", "0.0.0.0"]
