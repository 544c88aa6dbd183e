"""Puts masks into their images on the device, and takes them to the host as run lengths.

A hundred masks as large as their image are hundreds of megabytes, which nobody needs: masks are
stretched one by one over their own boxes, only which pixels are inside is kept, and only the places
where that changes leave the device.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from hotcoco import mask as coco_mask
from torch import Tensor
from torchvision.models.detection.roi_heads import expand_boxes, expand_masks

from detnet.coco.masks import RunLengths
from detnet.detectors.base import Detector

_PIXELS_AT_ONCE = 1 << 24  # of masks on the device, a byte each
_THRESHOLD = 0.5


@contextmanager
def packing_masks(network: Detector) -> Iterator[None]:
    """Lets a detector give its masks as lists of COCO's run lengths instead of pixels."""
    network.transform.paste = pack_masks
    try:
        yield
    finally:
        del network.transform.paste


@torch.no_grad()
def pack_masks(masks: Tensor, boxes: Tensor, size: tuple[int, int]) -> list[RunLengths]:
    """Stretches masks over their boxes and gives what lies above 0.5, as COCO has it.

    To the bit what torchvision's `paste_masks_in_image` gives above 0.5.

    Args:
        masks: (N, 1, M, M), probabilities.
        boxes: (N, 4) xyxy, pixels of the image.
        size: height and width of the image.
    """
    padded, scale = expand_masks(masks, 1)
    corners = expand_boxes(boxes, scale).to(torch.int64).cpu().numpy()  # the host waits once
    low = corners[:, :2].clip(0)
    sides = np.minimum(corners[:, 2:] + 1, [size[1], size[0]]) - low
    whole = (corners[:, 2:] - corners[:, :2] + 1).clip(1)

    def window(row: int) -> Tensor:
        (across, down), (x, y) = whole[row].tolist(), (low[row] - corners[row, :2]).tolist()
        stretched = F.interpolate(
            padded[row][None], size=(down, across), mode="bilinear", align_corners=False
        )
        return stretched[0, 0, y : y + sides[row, 1], x : x + sides[row, 0]] > _THRESHOLD

    return _run_lengths(window, low, sides.clip(0), size, masks.device)


@torch.no_grad()
def pack_pixels(masks: Tensor) -> list[RunLengths]:
    """Gives masks of whole images as COCO has them.

    Args:
        masks: (N, 1, H, W) bool.
    """
    count, _, height, width = masks.shape
    low, sides = np.zeros((count, 2), np.int64), np.tile([width, height], (count, 1))
    return _run_lengths(lambda row: masks[row, 0], low, sides, (height, width), masks.device)


def _run_lengths(
    window: Callable[[int], Tensor],
    low: np.ndarray,
    sides: np.ndarray,
    size: tuple[int, int],
    device: torch.device,
) -> list[RunLengths]:
    """Run lengths of masks in an image, some at a time.

    Args:
        window: gives the part of a mask beyond which there is nothing, (H, W) bool.
        low: (N, 2) x and y where each window begins in its image.
        sides: (N, 2) width and height of each window; none if one is 0.
        size: height and width of the image.
    """
    # Behind each column of a window stands one pixel more, outside of the mask: none runs on into
    # the next column, which may lie elsewhere in the image.
    ends = np.cumsum(np.where(sides.all(axis=1), sides[:, 0] * (sides[:, 1] + 1), 0))
    found: list[RunLengths] = []
    while len(found) < len(low):
        first = len(found)
        done = int(ends[first - 1]) if first else 0
        last = max(first + 1, int(np.searchsorted(ends, done + _PIXELS_AT_ONCE, "right")))
        own = slice(first, last)
        inside = torch.zeros(1 + int(ends[last - 1]) - done, dtype=torch.bool, device=device)
        for row in range(first, last):
            across, down = sides[row].tolist()
            if across and down:
                end = int(ends[row]) - done + 1
                columns = inside[end - across * (down + 1) : end].view(across, down + 1)
                columns[:, :down] = window(row).T
        changes = (inside[1:] != inside[:-1]).nonzero()[:, 0].cpu().numpy()
        found += _of_changes(changes, ends[own] - done, low[own], sides[own], size)
    return found


def _of_changes(
    changes: np.ndarray, ends: np.ndarray, low: np.ndarray, sides: np.ndarray, size: tuple[int, int]
) -> list[RunLengths]:
    """Run lengths of masks from the places where they begin and end, in turn.

    Args:
        changes: in the windows of all masks, column by column, one behind the other.
        ends: (N,) where each mask's window ends.
    """
    height, width = size
    mask = np.searchsorted(ends, changes, "right")
    column, row = np.divmod(changes - np.append(0, ends)[mask], sides[mask, 1] + 1)
    places = (low[mask, 0] + column) * height + low[mask, 1] + row
    # A run to the very bottom goes on where the next column's begins at the top.
    joined = np.zeros(len(places) + 1, bool)
    joined[1:-1] = (places[1:] == places[:-1]) & (mask[1:] == mask[:-1])
    kept = ~(joined[1:] | joined[:-1])
    places, mask = places[kept], mask[kept]
    found = []
    for own in np.split(places, np.searchsorted(mask, np.arange(1, len(ends)))):
        counts = np.diff(own, prepend=0, append=height * width)
        counts = counts[: len(counts) - (counts[-1] == 0)]
        runs = {"size": [height, width], "counts": counts.tolist()}
        encoded = coco_mask.fr_py_objects(runs, height, width)["counts"]
        found.append({"size": [height, width], "counts": encoded.decode("ascii")})
    return found
