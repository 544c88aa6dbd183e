"""Masks leave the device as run lengths, those of the processor, with three waits for all."""

import torch
from torchvision.models.detection.roi_heads import paste_masks_in_image

from detnet.inference.pasting import pack_masks, pack_pixels
from tests.pretended.device import register
from tests.pretended.waits import counted

PLACE = register()
FILE = "inference/pasting.py"


def test_masks_leave_the_device_as_run_lengths() -> None:
    draws = torch.Generator().manual_seed(0)
    masks = torch.rand(9, 1, 28, 28, generator=draws)
    corners = torch.rand(9, 2, generator=draws) * 40
    boxes = torch.cat([corners, corners + torch.rand(9, 2, generator=draws) * 40], 1)
    expected = pack_masks(masks, boxes, (70, 90))
    there = masks.to(PLACE), boxes.to(PLACE)
    with counted() as waits:
        assert pack_masks(*there, (70, 90)) == expected
    assert waits == {
        ("detnet", f"{FILE}:pack_masks", "copy to the host"): 1,  # where the boxes lie
        ("detnet", f"{FILE}:_run_lengths", "nonzero"): 1,
        ("detnet", f"{FILE}:_run_lengths", "copy to the host"): 1,
    }
    pasted = (paste_masks_in_image(masks, boxes, (70, 90)) > 0.5).to(PLACE)
    with counted() as waits:
        assert pack_pixels(pasted) == expected
    assert waits.total() == 2
