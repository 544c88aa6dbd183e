"""Trains, and kills what trains by SIGKILL at given moments; `test_kill.py` plans and judges it.

    python -m tests.training.killed_runs FOLDER

FOLDER/plan.json names the runs: their settings, how many processes, and the kills, one after
another, after each of which the run is gone on with, or begun once more in a folder of its own
where the kill came too late. FOLDER/done.json says what came of each. The first run has no kills
and tells how long one takes here.
"""

import contextlib
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from detnet.cli import main as detnet
from tests.forked import fork, places, wait

_TIMEOUT_S = 300


def start(settings: Path, run: Path, processes: int) -> list[int]:
    """Begins a training, or goes on with it, as the command line does."""
    begun = (run / "config.yaml").exists()
    place = ["--resume", str(run)] if begun else ["--config", str(settings), "--output", str(run)]
    command = ["train", *place]
    log = run.with_suffix(".log")
    return [fork(lambda: detnet(command), where, log) for where in places(processes)]


def carry_out(folder: Path, name: str, wanted: dict[str, Any]) -> list[dict[str, Any]]:
    """One run with its kills; what each of them found."""
    run, found = folder / name, list[dict[str, Any]]()
    for kill in wanted["kills"]:
        started = start(folder / wanted["settings"], run, wanted["processes"])
        found.append({"run": run.name, **kill, **_kill(run, kill, started)})
        if not any(found[-1]["codes"]):
            run = folder / f"{name}_{len(found)}"
    codes = wait(start(folder / wanted["settings"], run, wanted["processes"]))
    assert not any(codes), (name, codes, run.with_suffix(".log").read_text()[-3000:])
    return found


def _kill(run: Path, kill: dict[str, Any], started: list[int]) -> dict[str, Any]:
    """Waits for the moment and kills: what was written by then, and how the processes ended."""
    moments = {"lines": _lines, "writing": _writing, "time": _time}
    came = _wait_for(started, moments[kill["moment"]](run, kill, started[0]))
    who = started if kill.get("who", "all") == "all" else [started[kill["who"]]]
    for process in who:
        if kill.get("group"):  # the processes that read its images, too
            with contextlib.suppress(ProcessLookupError):  # it had hardly begun
                os.killpg(process, signal.SIGKILL)
        os.kill(process, signal.SIGKILL)
    codes = wait(started, timeout_s=60)
    partial = run / ".last.ckpt.part"
    return {
        "came": came,
        "codes": codes,
        "lines": _count(run),
        "partial": partial.stat().st_size if partial.exists() else None,
    }


def _wait_for(started: list[int], now: Callable[[], bool]) -> bool:
    """Looks without a pause, since some moments are short; False when the training has ended."""
    end = time.monotonic() + _TIMEOUT_S
    while not now():
        if any(_state(process) in ("Z", "") for process in started) or time.monotonic() > end:
            return False
    return True


def _lines(run: Path, kill: dict[str, Any], main: int) -> Callable[[], bool]:
    """After so many lines of metrics.jsonl in this session, which may begin by cutting some."""
    before, more = _count(run), 0

    def now() -> bool:
        nonlocal before, more
        time.sleep(0.001)
        lines = _count(run)
        more, before = more + max(0, lines - before), lines
        return more >= kill["count"]

    return now


def _time(run: Path, kill: dict[str, Any], main: int) -> Callable[[], bool]:
    """After a share of the time that a whole run takes, from the first sign of it."""
    before, first = time.time(), list[float]()
    seconds = kill["share"] * float((run.parent / "seconds").read_text())

    def now() -> bool:
        time.sleep(0.001)
        lock = run / ".lock"
        if not first and lock.exists() and lock.stat().st_mtime >= before - 0.1:
            first.append(time.monotonic())
        return bool(first) and time.monotonic() >= first[0] + seconds

    return now


def _writing(run: Path, kill: dict[str, Any], main: int) -> Callable[[], bool]:
    """Within the writing of a checkpoint, when a share of it is written.

    The process is stopped to look whether it is still at it, and goes on where it is not. What a
    session before left of one that it was writing is not meant.
    """
    partial, last = run / ".last.ckpt.part", run / "last.ckpt"

    def look(path: Path) -> tuple[int, int]:
        with contextlib.suppress(FileNotFoundError):
            found = path.stat()
            return found.st_size, found.st_mtime_ns
        return 0, 0

    left = look(partial)[1]

    def now() -> bool:
        size, written = look(partial)
        if written in (0, left) or size < kill["share"] * look(last)[0]:
            return False
        os.kill(main, signal.SIGSTOP)
        while _state(main) not in ("T", "Z", ""):
            pass
        if partial.exists() and _state(main) == "T":
            return True
        os.kill(main, signal.SIGCONT)
        return False

    return now


def _count(run: Path) -> int:
    path = run / "metrics.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def _state(process: int) -> str:
    """Its letter in the system's list, as "T" for stopped and "Z" for dead; "" if unknown."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return ""


def main(folder: Path) -> None:
    plan = json.loads((folder / "plan.json").read_text())
    done = {}
    for name, wanted in plan.items():
        done[name] = carry_out(folder, name, wanted)
        if not wanted["kills"]:
            seconds = time.time() - (folder / name / ".lock").stat().st_mtime
            (folder / "seconds").write_text(str(seconds))
    (folder / "done.json").write_text(json.dumps(done))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
