"""Searches whose scores are known beforehand, and workers as processes that can be killed."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from typing import Any

import sqlalchemy

from detnet.search.costs.constraints import Constraints, Limits
from detnet.search.methods.method import Evolution, Method
from detnet.search.study.study import Candidate, SearchStudy, open_study, read_candidates
from detnet.search.study.worker import CheckStop, work


class Known(Constraints):
    """Costs by a rule, so that no network is built."""

    def __init__(self, genes: int = 12, limits: Limits | None = None) -> None:
        from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage

        self.space = ShuffleSpace(stem_channels=8, rows=(ShuffleStage("c2", genes, 24),))
        self.limits = limits or Limits()

    def allows(self, path: tuple[int, ...]) -> bool:
        return self.limits.macs is None or sum(path) <= self.limits.macs

    def costs_of(self, path: tuple[int, ...]) -> dict[str, float]:
        return {"macs": float(sum(path)), "params": 7.0}


def method(generations: int = 2, population: int = 6, **options: Any) -> Method:
    return Evolution(
        Known(),
        seed=3,
        population=population,
        generations=generations,
        parents=3,
        mutations=2,
        crossovers=2,
        **options,
    )


def score(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
    """Depends on the path alone, and on every gene of it."""
    return (sum((index + 1) * gene**1.5 for index, gene in enumerate(candidate.path)) / 100,)


def play(
    study: SearchStudy,
    scoring: Callable[[Candidate, CheckStop], Any] = score,
    *,
    generations: int = 2,
    stop: Callable[[], bool] = lambda: False,
    events: list[dict[str, Any]] | None = None,
    **options: Any,
) -> bool:
    """Works in this process."""
    on_event = (lambda event: None) if events is None else events.append
    return work(
        study,
        method(generations),
        scoring,
        constraints=Known(),
        stop=stop,
        on_event=on_event,
        worker="here",
        **options,
    )


def outcome(study: SearchStudy) -> list[tuple[Any, ...]]:
    """All that must not depend on who worked."""
    return [
        (one.generation, one.slot, one.path, one.values, tuple(one.costs.items()))
        for one in read_candidates(study)
    ]


def take_part(
    storage: str, name: str, generations: int, seconds: float, die_at: int | None = None
) -> None:
    """Works as a process of its own, which may kill itself before its `die_at`-th statement."""

    def slow(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        time.sleep(seconds)
        return score(candidate, check_stop)

    left = die_at

    def count(*_: object) -> None:
        nonlocal left
        if left is not None:
            left -= 1
            if left == 0:
                os.kill(os.getpid(), signal.SIGKILL)

    sqlalchemy.event.listen(sqlalchemy.Engine, "before_cursor_execute", count)
    with open_study(storage, heartbeat_s=1, identity={"seed": 3}) as study:
        work(
            study,
            method(generations),
            slow,
            constraints=Known(),
            stop=lambda: False,
            on_event=lambda event: None,
            worker=name,
        )


def start(*arguments: Any) -> BaseProcess:
    """Starts `take_part` with these arguments; from a server that has everything imported."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["tests.search.players"])
    process = context.Process(target=take_part, args=arguments, daemon=True)
    process.start()
    return process


def kill_at_random(storage: str, *, kills: int, generations: int, seed: int) -> int:
    """Has three workers search, killing one after the other, until the search is over.

    Returns:
        how many were killed, and did not end by themselves before.
    """
    rng = random.Random(seed)
    names = iter(range(1000))
    workers = [start(storage, f"w{next(names)}", generations, 0.05) for _ in range(3)]
    killed = 0
    for _ in range(kills):
        time.sleep(rng.uniform(0.0, 0.8))
        victim = workers.pop(0)
        victim.kill()
        victim.join()
        killed += victim.exitcode == -signal.SIGKILL
        workers.append(start(storage, f"w{next(names)}", generations, 0.05))
    for worker in workers:
        worker.join(120)
        assert worker.exitcode == 0
    return killed
