from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest

from detnet.backbones.detnas import SMALL
from detnet.errors import InputError
from detnet.search.costs.constraints import Constraints, Costs, Limits
from detnet.search.methods.method import CandidateSampler, RandomSearch, Scored
from detnet.search.methods.nsga2 import Nsga2, crowding, front, ranks
from tests.search.landscape import additive, run
from tests.search.spaces import TINY, everything

# Smaller is better. Fronts by hand: (1, 5), (2, 3), (4, 1); (2, 5), (3, 3), (4, 2); (5, 5).
POINTS = np.array([[2, 5], [1, 5], [5, 5], [2, 3], [4, 2], [4, 1], [3, 3]], dtype=float)


def test_fronts_by_hand() -> None:
    assert ranks(POINTS).tolist() == [1, 0, 2, 0, 1, 0, 1]
    assert ranks(np.zeros((3, 2))).tolist() == [0, 0, 0]  # equal points do not beat one another
    assert ranks(np.zeros((0, 2))).tolist() == []


def test_crowding_by_hand() -> None:
    found = crowding(np.array([[1, 10], [9, 2], [2, 6], [4, 4]], dtype=float))
    # Ranges 8 and 8; the third lies between 1 and 4, 10 and 4, the fourth between 2 and 9, 6 and 2.
    assert found.tolist() == [np.inf, np.inf, 3 / 8 + 6 / 8, 7 / 8 + 4 / 8]
    assert crowding(np.array([[3.0, 3.0]])).tolist() == [np.inf]
    assert crowding(np.full((3, 2), 3.0)).tolist() == [np.inf, 0, np.inf]


def test_ranks_against_their_definition() -> None:
    rng = np.random.default_rng(0)
    for columns in (2, 3):
        points = rng.integers(0, 6, (40, columns)).astype(float)
        found = ranks(points)
        for point, rank in zip(points, found, strict=True):
            better = [
                other_rank
                for other, other_rank in zip(points, found, strict=True)
                if (other <= point).all() and (other < point).any()
            ]
            assert rank == (max(better) + 1 if better else 0)


def scored(points: list[tuple[float, float]]) -> list[Scored]:
    return [Scored((i,), (score,), {"macs": macs}) for i, (score, macs) in enumerate(points)]


def test_the_front_of_candidates() -> None:
    history = scored([(0.3, 20), (0.2, 10), (0.25, 30), (0.3, 20), (0.1, 5)])
    history.insert(1, Scored((9,), None))
    history.insert(3, Scored((8,), (float("nan"),), {"macs": 1}))
    assert front(history, ["macs"]) == [0, 2, 5, 6]
    assert front(history, ["score", "macs"]) == [0, 2, 5, 6]
    assert front([], ["macs"]) == []
    with pytest.raises(InputError, match="candidate 0 has no recorded params"):
        front(history, ["params"])


def test_survivors_by_front_and_crowding() -> None:
    # One front: crowding keeps the ends, then the lonely (0.5, 50) before (0.11, 11).
    history = scored([(0.1, 10), (0.11, 11), (0.12, 12), (0.5, 50), (0.9, 90), (0.1, 95)])
    method = Nsga2(everything(TINY), population=4, mutations=2, crossovers=2)
    assert method.survivors(history) == [(0,), (4,), (3,), (2,)]
    all_of_them = Nsga2(everything(TINY), population=10, mutations=2, crossovers=2)
    assert all_of_them.survivors(history)[-1] == (5,)


class Asked(CandidateSampler):
    """Draws nothing and asks for two thousand parents."""

    def mutate(self, pick: Callable[[], tuple[int, ...]], count: int, rate: float) -> None:
        self.parents = Counter(pick() for _ in range(2000))

    def cross(self, pick: Callable[[], tuple[int, ...]], count: int) -> None:
        self.both = Counter(pick() for _ in range(2000))


def test_the_better_of_two_random_survivors_is_a_parent() -> None:
    """Of four survivors the first wins 7 tournaments of 16, the last one."""
    history = scored([(0.1, 10), (0.9, 10), (0.5, 10), (0.7, 10)])
    constraints = everything(TINY)
    method = Nsga2(constraints, population=4, mutations=2, crossovers=2)
    sampler = Asked(constraints, np.random.default_rng(0), ())
    method.choose(sampler, history)
    for found in (sampler.parents, sampler.both):
        shares = [found[path,] / 2000 for path in (1, 3, 2, 0)]
        assert shares == pytest.approx([7 / 16, 5 / 16, 3 / 16, 1 / 16], abs=0.04)


def test_its_front_is_better_than_random_searchs() -> None:
    constraints = Constraints(SMALL, Costs(SMALL), Limits(macs=330e6))
    shares = []
    for seed in range(3):
        score = additive(SMALL, seed)
        sizes = {"seed": seed, "population": 40, "generations": 12}
        guided = run(Nsga2(constraints, ["macs"], mutations=16, crossovers=16, **sizes), score)
        blind = run(RandomSearch(constraints, **sizes), score)
        assert len(guided) == len(blind) == 480
        both = guided + blind
        won = [index < 480 for index in front(both, ["macs"])]
        shares.append(np.mean(won))
        assert len(won) > 5
    assert min(shares) > 0.8


def test_latency_is_an_objective() -> None:
    constraints = everything(TINY, latency=lambda path: 1.0 + path[0])
    method = Nsga2(
        constraints, ["latency_ms"], population=8, generations=6, mutations=3, crossovers=3
    )
    history = run(method, lambda path: float(path[0] == 2) + path[1] / 10)
    best = {history[index].path[:2] for index in front(history, ["latency_ms"])}
    assert best == {(0, 3), (2, 3)}
