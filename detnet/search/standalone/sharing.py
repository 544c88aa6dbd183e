"""Work that several processes share: each takes the next piece that nobody is at."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from detnet.engine.launch import world_size
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.training.run_state import OnEvent


class Busy(Exception):
    """Another process is at something that a piece of work needs; it can be done later."""


@dataclass(frozen=True)
class Job:
    """One piece of work.

    Args:
        name: for messages.
        folder: kept to one process while it works on this.
        result: the file whose being there means that the work is done.
        work: does it and writes `result`; False when it was interrupted.
    """

    name: str
    folder: Path
    result: Path
    work: Callable[[], bool]


def share(
    jobs: Sequence[Job],
    *,
    stop: Callable[[], bool],
    on_event: OnEvent,
    wait: bool = True,
    poll_s: float = 1.0,
) -> bool:
    """Does all jobs, of which other processes may do some at the same time.

    At the end it waits for what others are still at, and takes it over if they die.

    Args:
        stop: asked between two jobs, and while waiting.
        on_event: called with "note" events.
        wait: at the end; else what others are at then is left to them.
        poll_s: between two looks at what others are doing.

    Returns:
        False when it was interrupted.
    """
    waiting = False
    while left := [job for job in jobs if not job.result.exists()]:
        for job in left:
            if stop():
                return False
            done = _try(job)
            if done is False:
                return False
            if done:
                break
        else:
            if not wait:
                return True
            if not waiting:
                names = ", ".join(job.name for job in left)
                on_event({"event": "note", "text": f"waiting for other processes: {names}"})
            waiting = True
            time.sleep(poll_s)
    return True


def _try(job: Job) -> bool | None:
    """Does a job, False when interrupted; None if somebody else is at it or has done it."""
    with claimed(job.folder) as mine:
        if not mine or job.result.exists():
            return None
        try:
            return job.work()
        except Busy:
            return None


@contextmanager
def claimed(folder: Path) -> Iterator[bool]:
    """Keeps a folder to this process, however it ends; gives whether that was possible.

    Raises:
        InputError: the folder cannot be made.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"{folder}: cannot make the folder: {error.strerror}") from error
    lock = RunFolder(folder)
    try:
        lock.lock()
    except InputError:
        yield False
        return
    try:
        yield True
    finally:
        lock.unlock()


@contextmanager
def in_turn(folder: Path, *, poll_s: float = 0.2) -> Iterator[None]:
    """Keeps a folder to this process for a moment, after others have had their turn."""
    while True:
        with claimed(folder) as mine:
            if mine:
                yield
                return
        time.sleep(poll_s)


def require_one_process(command: str) -> None:
    """Refuses torchrun, whose processes would take one piece of work together.

    Raises:
        InputError: it started several.
    """
    if world_size() > 1:
        raise InputError(
            f"{command} is not for torchrun: start it by itself once for each device; these "
            "processes share the work"
        )


def require_processes(command: str, workers: int) -> None:
    """Refuses torchrun, and a number of workers that is none.

    Raises:
        InputError: of either.
    """
    require_one_process(command)
    if workers < 1:
        raise InputError(f"--workers {workers}: give a number of processes, 1 or more")
