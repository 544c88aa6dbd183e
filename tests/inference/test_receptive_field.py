"""The effective receptive field on networks whose field is known."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.errors import InputError
from detnet.inference.receptive_field import places, receptive_energy, side_holding


def random_inputs(height: int, width: int) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1)) - 0.5


def energy_of(network: nn.Module, stride: int, **options: object) -> np.ndarray:
    torch.manual_seed(0)
    inputs = random_inputs(48, 64).requires_grad_()
    return receptive_energy(network(inputs), inputs, centre=(24, 32), stride=stride, **options)  # type: ignore[arg-type]


def test_a_3x3_convolution_sees_3_pixels() -> None:
    energy = energy_of(nn.Conv2d(3, 5, 3, padding=1), 1)
    assert energy.shape == (48, 64) and energy.sum() == pytest.approx(1)
    assert side_holding(energy, (24, 32), 1.0) == 3
    assert (energy[23:26, 31:34] > 0).all() and np.count_nonzero(energy) == 9


def test_strides_and_dilation_widen_the_field_as_theory_says() -> None:
    network = nn.Sequential(
        nn.Conv2d(3, 4, 3, stride=2, padding=1), nn.Conv2d(4, 6, 3, padding=2, dilation=2)
    )
    energy = energy_of(network, 2)
    assert side_holding(energy, (24, 32), 1.0) == 3 + 2 * 2 * 2
    # From other places, moved back, the field must not grow.
    offsets = [(dy, dx) for dy in (0, -4, 4) for dx in (0, -8, 8)]
    moved = energy_of(network, 2, offsets=offsets)
    assert side_holding(moved, (24, 32), 1.0) == 11


def test_draws_from_other_places_are_moved_back_onto_the_centre() -> None:
    network = nn.Conv2d(3, 1, 3, padding=1)  # one channel: a sign is no matter, draws are all equal
    still = energy_of(network, 1)
    for offset in [(-7, 5), (4, -9), (0, 3), (-2, 0)]:
        torch.testing.assert_close(energy_of(network, 1, offsets=[offset], draws=1), still)


def test_the_estimate_is_the_sum_over_channels_of_squared_gradients() -> None:
    network = nn.Conv2d(3, 4, 3, padding=1)
    inputs = random_inputs(9, 11).requires_grad_()
    feature = network(inputs)
    exact = np.zeros((9, 11))
    for channel in range(4):
        (gradient,) = torch.autograd.grad(feature[0, channel, 4, 5], inputs, retain_graph=True)
        exact += gradient[0].double().square().sum(0).numpy()
    energy = receptive_energy(feature, inputs, centre=(4, 5), stride=1, draws=2000)
    np.testing.assert_allclose(energy, exact / exact.sum(), atol=0.01)


@pytest.mark.parametrize("name", ["detnet59", "resnet50", "detnet59_noproj"])
@pytest.mark.parametrize("stride_in", ["1x1", "3x3"])
def test_no_gradient_comes_from_outside_the_theoretical_field(name: str, stride_in: str) -> None:
    torch.manual_seed(0)
    backbone = BACKBONES[name](width=0.125, stride_in=stride_in).eval()
    size = (192, 224)
    inputs = random_inputs(*size).requires_grad_()
    centre, offsets = places(size, 32)
    checked = []
    for info, feature in zip(backbone.feature_info, backbone(inputs).values(), strict=True):
        energy = receptive_energy(
            feature, inputs, centre=centre, stride=info.stride, offsets=offsets, draws=9
        )
        side = side_holding(energy, centre, 1.0)
        assert side is not None and side <= info.receptive_field
        reach = info.receptive_field // 2
        rows, columns = np.indices(size)
        outside = (abs(rows - centre[0]) > reach) | (abs(columns - centre[1]) > reach)
        assert not energy[outside].any()
        if outside.any():
            checked.append(info.name)
            assert side > info.receptive_field / 2, "the field is not that much too large"
    assert checked[:2] == ["c2", "c3"]


@pytest.mark.parametrize("size", [(192, 224), (100, 75), (33, 95), (32, 32), (64, 500)])
def test_places_are_inside_and_next_to_the_centre(size: tuple[int, int]) -> None:
    centre, offsets = places(size, 32)
    assert offsets[0] == (0, 0) and len(offsets) == len(set(offsets))
    for place, side in zip(centre, size, strict=True):
        assert place % 32 == 0 and abs(place - side / 2) <= 32
    for dy, dx in offsets:
        assert 0 <= centre[0] + dy < size[0] and 0 <= centre[1] + dx < size[1]
    room = [min(3, math.ceil(side / 32)) for side in size]
    assert len(offsets) == room[0] * room[1]


def test_the_side_is_that_of_the_smallest_square() -> None:
    energy = np.zeros((9, 12))
    energy[4, 5], energy[4, 7], energy[1, 5] = 0.68, 0.27, 0.05
    assert [side_holding(energy, (4, 5), share) for share in (0.68, 0.69, 0.95, 0.96, 1)] == [
        1,
        5,
        5,
        7,
        7,
    ]
    assert side_holding(energy * 0, (4, 5), 0.5) is None


def test_a_dead_cell_has_no_field() -> None:
    network = nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.ReLU())
    nn.init.zeros_(network[0].weight)
    nn.init.constant_(network[0].bias, -1)
    energy = energy_of(network, 1)
    assert not energy.any()
    with pytest.raises(InputError, match="draws must be 1 or more, got 0"):
        energy_of(network, 1, draws=0)
