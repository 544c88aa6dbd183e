import time

import numpy as np
import pytest
import torch
from torch import nn

from detnet.backbones.detnas import SMALL
from detnet.errors import InputError
from detnet.search.costs.constraints import Constraints, Costs, Limits, latency_ms, path_latency
from tests.search.spaces import TINY, DepthSpace, everything


@pytest.fixture(scope="module")
def small() -> Costs:
    return Costs(SMALL)


def test_without_limits_everything_is_allowed() -> None:
    constraints = everything(TINY)
    assert constraints.allows((3, 3, 3))
    assert constraints.costs_of((3, 0, 3)) == {
        "macs": constraints.costs.macs((3, 0, 3)),
        "params": constraints.costs.params((3, 0, 3)),
    }
    assert constraints.allows(constraints.require_possible())


def test_a_limit_includes_itself() -> None:
    costs = Costs(TINY, image_size=(64, 96))
    for name, count in (("macs", costs.macs), ("params", costs.params)):
        limit = count((1, 2, 0))
        assert Constraints(TINY, costs, Limits(**{name: limit})).allows((1, 2, 0))
        assert not Constraints(TINY, costs, Limits(**{name: limit - 1})).allows((1, 2, 0))


def test_the_share_of_the_small_space_under_300_m(small: Costs) -> None:
    constraints = Constraints(SMALL, small, Limits(macs=300e6))
    paths = np.random.default_rng(0).integers(4, size=(2000, 20)).tolist()
    share = np.mean([constraints.allows(tuple(path)) for path in paths])
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
        Constraints(SMALL, small, limits).require_possible()
    assert message in str(caught.value)


def test_a_limit_that_only_one_network_meets(small: Costs) -> None:
    smallest = small.smallest()
    constraints = Constraints(SMALL, small, Limits(macs=small.macs(smallest)))
    assert constraints.require_possible() == smallest


def test_two_limits_that_meet_narrowly(small: Costs) -> None:
    path = (0, 0, 0, 0, 3, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)
    limits = Limits(macs=small.macs(path), params=small.params(path))
    constraints = Constraints(SMALL, small, limits)
    assert constraints.allows(constraints.require_possible())


def test_limits_of_a_space_of_another_kind() -> None:
    space = DepthSpace()
    costs = Costs(space, image_size=(32, 48))
    least, fewest = costs.macs((0, 0, 0)), costs.params((0, 0, 0))
    with pytest.raises(InputError, match="at most .* multiply-adds: the smallest has"):
        Constraints(space, costs, Limits(macs=least - 1)).require_possible()
    assert Constraints(space, costs, Limits(least, fewest)).require_possible() == (0, 0, 0)


def test_no_network_is_built_beyond_the_first_that_meets_the_limits() -> None:
    space = DepthSpace()
    first = (0,) * len(space.genes)
    costs = Costs(space, image_size=(32, 48))
    constraints = Constraints(space, costs, Limits(costs.macs(first), costs.params(first)))
    assert constraints.require_possible() == first
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
    constraints = Constraints(TINY, costs, limits, latency, known=known)
    assert not constraints.allows((2, 2, 2))
    assert asked == []
    assert not constraints.allows((1, 2, 2))
    assert not constraints.allows((1, 2, 2))
    assert asked == [(1, 2, 2)]
    assert not constraints.allows((0, 1, 0))
    assert constraints.costs_of((0, 1, 0))["latency_ms"] == 7.0
    assert asked == [(1, 2, 2)]
    assert constraints.allows((0, 0, 2))
    assert constraints.costs_of((0, 0, 2))["latency_ms"] == 3.0
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


class Recorder(nn.Module):
    """Notes what it is run with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.runs: list[tuple[object, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        layout = images.is_contiguous(memory_format=torch.channels_last)
        made = self.conv(images)
        shape = tuple(images.shape)
        self.runs.append((shape, layout, made.dtype, self.training, torch.get_num_threads()))
        return made


def test_how_a_network_is_run() -> None:
    network, threads = Recorder().train(), torch.get_num_threads()
    assert latency_ms(network, image_size=(40, 56), repeats=5, threads=1, bf16=True) > 0
    assert len(network.runs) == 3 + 5
    assert set(network.runs) == {((1, 3, 40, 56), True, torch.bfloat16, False, 1)}
    assert network.training
    assert torch.get_num_threads() == threads
    network.runs.clear()
    latency_ms(network, repeats=1, channels_last=False)
    assert set(network.runs) == {((1, 3, 224, 224), False, torch.float32, False, threads)}


class Hesitant(nn.Module):
    """Its first three passes take long, as where memory and kernels are chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, images: torch.Tensor) -> None:
        self.passes += 1
        time.sleep(0.3 if self.passes <= 3 else 0.005)


def test_the_first_passes_are_not_counted_and_the_unit_is_the_millisecond() -> None:
    assert 4.5 < latency_ms(Hesitant(), image_size=(8, 12), repeats=2) < 150


def test_more_work_takes_longer() -> None:
    measure = path_latency(TINY, image_size=(64, 96), repeats=5, threads=1)
    larger = path_latency(TINY, width=4, image_size=(320, 480), repeats=5, threads=1)
    assert measure((0, 0, 0)) < larger((0, 0, 0))


def test_the_global_generator_stays_where_it_is() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    path_latency(TINY, image_size=(64, 96), repeats=1, bf16=True)((3, 2, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_other_device_s_generator_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    path_latency(TINY, image_size=(64, 96), repeats=1)((0, 0, 0))
    assert not seeded
