import numpy as np
import pytest

from detnet.backbones.detnas import SMALL
from detnet.errors import InputError
from detnet.search.costs.limits import Costs, Legality, Limits
from tests.search.spaces import TINY, DepthSpace, everything


@pytest.fixture(scope="module")
def small() -> Costs:
    return Costs(SMALL)


def test_without_limits_everything_is_allowed() -> None:
    legality = everything(TINY)
    assert legality.allows((3, 3, 3))
    assert legality.costs_of((3, 0, 3)) == {
        "macs": legality.costs.macs((3, 0, 3)),
        "params": legality.costs.params((3, 0, 3)),
    }
    assert legality.allows(legality.require_possible())


def test_a_limit_includes_itself() -> None:
    costs = Costs(TINY, image_size=(64, 96))
    for name, count in (("macs", costs.macs), ("params", costs.params)):
        limit = count((1, 2, 0))
        assert Legality(TINY, costs, Limits(**{name: limit})).allows((1, 2, 0))
        assert not Legality(TINY, costs, Limits(**{name: limit - 1})).allows((1, 2, 0))


def test_the_share_of_the_small_space_under_300_m(small: Costs) -> None:
    legality = Legality(SMALL, small, Limits(macs=300e6))
    paths = np.random.default_rng(0).integers(4, size=(2000, 20)).tolist()
    share = np.mean([legality.allows(tuple(path)) for path in paths])
    assert 0.66 < share < 0.72  # 69 % of all


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        (
            Limits(macs=100e6),
            "no network of this space has at most 100 M multiply-adds: the smallest has 237.2 M",
        ),
        (
            Limits(macs=237.22e6),
            "no network of this space has at most 237.22 M multiply-adds: "
            "the smallest has 237.223 M",
        ),
        (Limits(params=1e6), "at most 1 M parameters: the smallest has 1.473 M"),
        (
            Limits(macs=237.3e6, params=1.5e6),
            "at most 237.3 M multiply-adds and at most 1.5 M parameters at once, though each",
        ),
    ],
)
def test_limits_that_cannot_be_met(limits: Limits, message: str, small: Costs) -> None:
    with pytest.raises(InputError) as caught:
        Legality(SMALL, small, limits).require_possible()
    assert message in str(caught.value)


def test_a_limit_that_only_one_network_meets(small: Costs) -> None:
    smallest = small.smallest()
    legality = Legality(SMALL, small, Limits(macs=small.macs(smallest)))
    assert legality.require_possible() == smallest


def test_two_limits_that_meet_narrowly(small: Costs) -> None:
    path = (0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    limits = Limits(macs=small.macs(path), params=small.params(path))
    legality = Legality(SMALL, small, limits)
    assert legality.allows(legality.require_possible())


def test_limits_of_a_space_of_another_kind() -> None:
    space = DepthSpace()
    costs = Costs(space, image_size=(32, 48))
    least, fewest = costs.macs((0, 0, 0)), costs.params((0, 0, 0))
    with pytest.raises(InputError, match="at most .* multiply-adds: the smallest has"):
        Legality(space, costs, Limits(macs=least - 1)).require_possible()
    assert Legality(space, costs, Limits(least, fewest)).require_possible() == (0, 0, 0)


def test_no_network_is_built_beyond_the_first_that_meets_the_limits() -> None:
    space = DepthSpace()
    first = (0,) * len(space.genes)
    costs = Costs(space, image_size=(32, 48))
    legality = Legality(space, costs, Limits(costs.macs(first), costs.params(first)))
    assert legality.require_possible() == first
    assert set(space.built) == {first}


@pytest.mark.parametrize("limit", [0, -3.0, float("nan")])
def test_a_limit_that_is_none(limit: float) -> None:
    with pytest.raises(InputError, match="a limit on params must be above 0, got"):
        Limits(params=limit)


def test_a_limit_on_latency_needs_a_measurement() -> None:
    with pytest.raises(InputError, match="needs a way to measure it"):
        everything(TINY, Limits(latency_ms=3))


def test_latency_is_measured_once_and_last() -> None:
    asked: list[tuple[int, ...]] = []

    def latency(path: tuple[int, ...]) -> float:
        asked.append(path)
        return 1.0 + sum(path)

    costs = Costs(TINY, image_size=(64, 96))
    limits = Limits(macs=costs.macs((1, 2, 2)), latency_ms=5)
    known = {(0, 1, 0): {"macs": 1.0, "latency_ms": 7.0}, (0, 0, 2): {"macs": 1.0}}
    legality = Legality(TINY, costs, limits, latency, known=known)
    assert not legality.allows((2, 2, 2))
    assert asked == []
    assert not legality.allows((1, 2, 2))
    assert not legality.allows((1, 2, 2))
    assert asked == [(1, 2, 2)]
    assert not legality.allows((0, 1, 0))
    assert legality.costs_of((0, 1, 0))["latency_ms"] == 7.0
    assert asked == [(1, 2, 2)]
    assert legality.allows((0, 0, 2))
    assert legality.costs_of((0, 0, 2))["latency_ms"] == 3.0
    assert asked == [(1, 2, 2), (0, 0, 2)]


def test_a_latency_that_cannot_be_met() -> None:
    def latency(path: tuple[int, ...]) -> float:
        return 10.0 - sum(path)  # the smallest network is not the fastest

    with pytest.raises(InputError) as caught:
        everything(TINY, Limits(latency_ms=0.5), latency).require_possible()
    assert str(caught.value) == (
        "no network of this space that takes at most 0.5 ms was found: "
        "the fastest of those within the other limits takes 1 ms here"
    )
    assert everything(TINY, Limits(latency_ms=1), latency).require_possible() == (3, 3, 3)
