"""A plugin by which a server runs a `BrightEngine`, and the means to start such a server."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx

from detnet.inference.server import models
from tests.inference.server.bright import BrightEngine

HERE = Path(__file__).parents[3]
HOLD = "DETNET_TEST_HOLD"  # a file; while it is there, images wait in the engine
if HOLD in os.environ:  # in a worker
    models.open_served = lambda *_: BrightEngine(  # type: ignore[assignment]
        held=Path(os.environ[HOLD]).exists
    )


@dataclass
class Command:
    """A running `detnet serve`.

    Args:
        process: of the command.
        address: where it listens.
        errors: the file that its standard error goes to.
        hold: while this file is there, images wait in a `BrightEngine`.
    """

    process: subprocess.Popen[str]
    address: str
    errors: Path
    hold: Path

    def worker(self) -> int:
        """The process id of the worker that lives."""
        return self._workers()[0]

    def kill_worker(self) -> float:
        """Kills the worker, waits for the next, and says after how many seconds that was ready.

        Counted are those until it was started, and those of a processor that it then took: what
        others took from it on a busy machine is left out.
        """
        before, killed = self.worker(), time.clock_gettime(time.CLOCK_BOOTTIME)
        os.kill(before, signal.SIGKILL)
        self.wait_for(lambda: self._workers() not in ([], [before]))
        self.wait_for(self._ready)
        fields = Path(f"/proc/{self.worker()}/stat").read_text().rpartition(")")[2].split()
        user, system, started = (
            int(fields[place]) / os.sysconf("SC_CLK_TCK") for place in (11, 12, 19)
        )
        return max(0.0, started - killed) + user + system

    def metric(self, name: str) -> float:
        """A number of `/metrics`, 0 where there is none yet."""
        text = httpx.get(f"{self.address}/metrics", timeout=30, trust_env=False).text
        lines = [line for line in text.splitlines() if line.startswith(f"{name} ")]
        return float(lines[0].split()[1]) if lines else 0.0

    def wait_for(self, what: Callable[[], bool]) -> None:
        """Waits until it is so, for a minute at most: a busy machine is no defect."""
        start = time.monotonic()
        while not what():
            if time.monotonic() - start > 60:
                raise TimeoutError(self.errors.read_text())
            time.sleep(0.02)

    def _workers(self) -> list[int]:
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children")
        return [int(word) for word in children.read_text().split()]

    def _ready(self) -> bool:
        with contextlib.suppress(httpx.HTTPError):
            return httpx.get(f"{self.address}/ready", timeout=5, trust_env=False).is_success
        return False


@contextlib.contextmanager
def serving(model: Path, folder: Path, *options: str, bright: bool = True) -> Iterator[Command]:
    """Runs the command until the block ends, and then ends it.

    Args:
        folder: for what it writes.
        bright: serve a `BrightEngine` instead of the model.
    """
    environment = {**os.environ, "OMP_NUM_THREADS": os.environ.get("OMP_NUM_THREADS", "1")}
    words = ["serve", str(model), "--port", "0", *options]
    hold = folder / "hold"
    if bright:
        environment[HOLD] = str(hold)
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
        yield Command(process, address, errors, hold)
    finally:
        hold.unlink(missing_ok=True)
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
            process.wait(15)
        assert process.stdout is not None
        process.stdout.close()
