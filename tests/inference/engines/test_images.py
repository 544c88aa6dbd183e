"""Pictures as torch would scale them, and masks as torchvision would paste them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.transforms.v2 import functional as TF

from detnet.data.scenes import draw_scene
from detnet.detectors.images import ImageOptions, ImageTransform, SquareTransform
from detnet.inference.engines.images import input_size, paste_mask, prepare, scaled_size
from tests.inference.engines.tiny import IMAGES


def picture(width: int, height: int) -> np.ndarray:
    pixels, _ = draw_scene(np.random.default_rng(0), (width, height))
    return pixels


@pytest.mark.parametrize("size", [(320, 240), (97, 333), (900, 120), (48, 48)])
def test_scaled_as_torch_does_it(size: tuple[int, int]) -> None:
    pixels = picture(*size)
    transform = ImageTransform(ImageOptions(IMAGES.min_size, IMAGES.max_size)).eval()
    expected = transform._fit(torch.from_numpy(pixels).permute(2, 0, 1)).numpy()
    found = prepare([pixels], IMAGES)
    assert found.dtype == np.uint8 and found.shape == (1, *expected.shape)
    assert found.shape[2:] == scaled_size(*pixels.shape[:2], IMAGES)
    assert found.shape[2:] == transform.scaled_size(*pixels.shape[:2])
    difference = np.abs(found[0].astype(int) - expected)
    assert difference.max() <= 1
    assert (difference > 0).mean() < 0.01


def test_squeezed_as_torch_does_it() -> None:
    pixels = picture(320, 200)
    images = replace(IMAGES, resize="square")
    transform = SquareTransform(ImageOptions(IMAGES.min_size, IMAGES.max_size)).eval()
    expected = transform._fit(torch.from_numpy(pixels).permute(2, 0, 1)).numpy()
    found = prepare([pixels], images)[0]
    assert found.shape == expected.shape == (3, 48, 48)
    assert np.abs(found.astype(int) - expected).max() <= 1


def test_a_fixed_size_is_filled_up() -> None:
    images = replace(IMAGES, size=(64, 96))
    pixels = picture(100, 100)
    found = prepare([pixels], images)[0]
    assert found.shape == (3, 64, 96) and input_size(100, 100, images) == (64, 96)
    assert scaled_size(100, 100, images) == (64, 64)
    assert (found[:, :, 64:] == np.array(IMAGES.fill)[:, None, None]).all()
    inner = TF.resize(torch.from_numpy(pixels).permute(2, 0, 1), [64, 64], antialias=True).numpy()
    assert np.abs(found[:, :, :64].astype(int) - inner).max() <= 1


def test_masks_are_pasted_as_torchvision_pastes_them() -> None:
    generator = torch.Generator().manual_seed(0)
    height, width = 61, 83
    masks = torch.rand(40, 1, 28, 28, generator=generator)
    corners = torch.rand(40, 2, 2, generator=generator) * torch.tensor([width, height]) * 1.2 - 8
    boxes = torch.cat([corners.amin(1), corners.amax(1)], dim=1)
    boxes[0] = torch.tensor([5.0, 5.0, 5.0, 5.0])  # no area
    boxes[1] = torch.tensor([0.0, 0.0, width, height])
    boxes[2] = torch.tensor([-300.0, -300.0, -200.0, -200.0])  # wholly outside
    expected = paste_masks_in_image(masks, boxes, (height, width))[:, 0]
    for mask, box, pasted in zip(masks, boxes, expected, strict=True):
        found = paste_mask(mask[0].numpy(), box.numpy(), height, width)
        assert found.shape == (height, width) and found.dtype == bool
        differs = found != (pasted.numpy() > 0.5)
        assert (np.abs(pasted.numpy()[differs] - 0.5) < 1e-5).all()
        assert differs.mean() < 1e-3
    assert (expected > 0.5).any()
