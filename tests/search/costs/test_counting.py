"""Costs of paths equal those of the built networks."""

import itertools
import time

import numpy as np
import pytest
import torch

from detnet.backbones.base import Classifier
from detnet.backbones.cost import count_macs, count_params
from detnet.backbones.detnas import (
    DETNASNET_1_3G,
    DETNASNET_300M,
    DETNASNET_300M_RETINANET,
    DETNASNET_VOC_300M,
    DETNASNET_VOC_300M_RETINANET,
    LARGE,
    SMALL,
)
from detnet.backbones.spaces.space import Space
from detnet.errors import InputError
from detnet.search.costs.constraints import Costs
from detnet.search.costs.counting import descend, within_both
from tests.search.spaces import TINY, DepthSpace

PUBLISHED = {  # multiply-adds of the body in millions, parameters
    DETNASNET_300M: ("288.1", "1.85"),
    DETNASNET_300M_RETINANET: ("291.2", "2.04"),
    DETNASNET_VOC_300M: ("316.4", "1.97"),
    DETNASNET_VOC_300M_RETINANET: ("327.5", "1.80"),
    (0,) * 20: ("262.7", None),
    (1,) * 20: ("280.5", None),
    (2,) * 20: ("307.2", None),
    (3,) * 20: ("325.7", None),
    DETNASNET_1_3G: ("1269.2", "8.42"),
    (0,) * 40: ("1036.7", None),
    (3,) * 40: ("1391.2", None),
}


def built(
    space: Space, path: tuple[int, ...], width: float = 1.0, size: tuple[int, int] = (224, 224)
) -> tuple[int, int]:
    with torch.device("meta"):
        network = space.network(path, width=width).eval()
        images = torch.empty(1, 3, *size)
    return count_macs(lambda: network(images)), count_params(network)


def built_total(costs: Costs, path: tuple[int, ...]) -> int:
    with torch.device("meta"):
        classifier = Classifier(costs.space.network(path, width=costs.width), 1000).eval()
        images = torch.empty(1, 3, *costs.image_size)
    return count_macs(lambda: classifier(images))


def counted(costs: Costs, path: tuple[int, ...]) -> tuple[int, int]:
    return costs.macs(path), costs.params(path)


@pytest.fixture(scope="module")
def small() -> Costs:
    return Costs(SMALL)


@pytest.fixture(scope="module")
def large() -> Costs:
    return Costs(LARGE)


@pytest.mark.parametrize("path", PUBLISHED, ids=lambda path: "".join(map(str, path)))
def test_published_networks(path: tuple[int, ...], small: Costs, large: Costs) -> None:
    costs = small if len(path) == 20 else large
    assert counted(costs, path) == built(costs.space, path)
    macs, params = PUBLISHED[path]
    assert f"{costs.macs(path) / 1e6:.1f}" == macs
    if params:
        assert f"{costs.params(path) / 1e6:.2f}" == params


@pytest.mark.parametrize("count", [4, pytest.param(30, marks=pytest.mark.slow)])
def test_random_networks(count: int, small: Costs) -> None:
    rng = np.random.default_rng(0)
    for path in rng.integers(4, size=(count, 20)).tolist():
        assert counted(small, tuple(path)) == built(SMALL, tuple(path))


@pytest.mark.parametrize(("width", "size"), [(0.25, (97, 161)), (1.3, (32, 64))])
def test_other_widths_and_images(width: float, size: tuple[int, int]) -> None:
    costs = Costs(SMALL, width=width, image_size=size)
    rng = np.random.default_rng(1)
    path = rng.integers(4, size=20).tolist()
    assert counted(costs, tuple(path)) == built(SMALL, tuple(path), width, size)
    assert costs.total_macs(path) == built_total(costs, tuple(path))


def test_the_classifier_adds_what_the_release_counts(small: Costs) -> None:
    path = DETNASNET_300M
    assert small.total_macs(path) == built_total(small, path)
    assert small.total_macs(path) - small.macs(path) == 33_136_640
    assert small.total_macs(path, num_classes=10) == small.total_macs(path) - 990 * 1024


def test_smallest_and_largest_of_a_listed_space() -> None:
    costs = Costs(TINY)
    paths = [(a, b, c) for a in range(4) for b in range(4) for c in range(4)]
    for name, count in (("macs", costs.macs), ("params", costs.params)):
        values = [count(path) for path in paths]
        assert count(costs.smallest(name)) == min(values)
        assert count(costs.largest(name)) == max(values)


def test_extremes_of_the_small_space(small: Costs) -> None:
    smallest, largest = small.smallest(), small.largest()
    # Xception's opening blocks have their stride before everything else.
    assert SMALL.format_path(smallest) == "3000 3000 30000000 3000"
    assert small.macs(smallest) == 237_222_720
    assert built(SMALL, smallest)[0] == 237_222_720
    rng = np.random.default_rng(2)
    drawn = [small.macs(path) for path in rng.integers(4, size=(500, 20)).tolist()]
    assert small.macs(smallest) < min(drawn) <= max(drawn) < small.macs(largest)


def test_a_path_costs_little_time(small: Costs) -> None:
    paths = np.random.default_rng(3).integers(4, size=(500, 20)).tolist()
    began = time.process_time()
    for path in paths:
        small.macs(path)
    assert (time.process_time() - began) / len(paths) < 0.0002


def test_a_space_of_another_kind_is_built_once_a_network() -> None:
    space = DepthSpace()
    costs = Costs(space, image_size=(32, 48))
    assert costs.macs((0, 1, 1)) == costs.macs((0, 0, 0)) == costs.macs((0, 1, 0))
    assert space.built.count((0, 0, 0)) == 2  # one of them to see the strides
    assert costs.total_macs((2, 1, 1)) == built_total(costs, (2, 1, 1))
    for path in ((0, 0, 0), (1, 1, 0), (2, 1, 1)):
        assert counted(costs, path) == built(space, path, size=(32, 48))
    assert costs.smallest() == (0, 0, 0)
    assert costs.largest() == costs.largest("params") == (2, 1, 1)


def test_an_image_smaller_than_the_coarsest_stride() -> None:
    with pytest.raises(InputError, match="at 31×64: the space's coarsest stride is 32"):
        Costs(SMALL, image_size=(31, 64))


def test_descent_stops_where_no_single_gene_helps() -> None:
    found = descend(TINY, lambda path: abs(path[0] - 2) + abs(path[1] - path[2]), [(0, 1, 3)])
    assert found in {(2, i, i) for i in range(4)}
    # Two genes would have to change at once; from another start it succeeds.
    valley = {(0, 0, 0): 1.0, (3, 3, 0): 0.0}
    assert descend(TINY, lambda path: valley.get(path, 9.0), [(0, 0, 0)]) == (0, 0, 0)
    starts = [(0, 0, 0), (3, 0, 0)]
    assert descend(TINY, lambda path: valley.get(path, 9.0), starts) == (0, 0, 0)
    assert descend(TINY, lambda path: valley.get(path, 9.0), [(0, 0, 0), (3, 1, 0)]) == (3, 3, 0)


def test_enough_ends_a_descent() -> None:
    tried: list[tuple[int, ...]] = []

    def value(path: tuple[int, ...]) -> float:
        tried.append(path)
        return sum(path)

    assert sum(descend(TINY, value, [(3, 3, 3)], enough=6)) == 6
    assert len(tried) == 2
    assert descend(TINY, value, [(1, 1, 1), (0, 0, 0)], enough=3) == (1, 1, 1)
    assert (0, 0, 0) not in tried


def test_both_bounds_against_a_list_of_all() -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        rows = [[tuple(pair) for pair in row] for row in rng.integers(0, 30, (4, 3, 2)).tolist()]
        bounds = tuple(rng.integers(20, 60, 2).tolist())
        sums = [
            tuple(sum(row[i][c] for row, i in zip(rows, path, strict=True)) for c in (0, 1))
            for path in itertools.product(range(3), repeat=4)
        ]
        possible = any(a <= bounds[0] and b <= bounds[1] for a, b in sums)
        found = within_both(rows, bounds)
        outcomes.add(bool(found))
        assert bool(found) == possible
        if found:
            both = [sum(row[i][c] for row, i in zip(rows, found, strict=True)) for c in (0, 1)]
            assert both[0] <= bounds[0] and both[1] <= bounds[1]
    assert outcomes == {True, False}
