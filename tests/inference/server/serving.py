"""A plugin by which a server runs a `BrightEngine`, and the means to start such a server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from detnet.inference.server import models
from tests.inference.server.bright import BrightEngine

HERE = Path(__file__).parents[3]
if "DETNET_BRIGHT_S" in os.environ:  # in a worker
    models.open_served = lambda *_: BrightEngine(  # type: ignore[assignment]
        seconds=float(os.environ["DETNET_BRIGHT_S"])
    )


@dataclass
class Command:
    """A running `detnet serve`: its process, its address, and where its standard error goes."""

    process: subprocess.Popen[str]
    address: str
    errors: Path

    def worker(self) -> int:
        """The process id of the worker that lives."""
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return int(children.read_text().split()[0])

    def wait_until_ready(self, patience_s: float = 30.0) -> float:
        """How long it takes until requests are accepted."""
        start = time.monotonic()
        while time.monotonic() - start < patience_s:
            with contextlib.suppress(httpx.HTTPError):
                if httpx.get(f"{self.address}/ready", timeout=1, trust_env=False).is_success:
                    return time.monotonic() - start
            time.sleep(0.02)
        raise TimeoutError(self.errors.read_text())


@contextlib.contextmanager
def serving(
    model: Path, folder: Path, *options: str, seconds: float | None = 0.0
) -> Iterator[Command]:
    """Runs the command until the block ends, and then ends it.

    Args:
        folder: for what it writes.
        seconds: that each image takes a `BrightEngine`; None serves the model itself.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    words = ["serve", str(model), "--port", "0", *options]
    if seconds is not None:
        environment["DETNET_BRIGHT_S"] = str(seconds)
        words += ["--plugin", f"{HERE}:tests.inference.server.serving"]
    errors = folder / "errors.txt"
    with errors.open("w") as stream:
        process = subprocess.Popen(
            [sys.executable, "-m", "detnet", *words],
            stdout=subprocess.PIPE,
            stderr=stream,
            text=True,
            env=environment,
            cwd=HERE,
        )
    try:
        assert process.stdout is not None
        address = process.stdout.readline().strip()
        assert address, errors.read_text()
        yield Command(process, address, errors)
    finally:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
        assert process.stdout is not None
        process.stdout.close()
