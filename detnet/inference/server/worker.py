"""The process that answers requests; its parent starts it, tells it what to serve, and ends it.

Standard input brings one line of settings, and stays open for as long as the parent lives. What
becomes of it goes back as lines of JSON.
"""

import asyncio
import json
import logging
import os
import socket
import sys
import threading
import time
import warnings
from typing import IO, Any

import uvicorn

from detnet.engine.memory import is_out_of_memory, out_of_memory_line
from detnet.errors import InputError
from detnet.inference.server import models
from detnet.inference.server.app import Service, make_app
from detnet.inference.server.protocol import HEADER_BYTES, bounded_by
from detnet.inference.server.queue import ImageQueue
from detnet.inference.server.settings import TAKES_LESS, ServerSettings
from detnet.plugins import load_plugins


class WorkerServer(uvicorn.Server):
    """Answers at once, and loads the model meanwhile.

    Args:
        settings: see there.
        report: takes what is to be told to the parent.
    """

    def __init__(self, settings: ServerSettings, report: "Reporter") -> None:
        self.service = Service(settings)
        super().__init__(
            uvicorn.Config(
                make_app(self.service),
                http=bounded_by(settings.limits),
                ws="none",
                loop="asyncio",
                lifespan="off",
                log_config=None,
                access_log=False,
                proxy_headers=False,
                server_header=False,
                h11_max_incomplete_event_size=HEADER_BYTES,
                timeout_graceful_shutdown=settings.limits.stop_s,  # type: ignore[arg-type]
            )
        )
        self._report = report
        self._tasks: set[asyncio.Task[None]] = set()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listens, and begins to load the model."""
        await super().startup(sockets)
        self._begin(self._load())

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Accepts nothing more, finishes what was accepted, and ends."""
        self.service.close()
        await super().shutdown(sockets)

    async def _load(self) -> None:
        start = time.perf_counter()
        settings = self.service.settings
        try:
            engine = await asyncio.to_thread(models.open_served, settings.model, settings.engine)
            queue = ImageQueue(
                engine,
                settings.limits,
                self.service.meters,
                seconds_per_image=settings.image_s or 0.0,
            )
            if settings.image_s is None:
                await asyncio.to_thread(queue.warm_up)
        except OSError as error:
            self._report(failed=f"{error.filename or settings.model}: {error.strerror or error}")
            os._exit(2)
        except Exception as error:
            if is_out_of_memory(error):
                self._report(failed=f"{settings.model}: {out_of_memory_line(error, TAKES_LESS)}")
            elif isinstance(error, InputError):
                self._report(failed=str(error))
            else:
                raise
            os._exit(2)
        queue.closed = self.service.closed
        self._begin(queue.run())
        self.service.queue = queue
        self._report(
            ready=True,
            engine=engine.name,
            precision=engine.precision,
            runs_as=engine.runs_as,
            load_s=round(time.perf_counter() - start, 2),
            image_s=round(queue.seconds_per_image, 3),
        )

    def _begin(self, work: Any) -> None:
        task = asyncio.ensure_future(work)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: "asyncio.Task[None]") -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            # Without it nothing can be answered any more; the parent starts another.
            logging.getLogger("detnet.server").critical("the worker ends", exc_info=error)
            os._exit(1)


class Reporter:
    """Writes lines of JSON to the parent."""

    def __init__(self, stream: IO[str]) -> None:
        self._stream = stream

    def __call__(self, **facts: Any) -> None:
        self._stream.write(json.dumps(facts) + "\n")
        self._stream.flush()


def main() -> None:
    """Serves until it is told to end, or its parent is gone."""
    logging.basicConfig(format="detnet: %(message)s", level=logging.WARNING)
    logging.getLogger("detnet.server").setLevel(logging.INFO)
    for name in ("uvicorn", "python_multipart"):  # what strangers send is no news
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.simplefilter("ignore")  # what decoders say of strangers' images is for no one
    listener, status = (int(text) for text in sys.argv[1:3])
    for descriptor in (listener, status):
        os.set_inheritable(descriptor, False)  # what a runtime starts shall not hold them
    settings = ServerSettings.from_json(sys.stdin.readline())
    load_plugins(settings.plugins)
    server = WorkerServer(settings, Reporter(os.fdopen(status, "w", encoding="utf-8")))

    def follow_parent() -> None:
        sys.stdin.read()
        server.should_exit = True

    threading.Thread(target=follow_parent, daemon=True).start()
    server.run(sockets=[socket.socket(fileno=listener)])
    sys.stderr.flush()
    os._exit(0)  # an image that still runs is nobody's any more


if __name__ == "__main__":
    main()
