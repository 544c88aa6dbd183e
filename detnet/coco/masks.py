"""COCO's three ways to write a mask, brought to one: compressed run lengths."""

from typing import Any

import numpy as np
from hotcoco import mask as coco_mask

from detnet.coco.mask_areas import unreadable


def encode_segmentation(segmentation: Any, height: int, width: int) -> bytes | None:
    """Turns a COCO segmentation into compressed run lengths of the whole image.

    Args:
        segmentation: a list of polygons, or RLE with compressed or uncompressed counts.
        height: of the image, pixels.
        width: of the image, pixels.

    Returns:
        COCO's compressed counts, column by column from the top left; None if it cannot be used.
    """
    if not segmentation or unreadable(segmentation, height, width):
        return None
    if isinstance(segmentation, list):
        parts = coco_mask.frPyObjects(segmentation, height, width)
        return coco_mask.merge(parts)["counts"]
    counts = segmentation["counts"]
    if isinstance(counts, list):
        return coco_mask.frPyObjects(segmentation, height, width)["counts"]
    return counts.encode("ascii")


def encode_box(box: np.ndarray, height: int, width: int) -> bytes:
    """Fills a box as a mask, the stand-in where an object has none.

    Args:
        box: x1, y1, x2, y2, pixels.
    """
    x1, y1, x2, y2 = (float(side) for side in box)
    polygon = [x1, y1, x2, y1, x2, y2, x1, y2]
    return coco_mask.frPyObjects([polygon], height, width)[0]["counts"]


def encode_pixels(pixels: np.ndarray) -> dict[str, Any]:
    """Turns a boolean (H, W) array into a COCO segmentation with compressed counts."""
    encoded = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return segmentation_of(encoded["counts"], *pixels.shape)


def segmentation_of(counts: bytes, height: int, width: int) -> dict[str, Any]:
    return {"size": [int(height), int(width)], "counts": counts.decode("ascii")}


def decode_masks(counts: list[bytes], height: int, width: int) -> np.ndarray:
    """Paints masks out.

    Returns:
        (N, height, width) uint8 of 0 and 1, contiguous.
    """
    if not counts:
        return np.zeros((0, height, width), dtype=np.uint8)
    encoded = [{"size": [height, width], "counts": item} for item in counts]
    return np.ascontiguousarray(coco_mask.decode(encoded).transpose(2, 0, 1))
