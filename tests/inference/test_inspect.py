"""Inspection of small detectors with random weights."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.detectors import create
from detnet.errors import InputError
from detnet.inference.inspect import (
    Inspection,
    backbone_of,
    coarsest_stride,
    inspect_model,
    network_input,
    places,
    receptive_energy,
    side_holding,
)

Build = Callable[..., nn.Module]


@pytest.fixture(scope="module")
def image() -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (3, 100, 150), generator=generator, dtype=torch.uint8)


def tiny(backbone: str, detector: str = "faster_rcnn_fpn", **options: object) -> nn.Module:
    torch.manual_seed(0)
    sizes = {"min_size": 100, "max_size": 200, "width": 0.125, **options}
    return create(detector, backbone=backbone, num_classes=3, **sizes).eval()


def sizes_of(inspection: Inspection) -> dict[str, tuple[int, int]]:
    return {stage.name: stage.size for stage in inspection.stages}


def test_detnet_keeps_what_resnet_gives_up(image: Tensor) -> None:
    detnet, resnet = (
        inspect_model(tiny(name), image, step=32, draws=2) for name in ("detnet59", "resnet50")
    )
    fine = {"c2": (25, 38), "c3": (13, 19), "c4": (7, 10)}
    assert sizes_of(detnet) == {**fine, "c5": (7, 10), "c6": (7, 10)}
    assert sizes_of(resnet) == {**fine, "c5": (4, 5)}
    assert [stage.receptive_field for stage in detnet.stages] == [35, 99, 291, 483, 675]
    assert {stage.centre for view in (detnet, resnet) for stage in view.stages} == {(64, 64)}
    assert (detnet.backbone, detnet.width) == ("detnet59", 0.125)


def test_maps_and_energies_have_the_image_in_them_without_padding(image: Tensor) -> None:
    model = tiny("resnet50", "retinanet")
    inspection = inspect_model(model, image, draws=3)
    batch, _ = model.transform([image])  # type: ignore[operator]
    assert batch.tensors.shape[-2:] == (128, 160)
    with torch.no_grad():
        features = backbone_of(model)(batch.tensors)
    for stage in inspection.stages:
        assert stage.activation.shape == stage.size and stage.activation.dtype == np.float32
        expected = features[stage.name][0].abs().mean(0)[: stage.size[0], : stage.size[1]]
        np.testing.assert_allclose(stage.activation, expected.numpy(), rtol=1e-5)
        assert stage.energy.shape == (100, 150) and stage.energy.sum() == pytest.approx(1)
        inner, outer = stage.effective
        assert inner is not None and outer is not None
        assert 1 <= inner <= outer <= stage.receptive_field


@pytest.mark.parametrize("order", ["rgb", "bgr"])
def test_the_picture_is_what_the_network_was_given(image: Tensor, order: str) -> None:
    inspection = inspect_model(tiny("resnet50", channel_order=order), image, draws=1)
    np.testing.assert_array_equal(inspection.picture, image.permute(1, 2, 0).numpy())
    smaller = inspect_model(tiny("resnet50", min_size=64), image, draws=1)
    assert smaller.picture.shape == (64, 96, 3)


def test_looking_at_a_part_of_the_image_gives_the_energy_of_the_whole() -> None:
    model = tiny("resnet50", min_size=288, max_size=420)
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(0, 256, (3, 288, 416), generator=generator, dtype=torch.uint8)
    inspection = inspect_model(model, image, draws=9)
    inputs, size = network_input(model, image)
    inputs.requires_grad_()
    centre, offsets = places(size, 32)
    features = backbone_of(model)(inputs)
    for stage in inspection.stages:
        whole = receptive_energy(
            features[stage.name],
            inputs,
            centre=centre,
            stride=stage.stride,
            offsets=offsets,
            draws=9,
        )
        np.testing.assert_allclose(stage.energy, whole, rtol=1e-3, atol=whole.max() * 1e-6)


def test_equal_seeds_give_equal_energies(image: Tensor) -> None:
    model = tiny("detnet59")
    first, again, other = (
        inspect_model(model, image, draws=2, seed=seed).stages[3].energy for seed in (0, 0, 1)
    )
    np.testing.assert_array_equal(first, again)
    assert not np.array_equal(first, other)


def test_the_model_is_left_as_it_was(image: Tensor) -> None:
    model = tiny("detnet59", frozen=("stem",)).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wishes = [parameter.requires_grad for parameter in model.parameters()]
    inspect_model(model, image, draws=1)
    assert model.training and model.transform.training  # type: ignore[union-attr]
    assert [parameter.requires_grad for parameter in model.parameters()] == wishes
    assert all(parameter.grad is None for parameter in model.parameters())
    for name, value in model.state_dict().items():
        torch.testing.assert_close(value, before[name], rtol=0, atol=0)


@pytest.mark.parametrize("wrap", [Classifier, lambda backbone: backbone])
def test_anything_with_a_backbone_will_do(image: Tensor, wrap: Build) -> None:
    torch.manual_seed(0)
    model = wrap(BACKBONES["detnet59"](width=0.125))
    inspection = inspect_model(model, image, draws=1)
    assert inspection.picture.shape == (100, 150, 3) and coarsest_stride(model) == 16
    assert sizes_of(inspection)["c6"] == (7, 10)


def test_what_has_no_backbone_is_refused(image: Tensor) -> None:
    with pytest.raises(InputError, match="a Sequential has no backbone"):
        inspect_model(nn.Sequential(nn.Conv2d(3, 3, 1)), image)


@pytest.mark.parametrize(
    ("shape", "said"),
    [
        ((31, 90), r"the image is 90×31 pixels, smaller than one cell .* \(32×32\)"),
        ((40, 900), "the image is scaled to 200×8 pixels, smaller"),
    ],
)
def test_images_smaller_than_a_cell_are_refused(shape: tuple[int, int], said: str) -> None:
    with pytest.raises(InputError, match=said):
        inspect_model(tiny("resnet50"), torch.zeros(3, *shape, dtype=torch.uint8))


def test_broken_weights_are_refused(image: Tensor) -> None:
    model = tiny("resnet50")
    with torch.no_grad():
        next(model.parameters())[0] = float("nan")
    with pytest.raises(InputError, match="mine: its c2 holds values that are no finite numbers"):
        inspect_model(model, image, name="mine")


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
