"""What each address answers, and what none of them lets through."""

import io
import json
import re
import socket
import threading
import time
from collections.abc import Callable, Iterator

import httpx
import numpy as np
import pytest
from PIL import Image

from detnet.coco.masks import decode_masks
from detnet.inference.server.answers import ModelAnswer, PredictAnswer, RefusedAnswer
from detnet.inference.server.refusals import HEADERS
from tests.inference.server.bright import BrightEngine, colours
from tests.inference.server.conftest import TOKEN, Served, file_of, wait_for

Serve = Callable[..., Served]


def refused(answer: httpx.Response, status: int, pattern: str) -> None:
    assert answer.status_code == status, answer.text
    told = RefusedAnswer.model_validate_json(answer.content)
    assert told.status == status and re.search(pattern, told.reason), told.reason
    for name, value in HEADERS.items():
        assert answer.headers[name] == value


def test_objects_come_as_coco_results_with_names_and_masks(serve: Serve) -> None:
    served = serve()
    small = colours(64, 64)
    answer = served.predict(file_of(colours()), file_of(small), score_threshold=0.75)
    assert answer.status_code == 200
    PredictAnswer.model_validate_json(answer.content)
    content = answer.json()
    assert content["images"] == [
        {"id": 1, "width": 96, "height": 64},
        {"id": 2, "width": 64, "height": 64},
    ]
    assert [(each["image_id"], each["name"]) for each in content["results"]] == [
        (1, "red"),
        (2, "red"),
    ]
    first = content["results"][0]
    assert first["bbox"] == [10, 8, 40, 16] and first["score"] == 0.9
    assert first["category_id"] == 7
    assert first["segmentation"]["size"] == [64, 96]
    inside = decode_masks([first["segmentation"]["counts"].encode()], 64, 96)[0]
    assert (inside == (colours() == (255, 0, 0)).all(axis=2)).all()
    both = served.predict(file_of(small)).json()["results"]
    assert [each["name"] for each in both] == ["red", "blue"]


def test_without_masks_there_is_no_segmentation(serve: Serve, picture: bytes) -> None:
    results = serve(engine=BrightEngine(masks=False)).predict(picture).json()["results"]
    assert [sorted(each) for each in results] == [
        ["bbox", "category_id", "image_id", "name", "score"]
    ] * 2


def test_what_formats_are_read_and_that_they_are_turned_upright(serve: Serve) -> None:
    served = serve()
    for format in ("PNG", "BMP", "WEBP", "GIF", "JPEG"):
        options = {"lossless": True} if format == "WEBP" else {}
        answer = served.predict(file_of(colours(), format, **options))
        assert [each["name"] for each in answer.json()["results"]] == ["red", "blue"], format
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = served.predict(file_of(colours(), "JPEG", exif=exif, quality=100)).json()
    assert turned["images"] == [{"id": 1, "width": 64, "height": 96}]
    refused(served.predict(file_of(colours(), "TIFF")), 415, "JPEG, PNG, WEBP, BMP, GIF")


def test_who_asks_for_no_threshold_is_given_one_that_the_model_takes(
    serve: Serve, picture: bytes
) -> None:
    engine = BrightEngine()
    engine.least_score = 0.6
    served = serve(engine=engine)
    assert served.predict(picture).status_code == 200
    refused(served.predict(picture, score_threshold=0.5), 422, "leaves out scores below 0.6")


def test_the_model_and_how_the_server_is(serve: Serve) -> None:
    served = serve()
    model = ModelAnswer.model_validate_json(served.client.get("/model").content)
    assert (model.name, model.engine, model.precision) == ("bright", "bright", "exact")
    assert [each.id for each in model.categories] == [7, 8, 90]
    assert served.client.get("/health").json() == {"status": "ok"}
    assert served.client.get("/ready").json() == {"status": "ready"}
    assert served.client.head("/ready").status_code == 200


def test_until_the_model_is_loaded_requests_are_sent_away(serve: Serve, picture: bytes) -> None:
    served = serve()
    queue, served.server.service.queue = served.server.service.queue, None
    for answer in (
        served.predict(picture),
        served.client.get("/ready"),
        served.client.get("/model"),
    ):
        refused(answer, 503, "being loaded")
        assert answer.headers["retry-after"] == "1"
    assert served.client.get("/health").status_code == 200
    served.server.service.queue = queue


def test_counts_and_times_for_prometheus(serve: Serve, picture: bytes) -> None:
    served = serve()
    served.predict(picture)
    served.predict(b"text")
    served.client.get("/a/b/c")
    served.client.get("/another")
    lines = served.client.get("/metrics").text.splitlines()
    for line in (
        'detnet_requests_total{path="/predict",status="200"} 1.0',
        'detnet_requests_total{path="/predict",status="415"} 1.0',
        'detnet_requests_total{path="other",status="404"} 2.0',
        'detnet_request_seconds_count{path="/predict"} 2.0',
        "detnet_batch_images_count 1.0",
        "detnet_batch_images_sum 1.0",
        "detnet_queue_images 0.0",
    ):
        assert line in lines, line
    assert any(line.startswith("process_resident_memory_bytes ") for line in lines)


def test_two_servers_count_for_themselves(serve: Serve, picture: bytes) -> None:
    first, second = serve(), serve()
    first.predict(picture)
    assert "detnet_batch_images_count 0.0" in second.client.get("/metrics").text


def test_pages_load_nothing_from_elsewhere(serve: Serve) -> None:
    served = serve()
    for path in ("/", "/docs", "/page.css", "/page.js", "/docs.js", "/icon.svg"):
        answer = served.client.get(path)
        assert answer.status_code == 200
        for name, value in HEADERS.items():
            assert answer.headers[name] == value
        addresses = set(re.findall(r"https?://[\w./]+", answer.text))
        assert addresses <= {"http://www.w3.org/2000/svg"}
        assert not re.search(r"<script>|<style| style=| on\w+=", answer.text)


def test_the_openapi_document_tells_what_is_sent_and_answered(serve: Serve) -> None:
    document = serve().client.get("/openapi.json").json()
    assert set(document["paths"]) == {"/predict", "/model", "/health", "/ready", "/metrics"}
    predict = document["paths"]["/predict"]["post"]
    assert "multipart/form-data" in predict["requestBody"]["content"]
    assert {"200", "401", "413", "415", "422", "503"} <= set(predict["responses"])


REFUSED = [
    ("GET", "/nothing", 404, "nothing at this address"),
    ("GET", "/../../etc/passwd", 404, "nothing"),
    ("GET", "/page.css/", 404, "nothing"),
    ("GET", "/predict", 405, "method"),
    ("DELETE", "/model", 405, "method"),
    ("POST", "/predict", 415, "multipart/form-data"),
    ("POST", "/predict?score_threshold=2", 422, "score_threshold.*less than or equal to 1"),
    ("POST", "/predict?score_threshold=nan", 422, "score_threshold"),
    ("POST", "/predict?threshold=0.5", 422, "threshold.*not permitted"),
]


def test_refusals_are_json_with_a_reason(serve: Serve) -> None:
    served = serve()
    for method, path, status, pattern in REFUSED:
        refused(served.client.request(method, path), status, pattern)


def test_a_defect_is_told_to_the_log_alone(
    serve: Serve, picture: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    class Broken(BrightEngine):
        def detect(self, images, *, score_threshold):  # type: ignore[no-untyped-def]
            if images[0].shape != (480, 640, 3):  # of warming up
                raise RuntimeError("at 0x7f00 in /secret/place")
            return super().detect(images, score_threshold=score_threshold)

    answer = serve(engine=Broken()).predict(picture)
    refused(answer, 500, "log")
    assert "secret" not in answer.text and "Traceback" not in answer.text
    assert "an image could not be run" in caplog.text and "/secret/place" in caplog.text


def test_a_defect_of_the_app_is_told_to_the_log_alone(
    serve: Serve, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    served = serve()
    monkeypatch.setattr(served.server.service.meters, "text", lambda: 1 / 0)
    refused(served.client.get("/metrics"), 500, "log")
    for _ in range(100):  # it is written after the answer
        if "ZeroDivisionError" in caplog.text:
            break
        time.sleep(0.02)
    assert caplog.text.count("a request could not be answered") == 1
    assert "ZeroDivisionError" in caplog.text


def test_tokens_open_everything_but_what_tells_nothing(serve: Serve, picture: bytes) -> None:
    served = serve(token=TOKEN)
    assert served.predict(picture).status_code == 200
    with httpx.Client(base_url=served.client.base_url, trust_env=False) as stranger:
        for path in ("/", "/docs", "/page.js", "/openapi.json", "/health", "/ready"):
            assert stranger.get(path).status_code == 200
        for path in ("/model", "/metrics", "/nothing", "/predict"):
            answer = stranger.get(path)
            refused(answer, 401, "token")
            assert answer.headers["www-authenticate"] == "Bearer"
        for sent in (
            f"Bearer {TOKEN}x",
            f"Bearer {TOKEN[:-1]}",
            f"Basic {TOKEN}",
            "Bearer",
            TOKEN,
            b"Bearer \xff\xfe",
        ):
            answer = stranger.post("/predict", headers={"Authorization": sent})
            refused(answer, 401, "token")
        good = {"authorization": f"bearer {TOKEN}"}
        assert stranger.get("/model", headers=good).status_code == 200


def test_pages_of_other_sites_may_not_use_it(serve: Serve, picture: bytes) -> None:
    served = serve()
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 200)):
        answer = served.client.post(
            "/predict", files={"image": picture}, headers={"Sec-Fetch-Site": site}
        )
        assert answer.status_code == status
        assert "access-control-allow-origin" not in answer.headers
    own = f"{served.client.base_url.host}:{served.client.base_url.port or 80}"
    for origin, status in ((f"http://{own}", 200), ("http://evil.example", 403), ("null", 403)):
        headers = {"Origin": origin, "Host": own}
        answer = served.client.post("/predict", files={"image": picture}, headers=headers)
        assert answer.status_code == status


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """Images wait in the engine until it is set; at the end it is."""
    opened = threading.Event()
    yield opened
    opened.set()


def held_by(gate: threading.Event) -> BrightEngine:
    """Warming up passes."""
    engine = BrightEngine()
    engine.held = lambda: engine.calls[-1] != [(480, 640, 3)] and not gate.is_set()
    return engine


def test_a_client_that_leaves_frees_its_place(
    serve: Serve, picture: bytes, gate: threading.Event
) -> None:
    served = serve(engine=held_by(gate), max_queue=1)
    queue = served.server.service.queue
    assert queue is not None
    done: list[int] = []
    first = threading.Thread(target=lambda: done.append(served.predict(picture).status_code))
    first.start()
    wait_for(lambda: len(served.engine.calls) == 1)  # it runs
    request = httpx.Request("POST", f"{served.client.base_url}/predict", files={"image": picture})
    lines = [f"{name}: {value}" for name, value in request.headers.items()]
    head = "\r\n".join(["POST /predict HTTP/1.1", *lines, "", ""]).encode()
    with socket.create_connection(("127.0.0.1", served.port), timeout=60) as leaving:
        leaving.sendall(head + request.read())
        wait_for(lambda: queue.length == 1)
    wait_for(lambda: queue.length == 0)
    gate.set()
    assert served.predict(picture).status_code == 200
    first.join()
    assert done == [200] and len(served.engine.calls) == 2  # that of the client who left never ran
    assert 'path="/predict",status="499"} 1.0' in served.client.get("/metrics").text


def test_told_to_end_it_finishes_what_was_accepted(
    serve: Serve, picture: bytes, gate: threading.Event
) -> None:
    served = serve(engine=held_by(gate))
    answers: list[int] = []
    clients = [
        threading.Thread(target=lambda: answers.append(served.predict(picture).status_code))
        for _ in range(4)
    ]
    for client in clients:
        client.start()
    queue = served.server.service.queue
    assert queue is not None
    wait_for(lambda: queue.length == 3)  # and the first runs
    served.server.should_exit = True
    wait_for(lambda: queue.closed)
    gate.set()
    for client in clients:
        client.join()
    assert answers == [200] * 4


def test_an_upload_that_is_under_way_when_it_ends_is_sent_away(serve: Serve) -> None:
    served = serve()
    head = (
        "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
        "Content-Type: multipart/form-data; boundary=b\r\n\r\n"
    )

    def end_it() -> None:
        wait_for(lambda: bool(served.server.service._reading))
        served.server.should_exit = True

    threading.Thread(target=end_it).start()
    answer = served.raw(head.encode() + b"--b\r\n", patience_s=20)  # of a body it waits 30 s for
    assert answer.startswith(b"HTTP/1.1 503 ") and b"about to end" in answer


def test_answers_are_strict_json(serve: Serve) -> None:
    image = np.zeros((40, 60, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "PNG")
    answer = serve().predict(stream.getvalue())
    assert json.loads(answer.content)["results"] == []
