"""Random networks are a sequence of the seed; the largest network is the largest."""

from itertools import product

import numpy as np
import pytest

from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import read_space
from detnet.errors import InputError
from detnet.search.costs.counting import Costs
from detnet.search.standalone.samples import draw_paths, largest_within

TINY = ShuffleSpace(
    8, (ShuffleStage("c2", 2, 16), ShuffleStage("c3", 2, 32), ShuffleStage("c4", 1, 48))
)


def anything(path: tuple[int, ...]) -> bool:
    return True


def test_draws_are_different_allowed_and_begin_alike() -> None:
    space = read_space("detnas_small")
    macs = Costs(space).macs

    def allows(path: tuple[int, ...]) -> bool:
        return macs(path) <= 300e6

    paths = draw_paths(space, allows, 40, seed=5, purpose=1)
    assert len(set(paths)) == 40 and all(map(allows, paths))
    assert draw_paths(space, allows, 12, seed=5, purpose=1) == paths[:12]
    assert draw_paths(space, allows, 12, seed=6, purpose=1) != paths[:12]
    assert draw_paths(space, allows, 12, seed=5, purpose=2) != paths[:12]


def test_draws_are_uniform() -> None:
    paths = draw_paths(read_space("detnas_small"), anything, 1000, seed=0, purpose=1)
    shares = np.stack([(np.array(paths) == choice).mean(0) for choice in range(4)])
    assert abs(shares - 0.25).max() < 0.06


def test_too_few_are_said() -> None:
    with pytest.raises(InputError, match="hold only 2 different"):
        draw_paths(TINY, lambda path: path[1:] == (0,) * 4 and path[0] < 2, 3, seed=0, purpose=1)


@pytest.mark.parametrize("share", [0.0, 0.2, 0.5, 0.77, 1.0])
def test_the_largest_is_exact_in_a_shuffle_space(share: float) -> None:
    macs = Costs(TINY).macs
    every = sorted(macs(path) for path in product(range(4), repeat=5))
    limit = every[0] + share * (every[-1] - every[0])
    path, exact = largest_within(TINY, macs, limit, anything)
    assert exact and macs(path) == max(value for value in every if value <= limit)


def test_the_largest_under_a_limit_between_two_counts() -> None:
    path, _ = largest_within(TINY, lambda path: 100 - sum(path), 99.5, anything)
    assert sum(path) == 1  # the path of zeros, a half above the limit, is over it


def test_the_largest_of_detnas() -> None:
    macs = Costs(read_space("detnas_small")).macs
    path, exact = largest_within(read_space("detnas_small"), macs, 300e6, anything)
    assert exact and 299_990_000 < macs(path) <= 300_000_000


def test_other_limits_are_kept() -> None:
    costs = Costs(TINY)
    every = [path for path in product(range(4), repeat=5)]
    params = sorted(costs.params(path) for path in every)[200]
    limit = max(map(costs.macs, every)) * 0.8

    def allows(path: tuple[int, ...]) -> bool:
        return costs.params(path) <= params

    path, exact = largest_within(TINY, costs.macs, limit, allows)
    best = max(costs.macs(path) for path in every if allows(path) and costs.macs(path) <= limit)
    assert allows(path) and 0.98 * best <= costs.macs(path) <= limit
    assert not exact


def test_nothing_allowed() -> None:
    macs = Costs(TINY).macs
    with pytest.raises(InputError, match="only 0 different"):
        largest_within(TINY, macs, 1.0, anything)
