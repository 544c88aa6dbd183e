"""A server's app within the test's process, and one on a socket of its own."""

import contextlib
import io
import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from detnet.inference.server import models
from detnet.inference.server.settings import ServerLimits, ServerSettings, digest
from detnet.inference.server.worker import WorkerServer
from tests.inference.server.bright import BrightEngine, colours

TOKEN = "correct-horse-battery-staple"


def file_of(pixels: np.ndarray, format: str = "PNG", **options: Any) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, format, **options)
    return stream.getvalue()


def wait_for(what: Callable[[], bool]) -> None:
    """Waits until it is so; a minute, for a busy machine is no defect."""
    end = time.monotonic() + 60
    while not what():
        assert time.monotonic() < end
        time.sleep(0.005)


@dataclass
class Served:
    """A server on a thread: its address, its engine, and a client."""

    server: WorkerServer
    engine: BrightEngine
    port: int
    client: httpx.Client

    def predict(self, *contents: bytes, **query: Any) -> httpx.Response:
        files = [("image", (f"{at}.png", content)) for at, content in enumerate(contents)]
        return self.client.post("/predict", files=files, params=query)

    def raw(self, data: bytes, *, patience_s: float = 10.0) -> bytes:
        """What comes back for these bytes until the server closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=patience_s) as connection:
            answer = b""
            with contextlib.suppress(ConnectionResetError, BrokenPipeError):
                connection.sendall(data)
                while part := connection.recv(65536):
                    answer += part
            return answer


@pytest.fixture
def serve(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Served]]:
    """Starts servers around a `BrightEngine`; options are `ServerLimits`'."""
    with contextlib.ExitStack() as stack:

        def start(
            *,
            engine: BrightEngine | None = None,
            token: str = "",
            image_s: float | None = None,
            **limits: Any,
        ) -> Served:
            runs = engine or BrightEngine()
            monkeypatch.setattr(models, "open_served", lambda *_: runs)
            settings = ServerSettings(
                "folder/bright",
                limits=ServerLimits(**limits),
                token_digests=(digest(token),) if token else (),
                image_s=image_s,
            )
            server = WorkerServer(settings, lambda **_: None)
            listener = socket.create_server(("127.0.0.1", 0))
            port = listener.getsockname()[1]
            thread = threading.Thread(target=server.run, args=([listener],), daemon=True)
            thread.start()
            headers = {"Authorization": f"Bearer {token}"} if token else {}
            client = httpx.Client(
                base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20, trust_env=False
            )

            def stop() -> None:
                client.close()
                server.should_exit = True
                thread.join(15)
                assert not thread.is_alive()

            stack.callback(stop)
            while server.service.queue is None:
                time.sleep(0.005)
            runs.calls.clear()  # of warming up
            return Served(server, runs, port, client)

        yield start


@pytest.fixture
def picture() -> bytes:
    return file_of(colours())
