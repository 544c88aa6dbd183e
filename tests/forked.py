"""Processes as torchrun starts them, but as forks of a Python that has imported torch already.

Only a fresh program may use this, before it has trained or evaluated anything itself: what it has
started by then (threads, CUDA) would not live on in a fork.
"""

import os
import signal
import socket
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path


def places(count: int) -> list[dict[str, str]]:
    """What torchrun tells each of its processes by the environment; one alone is told nothing."""
    if count == 1:
        return [{}]
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    common = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    return [{"RANK": str(r), "LOCAL_RANK": str(r), **common} for r in range(count)]


def fork(work: Callable[[], int | None], environment: Mapping[str, str], log: Path) -> int:
    """Does the work in a process, in a session of its own; gives its id. What it says is logged."""
    process = os.fork()
    if process:
        return process
    code = 1
    try:
        os.setsid()
        os.environ.update(environment)
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(said, 1)
        os.dup2(said, 2)
        code = work() or 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def wait(processes: Sequence[int], *, timeout_s: float = 300, patience_s: float = 1) -> list[int]:
    """The exit codes, minus the signal for a process that one ended.

    When one has failed the others, who may wait for it for ever, are killed `patience_s` later.
    """
    codes: dict[int, int] = {}
    end = time.monotonic() + timeout_s
    while len(codes) < len(processes):
        for process in set(processes) - codes.keys():
            found, status = os.waitpid(process, os.WNOHANG)
            if found:
                codes[process] = os.waitstatus_to_exitcode(status)
                end = min(end, time.monotonic() + patience_s) if codes[process] else end
        if time.monotonic() > end:
            for process in set(processes) - codes.keys():
                os.kill(process, signal.SIGKILL)
        time.sleep(0.02)
    return [codes[process] for process in processes]
