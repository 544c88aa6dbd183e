"""Searches whose scores are known beforehand, and workers as processes that can be killed.

    python players.py STORAGE WORKER GENERATIONS SECONDS

takes part in the search, sleeping for SECONDS in each score. Where the environment names a file
in DETNET_TEST_SCORED, each finished score adds a line to it.
"""

import sys
import time
from collections.abc import Callable
from typing import Any

from detnet.search.cost import Legality, Limits
from detnet.search.evolution import Evolution
from detnet.search.methods import Method
from detnet.search.records import Candidate, read_candidates
from detnet.search.study import SearchStudy, open_study
from detnet.search.worker import Report, work


class Known(Legality):
    """Costs by a rule, so that no network is built."""

    def __init__(self, genes: int = 12, limits: Limits | None = None) -> None:
        from detnet.backbones.shuffle_space import Row, ShuffleSpace

        self.space = ShuffleSpace(stem_channels=8, rows=(Row("c2", genes, 24),))
        self.limits = limits or Limits()

    def allows(self, path: tuple[int, ...]) -> bool:
        return self.limits.macs is None or sum(path) <= self.limits.macs

    def costs_of(self, path: tuple[int, ...]) -> dict[str, float]:
        return {"macs": float(sum(path)), "params": 7.0}


def method(generations: int = 3, population: int = 6, **options: Any) -> Method:
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


def score(candidate: Candidate, report: Report) -> tuple[float, ...]:
    """Depends on the path alone, and on every gene of it."""
    return (sum((index + 1) * gene**1.5 for index, gene in enumerate(candidate.path)) / 100,)


def play(
    study: SearchStudy,
    scoring: Callable[[Candidate, Report], Any] = score,
    *,
    generations: int = 3,
    stop: Callable[[], bool] = lambda: False,
    events: list[dict[str, Any]] | None = None,
    **options: Any,
) -> bool:
    """Works in this process."""
    watch = (lambda event: None) if events is None else events.append
    return work(
        study,
        method(generations),
        scoring,
        legality=Known(),
        stop=stop,
        watch=watch,
        worker="here",
        **options,
    )


def outcome(study: SearchStudy) -> list[tuple[Any, ...]]:
    """All that must not depend on who worked."""
    return [
        (one.generation, one.slot, one.path, one.values, tuple(one.costs.items()))
        for one in read_candidates(study)
    ]


if __name__ == "__main__":
    storage, name, generations, seconds = sys.argv[1:]

    def slow(candidate: Candidate, report: Report) -> tuple[float, ...]:
        time.sleep(float(seconds))
        return score(candidate, report)

    with open_study(storage, heartbeat_s=1, identity={"seed": 3}) as study:
        work(
            study,
            method(int(generations)),
            slow,
            legality=Known(),
            stop=lambda: False,
            watch=lambda event: None,
            worker=name,
        )
