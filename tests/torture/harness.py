"""Carries attacks out by the clock, each in a process that may crash, hang, or eat memory."""

import faulthandler
import multiprocessing
import os
import resource
import shutil
import signal
import sys
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from pathlib import Path

import numpy as np

from tests.torture.command import Found, where
from tests.torture.mutate_bytes import Random
from tests.torture.processes import cpu_s
from tests.torture.record import HUNG, TRACEBACK, Attempt

GIB = 2**30
_fork = multiprocessing.get_context("fork")


@dataclass(frozen=True)
class Attack:
    """One kind of attack.

    Args:
        kind: its name.
        base: writes what is attacked into a folder, once.
        attack: takes a stream of random numbers, that folder, and an empty one to work in.
        share: of the time, against the others'.
        bound_s: an attempt that takes more processor time, or ten times as long, hangs.
        memory: bytes that an attempt may take beyond what the process has; None for no bound.
    """

    kind: str
    base: Callable[[Path], None]
    attack: Callable[[Random, Path, Path], Found]
    share: float = 1.0
    bound_s: float = 30.0
    memory: int | None = 2 * GIB


def stream(seed: int, kind: str, number: int) -> Random:
    """The random numbers of one attempt: the same seed gives the same attack."""
    parts = (seed, zlib.crc32(kind.encode()), number)
    return np.random.default_rng(np.random.SeedSequence(parts))


def carry_out(
    attacks: Sequence[Attack],
    seed: int,
    folder: Path,
    *,
    minutes: float,
    start: int = 0,
    count: int | None = None,
    jobs: int = 1,
) -> Iterator[Attempt]:
    """Carries out all kinds, each for its share of the minutes, and yields what came of it.

    Args:
        start: number of the first attempt of each kind.
        count: how many of each kind, whatever the time.
        jobs: attempts at once, each number by one of as many processes.
    """
    lanes = []
    for lane in range(jobs):
        ours, theirs = _fork.Pipe(duplex=False)
        numbers = range(start + lane, sys.maxsize if count is None else start + count, jobs)
        target = (attacks, seed, folder / str(lane), minutes, numbers, theirs)
        process = _fork.Process(target=_lane, args=target)
        process.start()
        theirs.close()
        lanes.append((process, ours))
    open_lanes = [ours for _, ours in lanes]
    try:
        while open_lanes:
            for ours in wait(open_lanes):
                try:
                    yield ours.recv()  # type: ignore[union-attr]
                except EOFError:
                    open_lanes.remove(ours)  # type: ignore[arg-type]
    finally:
        for process, ours in lanes:
            ours.close()
            process.join(60)
    for process, _ in lanes:
        if process.exitcode:
            raise RuntimeError(f"attacks ended with exit code {process.exitcode}")


def _lane(
    attacks: Sequence[Attack],
    seed: int,
    folder: Path,
    minutes: float,
    numbers: range,
    pipe: Connection,
) -> None:
    """One of several processes: all kinds, one after the other; time left over is passed on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    left, shares = 60 * minutes, sum(attack.share for attack in attacks)
    for attack in attacks:
        began = time.monotonic()
        until = began + left * attack.share / shares
        timed = numbers.stop == sys.maxsize
        for one in attempts(attack, seed, folder, numbers, until if timed else float("inf")):
            try:
                pipe.send(one)
            except OSError:  # nobody listens any more
                return
        left -= time.monotonic() - began
        shares -= attack.share


def attempts(
    attack: Attack, seed: int, folder: Path, numbers: range, until: float
) -> Iterator[Attempt]:
    """Carries out attempts of one kind.

    Args:
        numbers: which.
        until: of time.monotonic, when the last may begin.
    """
    base = folder / attack.kind
    base.mkdir(parents=True, exist_ok=True)
    worker: _Worker | None = None
    try:
        for number in numbers:
            if time.monotonic() > until:
                return
            if worker is None:
                worker = _Worker(attack, seed, base)
            began = time.monotonic()
            found = worker.ask(number)
            seconds = time.monotonic() - began
            if not worker.alive:
                worker.end()
                worker = None
            yield Attempt(
                attack.kind, seed, number, found.verdict, seconds, found.detail, found.times
            )
    finally:
        if worker is not None:
            worker.end()
        shutil.rmtree(base, ignore_errors=True)


class _Worker:
    """A process that carries attempts out, one after the other."""

    def __init__(self, attack: Attack, seed: int, base: Path) -> None:
        self.attack, self.alive, self.base = attack, True, base
        self.ours, theirs = _fork.Pipe()
        self.process = _fork.Process(target=_serve, args=(attack, seed, base, theirs, self.ours))
        self.process.start()
        theirs.close()

    def ask(self, number: int) -> Found:
        """Has one attempt carried out; a hang, a crash or a memory that is full ends the worker.

        The bound is on processor time, so that neighbours make nothing hang; on the clock it is
        ten times as long.
        """
        assert self.process.pid is not None
        used, until = cpu_s(self.process.pid), time.monotonic() + 10 * self.attack.bound_s
        try:
            self.ours.send(number)
            while time.monotonic() < until:
                if self.ours.poll(1.0):
                    return self.ours.recv()
                if cpu_s(self.process.pid) - used > self.attack.bound_s:
                    break
        except (EOFError, OSError):
            self.alive = False
            self.process.join(5)
            words = (self.base / "crash.txt").read_text(errors="replace").split("\n")
            told = " ".join(" ".join(words[:12]).split())[:400]
            return Found(TRACEBACK, f"the process died, exit code {self.process.exitcode}: {told}")
        self.alive = False
        return Found(HUNG, f"no answer within {self.attack.bound_s:.0f} s of processor time")

    def end(self) -> None:
        self.ours.close()
        self.process.join(0.5)
        if self.process.is_alive() and self.process.pid is not None:
            with suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.kill()
        self.process.join()


def _serve(attack: Attack, seed: int, base: Path, pipe: Connection, other: Connection) -> None:
    other.close()
    with suppress(PermissionError):
        os.setpgid(0, 0)
    crash = (base / "crash.txt").open("w")
    os.dup2(crash.fileno(), 1)
    os.dup2(crash.fileno(), 2)
    faulthandler.enable(crash)
    material, scratch = base / "material", base / "scratch"
    if not material.exists():
        material.mkdir()
        attack.base(material)
    if attack.memory is not None:
        resource.setrlimit(resource.RLIMIT_AS, (_in_use() + attack.memory,) * 2)
    scratch.mkdir(exist_ok=True)
    while True:
        try:
            number = pipe.recv()
        except EOFError:
            return
        pipe.send(one(attack, seed, number, material, scratch))


def one(attack: Attack, seed: int, number: int, material: Path, scratch: Path) -> Found:
    """Carries out one attempt here; what escapes is a finding, too."""
    try:
        return attack.attack(stream(seed, attack.kind, number), material, scratch)
    except Exception as error:
        return Found(TRACEBACK, f"escaped: {where(error)}")


def _in_use() -> int:
    """Bytes of address space that this process has now."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmSize:"):
            return int(line.split()[1]) * 1024
    return 8 * GIB
