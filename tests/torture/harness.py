"""Carries attacks out by the clock, each in a process that may crash, hang, or eat memory."""

import faulthandler
import multiprocessing
import os
import resource
import signal
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

import numpy as np

from tests.torture.command import Found, where
from tests.torture.mutate_bytes import Random
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
        bound_s: an attempt that takes longer hangs.
        memory: bytes that an attempt may take beyond what the process has; None for no bound.
        goal: how many attempts are enough; the time that is left goes to other kinds.
    """

    kind: str
    base: Callable[[Path], None]
    attack: Callable[[Random, Path, Path], Found]
    share: float = 1.0
    bound_s: float = 30.0
    memory: int | None = 2 * GIB
    goal: int | None = None


def stream(seed: int, kind: str, number: int) -> Random:
    """The random numbers of one attempt: the same seed gives the same attack."""
    parts = (seed, zlib.crc32(kind.encode()), number)
    return np.random.default_rng(np.random.SeedSequence(parts))


def attempts(
    attack: Attack, seed: int, folder: Path, *, start: int, stop: int | None, until: float
) -> Iterator[Attempt]:
    """Carries out the attempts of one kind, from number `start` on.

    Args:
        stop: the number before which to stop; None for none.
        until: of time.monotonic, when the last attempt may begin.
    """
    base = folder / attack.kind.replace(" ", "-")
    base.mkdir(parents=True, exist_ok=True)
    number = start
    worker: _Worker | None = None
    try:
        while (stop is None or number < stop) and time.monotonic() < until:
            if worker is None:
                worker = _Worker(attack, seed, base)
            began = time.monotonic()
            found = worker.ask(number)
            seconds = time.monotonic() - began
            times = found.times
            yield Attempt(attack.kind, seed, number, found.verdict, seconds, found.detail, times)
            if not worker.alive:
                worker.end()
                worker = None
            number += 1
    finally:
        if worker is not None:
            worker.end()


class _Worker:
    """A process that carries attempts out, one after the other."""

    def __init__(self, attack: Attack, seed: int, base: Path) -> None:
        self.attack, self.alive, self.base = attack, True, base
        self.ours, theirs = _fork.Pipe()
        self.process = _fork.Process(target=_serve, args=(attack, seed, base, theirs, self.ours))
        self.process.start()
        theirs.close()

    def ask(self, number: int) -> Found:
        """Has one attempt carried out; a hang, a crash or a memory that is full ends the worker."""
        try:
            self.ours.send(number)
            if self.ours.poll(self.attack.bound_s):
                return self.ours.recv()
        except (EOFError, OSError):
            self.alive = False
            self.process.join(5)
            words = (self.base / "crash.txt").read_text(errors="replace").split("\n")
            told = " ".join(" ".join(words[:12]).split())[:400]
            return Found(TRACEBACK, f"the process died, exit code {self.process.exitcode}: {told}")
        self.alive = False
        return Found(HUNG, f"no answer within {self.attack.bound_s:.0f} s")

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


def shares(attacks: Sequence[Attack], minutes: float) -> dict[str, float]:
    """Seconds for each kind."""
    total = sum(attack.share for attack in attacks)
    return {attack.kind: 60 * minutes * attack.share / total for attack in attacks}
