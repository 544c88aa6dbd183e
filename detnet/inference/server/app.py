"""The server's addresses: what each takes and answers, and the model behind them."""

import asyncio
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

from fastapi import FastAPI, Query, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp

import detnet
from detnet.inference.server.answers import (
    CategoryAnswer,
    ModelAnswer,
    PredictAnswer,
    PredictQuery,
    RefusedAnswer,
    StateAnswer,
    predict_answer,
)
from detnet.inference.server.guard import DEFECT, RequestGuard
from detnet.inference.server.meters import Meters
from detnet.inference.server.models import usual_score
from detnet.inference.server.queue import ImageQueue
from detnet.inference.server.refusals import RefusedRequest
from detnet.inference.server.settings import ServerSettings
from detnet.inference.server.uploads import FIELD, FORMATS, ImageForm

Answer = TypeVar("Answer")
_PAGES = Path(__file__).parent / "page"
_FILES = {
    "/": ("index.html", "text/html; charset=utf-8"),
    "/docs": ("docs.html", "text/html; charset=utf-8"),
    "/page.css": ("page.css", "text/css; charset=utf-8"),
    "/page.js": ("page.js", "text/javascript; charset=utf-8"),
    "/docs.js": ("docs.js", "text/javascript; charset=utf-8"),
    "/icon.svg": ("icon.svg", "image/svg+xml"),
}
_PUBLIC = (*_FILES, "/openapi.json", "/health", "/ready")
_GONE = 499  # as others count clients that left before their answer


class Service:
    """A server's state, none of which outlives a request but the model.

    Args:
        settings: see there.

    Attributes:
        queue: what runs images; None until the model is loaded.
        meters: what is counted.
    """

    def __init__(self, settings: ServerSettings) -> None:
        self.settings = settings
        self.meters = Meters()
        self.queue: ImageQueue | None = None
        self.closed = False
        self._held = 0
        self._reading: set[asyncio.Timeout] = set()

    def close(self) -> None:
        """Accepts nothing from now on; what was accepted is finished."""
        self.closed = True
        if self.queue is not None:
            self.queue.closed = True
        for timeout in self._reading:  # what is not here yet was not accepted
            timeout.reschedule(asyncio.get_running_loop().time())

    def require_queue(self) -> ImageQueue:
        """Gives the queue.

        Raises:
            RefusedRequest: the model is not loaded yet.
        """
        if self.closed:
            raise RefusedRequest(503, "the server is about to end", retry_after_s=1)
        if self.queue is None:
            raise RefusedRequest(503, "the model is being loaded", retry_after_s=1)
        return self.queue

    async def predict(self, request: Request, threshold: float | None) -> bytes:
        """Answers a request with images.

        Args:
            threshold: of scores; None for the usual one.

        Raises:
            RefusedRequest: saying why.
        """
        queue = self.require_queue()
        least = queue.engine.least_score
        threshold = usual_score(queue.engine) if threshold is None else threshold
        if threshold < least:
            reason = f"score_threshold: this export leaves out scores below {least:g}"
            raise RefusedRequest(422, reason)
        queue.require_places(1)  # before the body is asked for
        with self._holding() as hold:
            images = await self._receive(request, hold)
            await queue.check(images)
            seen = await _while_there(request, queue.detect(images, threshold=threshold))
        return predict_answer(seen, queue.engine)

    async def _receive(self, request: Request, hold: "_Hold") -> list[bytes]:
        """The images of a body, bounded in bytes and time, while they arrive."""
        limits = self.settings.limits
        too_large = RefusedRequest(413, f"a request takes {limits.max_body:,} bytes at most")
        if int(request.headers.get("content-length", 0)) > limits.max_body:
            raise too_large
        form = ImageForm(request.headers.get("content-type", ""), max_images=limits.max_images)
        size, more = 0, True
        try:
            async with asyncio.timeout(limits.body_s) as timeout:
                self._reading.add(timeout)
                try:
                    while more:
                        message = await request.receive()
                        if message["type"] == "http.disconnect":
                            raise RefusedRequest(_GONE, "the client left")
                        body: bytes = message.get("body", b"")
                        size += len(body)
                        if size > limits.max_body:
                            raise too_large
                        hold.more(len(body))
                        form.feed(body)
                        more = message.get("more_body", False)
                finally:
                    self._reading.discard(timeout)
        except TimeoutError:
            self.require_queue()
            raise RefusedRequest(
                408, f"the body did not arrive within {limits.body_s:g} s"
            ) from None
        return form.finish()

    @contextmanager
    def _holding(self) -> Iterator["_Hold"]:
        hold = _Hold(self)
        try:
            yield hold
        finally:
            self._held -= hold.bytes


class _Hold:
    """The bytes of one request's body that are in memory."""

    def __init__(self, service: Service) -> None:
        self.bytes = 0
        self._service = service

    def more(self, count: int) -> None:
        if self._service._held + count > self._service.settings.limits.held_bytes:
            raise RefusedRequest(503, "too much is being sent at once", retry_after_s=1)
        self._service._held += count
        self.bytes += count


async def _while_there(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Does the work, and gives it up when the client leaves."""
    task = asyncio.create_task(work)
    watch = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({task, watch}, return_when=asyncio.FIRST_COMPLETED)
        if not task.done():
            raise RefusedRequest(_GONE, "the client left")
        return task.result()
    finally:
        watch.cancel()
        task.cancel()
        await asyncio.wait({task, watch})


async def _left(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def make_app(service: Service) -> ASGIApp:
    """Makes the application that answers for a service."""
    app = FastAPI(
        title="detnet",
        version=detnet.__version__,
        description="Finds objects in images. Errors are JSON with a status and a reason.",
        docs_url=None,  # the framework's own pages load scripts from other sites
        redoc_url=None,
        redirect_slashes=False,  # whose address would be made of a header
        separate_input_output_schemas=False,
    )
    _add_prediction(app, service)
    _add_state(app, service)
    for path, (name, kind) in _FILES.items():
        content = (_PAGES / name).read_bytes()
        app.add_api_route(path, _file(content, kind), include_in_schema=False)
    app.add_exception_handler(RefusedRequest, _on_refused)
    app.add_exception_handler(HTTPException, _on_http)
    app.add_exception_handler(RequestValidationError, _on_invalid)
    app.add_exception_handler(Exception, _on_defect)
    return RequestGuard(
        app,
        service.meters,
        paths=(*_PUBLIC, "/predict", "/model", "/metrics"),
        public=_PUBLIC,
        token_digests=service.settings.token_digests,
    )


def _add_prediction(app: FastAPI, service: Service) -> None:
    """Adds the address that finds objects."""

    @app.post(
        "/predict",
        summary="Find objects in one image or several",
        response_model=PredictAnswer,
        response_model_exclude_none=True,
        responses={
            status: {"model": RefusedAnswer, "description": what}
            for status, what in {
                400: "The body is not what its header says.",
                401: "The token is missing or wrong.",
                408: "The body took too long to arrive.",
                413: "Too many bytes, pixels or images.",
                415: "Not multipart/form-data, or no image of a format that is read.",
                422: "A damaged image, an unknown field or a value out of range.",
                503: "The queue is full, or the model is being loaded; see Retry-After.",
            }.items()
        },
        openapi_extra={"requestBody": _body()},
    )
    async def predict(request: Request, query: Annotated[PredictQuery, Query()]) -> Response:
        """Answers with COCO's results: a box, a score, a category and its name, and a mask as run
        lengths where the model has masks."""
        content = await service.predict(request, query.score_threshold)
        return Response(content, media_type="application/json")


def _add_state(app: FastAPI, service: Service) -> None:
    """Adds the addresses that tell of the model and of the server."""
    why = "The model is being loaded, or the server ends."
    not_now: dict[int | str, dict[str, Any]] = {503: {"model": RefusedAnswer, "description": why}}

    @app.get("/model", summary="What runs here", responses=not_now)
    async def model() -> ModelAnswer:
        """Tells the categories, the engine, its precision, and the bounds of requests."""
        return _model(service.require_queue(), service.settings)

    @app.get("/health", summary="Whether the process answers")
    async def health() -> StateAnswer:
        """For whoever restarts it."""
        return StateAnswer(status="ok")

    @app.get("/ready", summary="Whether requests are accepted", responses=not_now)
    async def ready() -> StateAnswer:
        """For whoever sends it requests: not yet while the model is loaded, and no longer once
        the server was told to end."""
        service.require_queue()
        return StateAnswer(status="ready")

    @app.get("/metrics", summary="Counts and times for Prometheus", response_class=Response)
    async def metrics() -> Response:
        """Requests, latency, batch sizes, the queue and the process."""
        return Response(service.meters.text(), media_type=service.meters.content_type)


def _body() -> dict[str, Any]:
    file = {"type": "string", "format": "binary", "description": ", ".join(FORMATS)}
    schema = {
        "type": "object",
        "required": [FIELD],
        "properties": {FIELD: {"type": "array", "items": file}},
        "additionalProperties": False,
    }
    return {"required": True, "content": {"multipart/form-data": {"schema": schema}}}


def _model(queue: ImageQueue, settings: ServerSettings) -> ModelAnswer:
    engine, limits = queue.engine, settings.limits
    named = zip(engine.category_ids, engine.class_names, strict=True)
    return ModelAnswer(
        name=Path(settings.model).resolve().name,
        engine=engine.name,
        precision=engine.precision,
        runs_as=engine.runs_as,
        categories=[CategoryAnswer(id=id, name=name) for id, name in named],
        least_score=engine.least_score,
        max_batch=queue.max_batch,
        max_body=limits.max_body,
        max_images=limits.max_images,
        max_pixels=limits.max_pixels,
        formats=list(FORMATS),
        version=detnet.__version__,
    )


def _file(content: bytes, kind: str) -> Any:
    async def give() -> Response:
        return Response(content, media_type=kind)

    return give


async def _on_refused(_: Request, error: Exception) -> Response:
    assert isinstance(error, RefusedRequest)
    return Response(error.body, error.status, error.headers)


async def _on_http(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reason = {404: "there is nothing at this address", 405: "not with this method"}
    status = error.status_code
    content = {"status": status, "reason": reason.get(status, str(error.detail))}
    return JSONResponse(content, status, dict(error.headers or {}))


async def _on_invalid(_: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    first = error.errors()[0]
    where = ascii(".".join(str(part) for part in first["loc"][1:]))[:60]
    return await _on_refused(_, RefusedRequest(422, f"{where}: {first['msg']}"))


async def _on_defect(_: Request, error: Exception) -> Response:
    """The framework raises it once more afterwards, and the guard writes it to the log."""
    return await _on_refused(_, RefusedRequest(500, DEFECT))
