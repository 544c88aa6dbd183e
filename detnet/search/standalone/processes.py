"""Processes of this machine that work on the same as a command, and end with it."""

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import torch

from detnet.text import count
from detnet.training.run_state import OnEvent

_GPUS = "CUDA_VISIBLE_DEVICES"
_LEADER = "DETNET_LEADER"  # process of the command that started a worker
_LEADER_S = 2.0  # between two looks at it


@contextmanager
def start_workers(
    arguments: Sequence[str], numbers: Sequence[int], *, threads: int, logs: Path
) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Starts workers, which at the end of the block save what they are at, and end.

    Args:
        arguments: of `detnet`; the command does its work `with_leader`.
        numbers: of the workers. Where there are several GPUs each is given the one of its number.
        threads: of each.
        logs: folder where each writes what it says, into worker-NUMBER.log.
    """
    command = [sys.executable, "-m", "detnet", *arguments]
    gpus = torch.cuda.device_count()
    logs.mkdir(parents=True, exist_ok=True)
    with ExitStack() as ending:
        processes: list[subprocess.Popen[bytes]] = []
        ending.callback(_end, processes)
        for number in numbers:
            own = {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)}
            own[_LEADER] = str(os.getpid())
            if gpus > 1:
                own[_GPUS] = gpu_of_worker(number, gpus)
            with (logs / f"worker-{number}.log").open("ab") as log:
                environment = {**os.environ, **own}
                process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment
                )
            processes.append(process)
        yield processes


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    for process in processes:
        if process.poll() is None:
            process.send_signal(signal.SIGTERM)
    for process in processes:
        process.wait()


@contextmanager
def with_leader(on_event: OnEvent) -> Iterator[None]:
    """Ends a worker whose command was killed, as a signal would: the next start has its own."""
    leader = os.environ.get(_LEADER)
    if leader is None:
        yield
        return
    over = threading.Event()

    def watch() -> None:
        while not over.wait(_LEADER_S):
            if os.getppid() != int(leader):
                on_event(
                    {"event": "note", "text": "the command that started this worker has ended"}
                )
                os.kill(os.getpid(), signal.SIGTERM)
                return

    watching = threading.Thread(target=watch, daemon=True)
    watching.start()
    try:
        yield
    finally:
        over.set()
        watching.join()


@contextmanager
def helped(
    arguments: Sequence[str], workers: int, *, logs: Path, on_event: OnEvent
) -> Iterator[None]:
    """Lets others do the same as this process, each with its share of the processor's threads.

    Args:
        arguments: of `detnet`, the command that one worker is started by.
        workers: processes in all, this one among them.
        logs: folder of what the others say.
    """
    if workers == 1:
        with with_leader(on_event):
            yield
        return
    before = torch.get_num_threads()
    threads = max(1, before // workers)
    others = range(1, workers)
    torch.set_num_threads(threads)
    try:
        with start_workers(arguments, others, threads=threads, logs=logs):
            text = f"{count(len(others), 'further worker')}, {count(threads, 'thread')} each; "
            on_event({"event": "note", "text": f"{text}their logs are in {logs}"})
            yield
    finally:
        torch.set_num_threads(before)


def gpu_of_worker(number: int, gpus: int) -> str:
    """Names a worker's GPU, among those that this process may take, as CUDA_VISIBLE_DEVICES does.

    Args:
        number: of the worker, from 0.
        gpus: how many this process sees.
    """
    named = os.environ.get(_GPUS)
    names = named.split(",") if named else [str(gpu) for gpu in range(gpus)]
    return names[number % gpus].strip()
