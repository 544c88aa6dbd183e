"""Kills trainings and searches at random moments; resumed, they must reach the same bits."""

import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.torture.command import Found, short
from tests.torture.mutate_bytes import Random
from tests.torture.processes import Child, cpu_s, limit_files, run, start
from tests.torture.record import ACCEPTED, HUNG, TRACEBACK, WRONG
from tests.torture.trainings import Job, difference, fingerprint, write_material

BOUND_S = 240.0  # for one life of a tiny run


@dataclass
class Reference:
    """A run that nothing disturbed."""

    job: Job
    prints: dict[str, Any]
    cpu_s: float
    checkpoint: int  # bytes


_references: dict[tuple[Path, str], Reference] = {}


def base(folder: Path) -> None:
    write_material(folder)


def reference(folder: Path, name: str) -> Reference:
    """The undisturbed run of a job; carried out when it is first asked for."""
    if (folder, name) not in _references:
        job, place = write_material(folder)[name], folder / f"undisturbed-{name}"
        shutil.rmtree(place, ignore_errors=True)
        child = start((*job.begin, "--output", str(place)), folder / "undisturbed.txt")
        used = 0.0
        while child.poll() is None:
            used = max(used, cpu_s(child.pid))
            time.sleep(0.01)
        if child.code != 0:
            raise RuntimeError(f"{name} does not work undisturbed: {short(child.said())}")
        sizes = [path.stat().st_size for path in place.rglob("last.ckpt")]
        prints = fingerprint(job, place)
        _references[folder, name] = Reference(job, prints, used, max(sizes))
        shutil.rmtree(place)
    return _references[folder, name]


def attack(*names: str, kills: tuple[int, int]) -> Callable[[Random, Path, Path], Found]:
    """Makes the attack on one of some jobs, killed several times on its way.

    Args:
        names: of jobs, of which one is drawn.
        kills: fewest and most in one attempt.
    """

    def kill_and_resume(random: Random, base: Path, scratch: Path) -> Found:
        name = names[int(random.integers(len(names)))]
        undisturbed = reference(base, name)
        job, run_folder = undisturbed.job, scratch / "run"
        shutil.rmtree(run_folder, ignore_errors=True)  # of an attempt that did not get so far
        times, told = 0, []
        for _ in range(int(random.integers(kills[0], kills[1] + 1))):
            moment, nth, share = random.random(), int(random.integers(1, 4)), random.random()
            in_write = random.random() < 0.35
            child = start(
                _words(job, run_folder),
                scratch / "said.txt",
                _trap(in_write, nth, share, undisturbed),
            )
            after_s = None if in_write else moment * undisturbed.cpu_s
            killed = _watch(child, after_s)
            child.sweep()
            if killed is None:
                return _done(Found(HUNG, f"{name}: no end within {BOUND_S:.0f} s"), scratch)
            if not killed:
                if child.code != 0:
                    return _done(
                        Found(TRACEBACK, f"{name} after {told}: {short(child.said())}"), scratch
                    )
                break
            times += 1
            told.append(f"in write {nth} at {share:.2f}" if in_write else f"at {moment:.2f}")
        try:
            code, said = run(_words(job, run_folder), scratch / "said.txt", BOUND_S)
        except TimeoutError as error:
            return _done(Found(HUNG, f"{name} killed {told}: {error}"), scratch)
        if code:
            found = Found(TRACEBACK, f"{name} killed {told}, resumed: code {code}: {short(said)}")
            return _done(found, scratch)
        wrong = difference(job, run_folder, undisturbed.prints)
        found = (
            Found(WRONG, f"{name} killed {told}: {wrong}") if wrong else Found(ACCEPTED, "", times)
        )
        return _done(found, scratch)

    return kill_and_resume


def _words(job: Job, folder: Path) -> tuple[str, ...]:
    """The command that begins the run, or goes on with it."""
    if (folder / "config.yaml").exists():
        return (*job.resume, str(folder))
    return (*job.begin, "--output", str(folder))


def _trap(in_write: bool, nth: int, share: float, of: Reference) -> Callable[[], None] | None:
    """Ends the process inside the writing of its nth checkpoint, at a byte of it."""
    if not in_write:
        return None

    def prepare() -> None:
        from detnet.engine import checkpoint

        save, calls = checkpoint.save, [0]

        def counted(path: Any, state: Any) -> None:
            calls[0] += 1
            if calls[0] == nth:
                limit_files(int(share * of.checkpoint), deadly=True)
            save(path, state)

        checkpoint.save = counted  # type: ignore[assignment]

    return prepare


def _watch(child: Child, after_s: float | None) -> bool | None:
    """Kills the child once it has used so much processor time.

    Returns:
        whether it died by a kill; None where it never ended.
    """
    until = time.monotonic() + BOUND_S
    while child.poll() is None:
        if time.monotonic() > until:
            child.kill()
            return None
        if after_s is not None and cpu_s(child.pid) >= after_s:
            child.kill()
            return True
        time.sleep(0.003)
    assert child.code is not None
    return child.code < 0


def _done(found: Found, scratch: Path) -> Found:
    shutil.rmtree(scratch / "run", ignore_errors=True)
    return found
