"""Masks packed on the device are torchvision's, to the bit, wherever their boxes lie."""

import pytest
import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import paste_masks_in_image

from detnet.coco.masks import RunLengths, encode_pixels
from detnet.detectors import create
from detnet.inference import pasting
from detnet.inference.pasting import pack_masks, pack_pixels, packing_masks


def encoded(masks: Tensor) -> list[RunLengths]:
    return [encode_pixels(mask) for mask in (masks[:, 0] > 0.5).numpy()]


@pytest.mark.parametrize("at_once", [1 << 24, 500])
def test_masks_are_torchvisions(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Boxes inside, at and beyond the edges, as high or wide as the image, thin and empty ones."""
    monkeypatch.setattr(pasting, "_PIXELS_AT_ONCE", at_once)
    generator = torch.Generator().manual_seed(1)
    inside = 0
    for trial in range(60):
        height, width = torch.randint(1, 90, (2,), generator=generator).tolist()
        masks = torch.rand(6, 1, 28, 28, generator=generator)
        if trial % 3 == 0:
            masks = (masks.mean((2, 3), keepdim=True) > 0.5).expand_as(masks).float()
        points = torch.rand(2, 6, 2, generator=generator) * torch.tensor([width, height])
        boxes = torch.cat([points.amin(0), points.amax(0)], 1)
        boxes[0] = torch.tensor([0, 0, width, height])
        boxes[1, 1::2] = torch.tensor([0.0, height])
        boxes[2] = boxes[2, [0, 1, 0, 1]]
        pasted = paste_masks_in_image(masks, boxes, (height, width))
        assert pack_masks(masks, boxes, (height, width)) == encoded(pasted)
        assert pack_pixels(pasted > 0.5) == encoded(pasted)
        inside += int((pasted > 0.5).sum())
    assert inside > 10_000
    assert pack_masks(masks[:0], boxes[:0], (5, 7)) == pack_pixels(pasted[:0] > 0.5) == []


@torch.no_grad()
def test_a_detector_packs_while_it_is_asked_to() -> None:
    torch.manual_seed(0)
    options = {"min_size": 64, "max_size": 96, "score_threshold": 0.0, "post_nms_test": 10}
    model = create("mask_rcnn_fpn", backbone="resnet50", num_classes=3, width=0.125, **options)
    image = torch.rand(3, 40, 70)
    with packing_masks(model.eval()):
        (packed,) = model([image])
    (plain,) = model([image])
    assert plain["masks"].shape == (len(plain["boxes"]), 1, 40, 70)
    assert packed["masks"] == encoded(plain["masks"])
    assert {len(packed[name]) for name in packed} == {len(plain["boxes"])}
