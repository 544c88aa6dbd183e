"""Inspection of small detectors with random weights."""

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
)
from detnet.inference.receptive_field import places, receptive_energy

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
