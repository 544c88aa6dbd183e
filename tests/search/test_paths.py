"""Paths of training steps: from the seed and the step alone, uniform or by ranges of cost."""

from collections import Counter

import numpy as np
import pytest

from detnet.backbones.spaces.shuffle_space import Row, ShuffleSpace
from detnet.errors import InputError
from detnet.search.paths import MacBins, PathSampler

SPACE = ShuffleSpace(stem_channels=8, rows=(Row("c2", 3, 16), Row("c3", 3, 32)))


def weight(path: tuple[int, ...]) -> float:
    return float(sum(path))


def test_a_step_s_path_follows_from_seed_and_step_alone() -> None:
    sampler = PathSampler(SPACE, seed=3)
    paths = [sampler.path(iteration) for iteration in range(50)]
    assert paths == [PathSampler(SPACE, seed=3).path(iteration) for iteration in range(50)]
    assert paths != [PathSampler(SPACE, seed=4).path(iteration) for iteration in range(50)]
    assert len(set(paths)) > 40


def test_every_choice_is_drawn_as_often() -> None:
    sampler = PathSampler(SPACE, seed=0)
    paths = np.array([sampler.path(iteration) for iteration in range(2000)])
    for gene in paths.T:
        counts = Counter(gene.tolist())
        # 500 expected, deviation 19: five of them.
        assert all(abs(counts[choice] - 500) < 100 for choice in range(4))


def test_ranges_of_cost_are_drawn_as_often() -> None:
    bins = MacBins(low=2, high=14, width=4, macs=weight)  # 2-6, 6-10, 10-14 of 0 to 18
    sampler = PathSampler(SPACE, seed=0, bins=bins)
    costs = [weight(sampler.path(iteration)) for iteration in range(900)]
    assert all(2 <= cost <= 14 for cost in costs)
    # 300 in each range expected, on a border in either of two.
    assert sum(cost <= 6 for cost in costs) > 230  # uniform genes give 70 of 900
    assert sum(6 <= cost <= 10 for cost in costs) > 230
    assert sum(cost >= 10 for cost in costs) > 230


def test_a_range_that_no_draw_meets_gives_the_nearest() -> None:
    bins = MacBins(low=100, high=110, width=10, macs=weight)
    assert weight(PathSampler(SPACE, seed=0, bins=bins).path(0)) >= 15


def test_single_steps_come_first() -> None:
    sampler = PathSampler(SPACE, seed=0, single=3)
    assert {sampler.path(iteration) for iteration in range(3)} == {(0,) * 6}
    assert sampler.path(3) == PathSampler(SPACE, seed=0).path(3)


def test_no_range() -> None:
    with pytest.raises(InputError, match="bins of 20 multiply-adds do not fit between 2 and 14"):
        MacBins(low=2, high=14, width=20, macs=weight)
