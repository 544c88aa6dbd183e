from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from detnet.data.masks import Masks
from detnet.data.transforms import (
    Augmentation,
    eval_transform,
    flip_horizontal,
    flip_vertical,
    resize,
    resized_shape,
)


def sample(height: int = 40, width: int = 60) -> tuple[Tensor, dict[str, Any]]:
    """One white rectangle on black, its box and its mask."""
    image = torch.zeros(3, height, width, dtype=torch.uint8)
    image[:, 10:20, 4:24] = 255
    target = {
        "boxes": torch.tensor([[4.0, 10, 24, 20]]),
        "labels": torch.tensor([2]),
        "area": torch.tensor([200.0]),
        "masks": Masks.of_pixels((image[:1] > 0).to(torch.uint8)),
    }
    return image, target


def box_of(mask: Tensor) -> list[float]:
    rows, columns = mask.any(1).nonzero().flatten(), mask.any(0).nonzero().flatten()
    return [float(v) for v in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)]


@pytest.mark.parametrize(("min_size", "max_size"), [(800, 1333), (320, 400), (64, 64)])
def test_sizes_are_torchvisions_to_the_pixel(min_size: int, max_size: int) -> None:
    theirs = GeneralizedRCNNTransform(min_size, max_size, [0.0] * 3, [1.0] * 3).eval()
    generator = np.random.default_rng(0)
    for height, width in [(480, 640), (640, 480), *generator.integers(20, 700, (20, 2)).tolist()]:
        expected = theirs.resize(torch.zeros(1, height, width), None)[0].shape[-2:]
        assert resized_shape(height, width, min_size=min_size, max_size=max_size) == expected


def test_resizing_takes_boxes_masks_and_areas_along() -> None:
    image, target = resize(*sample(), min_size=80, max_size=1000)
    assert image.shape == (3, 80, 120)
    assert image.dtype == torch.uint8
    assert target["boxes"].tolist() == [[8, 20, 48, 40]]
    assert target["area"].tolist() == [800]
    assert target["masks"].shape == (1, 80, 120)
    assert box_of(target["masks"].pixels()[0]) == [8, 20, 48, 40]
    assert target["labels"].tolist() == [2]


def test_the_long_sides_limit_wins() -> None:
    image, target = resize(*sample(), min_size=80, max_size=90)
    assert image.shape == (3, 60, 90)
    assert target["boxes"].tolist() == [[6, 15, 36, 30]]


def test_sides_that_are_rounded_scale_by_themselves() -> None:
    """41×60 pixels become 20×29: a box by 29 / 60 across and by 20 / 41 down."""
    image, target = resize(*sample(41, 60), min_size=20, max_size=1000)
    assert image.shape == (3, 20, 29)
    across, down = 29 / 60, 20 / 41
    expected = [4 * across, 10 * down, 24 * across, 20 * down]
    assert target["boxes"][0].tolist() == pytest.approx(expected)
    assert target["area"].item() == pytest.approx(200 * across * down)


@pytest.mark.parametrize(
    ("flip", "expected"),
    [(flip_horizontal, [36, 10, 56, 20]), (flip_vertical, [4, 20, 24, 30])],
)
def test_flips(flip: Any, expected: list[float]) -> None:
    image, target = sample()
    flipped, changed = flip(image, target)
    assert changed["boxes"].tolist() == [expected]
    assert box_of(changed["masks"].pixels()[0]) == expected
    assert box_of(flipped[0] > 0) == expected
    again, back = flip(flipped, changed)
    assert torch.equal(again, image)
    assert torch.equal(back["boxes"], target["boxes"])
    assert target["boxes"].tolist() == [[4, 10, 24, 20]]  # what came in is left alone


def test_images_without_objects_pass() -> None:
    image, target = sample()
    none = torch.zeros(1, dtype=torch.bool)
    empty = {name: value[none] for name, value in target.items()}
    transform = Augmentation(min_sizes=(30,), flip_h=1, flip_v=1, color_jitter=0.3)
    image, changed = transform(image, empty, np.random.default_rng(0))
    assert image.shape == (3, 30, 45)
    assert changed["boxes"].shape == (0, 4)
    assert changed["masks"].shape == (0, 30, 45)


def test_probabilities_and_sizes_are_kept() -> None:
    transform = Augmentation(min_sizes=(20, 30, 40), flip_h=0.25, flip_v=0.75)
    shapes, mirrored, overturned = [], 0, 0
    for number in range(400):
        image, target = transform(*sample(), np.random.default_rng(number))
        shapes.append(image.shape[-2])
        x1, y1, x2, y2 = target["boxes"][0].tolist()
        mirrored += x1 + x2 > image.shape[-1]
        overturned += y1 + y2 > image.shape[-2]
    for size in (20, 30, 40):
        assert 100 < shapes.count(size) < 167
    assert 70 < mirrored < 130
    assert 270 < overturned < 330


def test_the_same_generator_gives_the_same_and_the_global_ones_stay_untouched() -> None:
    transform = Augmentation(min_sizes=(30, 50), flip_v=0.5, color_jitter=0.5)
    before = torch.get_rng_state(), np.random.get_state()[1].copy()
    first = [transform(*sample(), np.random.default_rng(7)) for _ in range(2)]
    assert torch.equal(first[0][0], first[1][0])
    assert torch.equal(first[0][1]["boxes"], first[1][1]["boxes"])
    other = transform(*sample(), np.random.default_rng(8))
    assert not torch.equal(first[0][0], other[0])
    assert torch.equal(before[0], torch.get_rng_state())
    assert np.array_equal(before[1], np.random.get_state()[1])


def test_brightness_contrast_and_saturation_have_factors_of_their_own() -> None:
    generator = torch.Generator().manual_seed(0)
    image = torch.randint(60, 190, (3, 12, 18), dtype=torch.uint8, generator=generator)
    _, target = sample()
    transform = Augmentation(min_sizes=(12,), flip_h=0, color_jitter=0.4)
    for number in range(3):
        found, _ = transform(image, target, np.random.default_rng(number))
        drawn = np.random.default_rng(number).random(6)[3:]
        brightness, contrast, saturation = 0.6 + 0.8 * drawn
        pixels = (image.double() * brightness).clamp(0, 255)
        gray = torch.tensor([0.299, 0.587, 0.114]).double()[:, None, None]
        mean = (pixels * gray).sum(0).mean()
        pixels = (mean + contrast * (pixels - mean)).clamp(0, 255)
        plain = (pixels * gray).sum(0)
        pixels = (plain + saturation * (pixels - plain)).clamp(0, 255)
        # torchvision cuts to whole numbers after each of the three.
        assert (found.double() - pixels).abs().max() < 4, number


def test_one_option_leaves_the_draws_of_the_others_alone() -> None:
    plain = Augmentation(min_sizes=(30, 50), flip_h=0.5)
    colored = Augmentation(min_sizes=(30, 50), flip_h=0.5, color_jitter=0.5)
    for number in range(10):
        image, target = plain(*sample(), np.random.default_rng(number))
        other, same = colored(*sample(), np.random.default_rng(number))
        assert image.shape == other.shape
        assert torch.equal(target["boxes"], same["boxes"])


def test_evaluation_changes_nothing_or_only_the_size() -> None:
    image, target = sample()
    for number in range(5):
        same, kept = eval_transform()(image, target, np.random.default_rng(number))
        assert torch.equal(same, image)
        assert torch.equal(kept["boxes"], target["boxes"])
        small, scaled = eval_transform(min_size=20)(image, target, np.random.default_rng(number))
        assert small.shape == (3, 20, 30)
        assert scaled["boxes"].tolist() == [[2, 5, 12, 10]]


@pytest.mark.parametrize(
    "options", [{"max_size": 0}, {"min_sizes": (0,)}, {"flip_h": 1.5}, {"color_jitter": -0.1}]
)
def test_impossible_options_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Augmentation(**options)
