"""Several processes that do the same, and what they take of the machine."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

_HERE = Path(__file__).parent


class Crowd:
    """Processes of one script in `coco_parts`, which tell in JSON lines what they found.

    Args:
        processes: in the order of their ranks.
    """

    def __init__(self, processes: list[subprocess.Popen[str]]) -> None:
        self.processes = processes

    @property
    def ids(self) -> list[int]:
        return [process.pid for process in self.processes]

    def heard(self) -> list[dict[str, Any]]:
        """The next line of each; waits for all."""
        lines = [process.stdout.readline() for process in self.processes if process.stdout]
        if not all(lines):
            raise SystemExit("a process ended before its time, see above")
        return [json.loads(line) for line in lines]

    def go_on(self) -> None:
        for process in self.processes:
            assert process.stdin is not None
            process.stdin.write("\n")
            process.stdin.flush()


@contextmanager
def crowd(script: str, count: int, told: dict[str, Any], **environment: str) -> Iterator[Crowd]:
    """Starts processes as torchrun does, each with one thread, and ends them.

    Args:
        script: name of a file in `coco_parts`; it gets `told` as JSON.
    """
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    common = {**os.environ, "OMP_NUM_THREADS": "1", "WORLD_SIZE": str(count), **environment}
    common |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    processes = [
        subprocess.Popen(
            [sys.executable, str(_HERE / f"{script}.py"), json.dumps(told)],
            env={**common, "RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]
    try:
        yield Crowd(processes)
    finally:
        for process in processes:
            try:
                process.communicate(timeout=60)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()


def pss_mb(process: int) -> float:
    """Memory of a process, what it shares with others divided among them; 0 when it is gone."""
    try:
        lines = Path(f"/proc/{process}/smaps_rollup").read_text().splitlines()
    except OSError:
        return 0.0
    return sum(int(line.split()[1]) for line in lines if line.startswith("Pss:")) / 1024


def handles(process: int) -> int:
    """Files that a process holds open."""
    try:
        return len(os.listdir(f"/proc/{process}/fd"))
    except OSError:
        return 0


def children(process: int) -> list[int]:
    """The processes that a process has started, and those that these have."""
    try:
        own = Path(f"/proc/{process}/task/{process}/children").read_text().split()
    except OSError:
        return []
    return [each for child in map(int, own) for each in (child, *children(child))]


def table(head: list[str], rows: list[list[Any]]) -> str:
    """Columns of text under their heads."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    lines = ["  ".join(c.rjust(w) for c, w in zip(row, widths, strict=True)) for row in cells]
    return "\n".join(lines)
