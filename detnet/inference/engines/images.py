"""Pictures made ready for an exported network, in numpy and pillow alone, as torch does it."""

from collections.abc import Sequence

import numpy as np
from PIL import Image

from detnet.inference.engines.base import Pixels
from detnet.inference.engines.record import ImageInput


def scaled_size(height: int, width: int, images: ImageInput) -> tuple[int, int]:
    """Height and width that a picture itself has in the network's input, filling left out."""
    if images.size and images.resize == "square":
        return images.size
    if images.resize == "square":
        return images.min_size, images.min_size
    if images.size:
        scale = min(images.size[0] / height, images.size[1] / width)
    else:
        scale = min(images.min_size / min(height, width), images.max_size / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def input_size(height: int, width: int, images: ImageInput) -> tuple[int, int]:
    """Height and width of the network's input for a picture of that size."""
    return images.size or scaled_size(height, width, images)


def prepare(pictures: Sequence[Pixels], images: ImageInput) -> np.ndarray:
    """Scales pictures of one `input_size` and puts them into one batch.

    Pillow's bilinear filter widens when it shrinks, as torchvision's antialiased one does: of
    their results fewer than 1 in 100 numbers differ, and these by 1.

    Returns:
        (N, 3, H, W) uint8.
    """
    height, width = input_size(pictures[0].shape[0], pictures[0].shape[1], images)
    batch = np.empty((len(pictures), 3, height, width), np.uint8)
    for place, picture in zip(batch, pictures, strict=True):
        size = scaled_size(picture.shape[0], picture.shape[1], images)
        if size != (height, width):
            place[:] = np.array(images.fill, np.uint8)[:, None, None]
        place[:, : size[0], : size[1]] = _scaled(picture, *size).transpose(2, 0, 1)
    return batch


def _scaled(picture: Pixels, height: int, width: int) -> Pixels:
    if picture.shape[:2] == (height, width):
        return picture
    # Across before down, as torch does it; pillow by itself begins with the cheaper one.
    across = Image.fromarray(picture).resize((width, picture.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(across.resize((width, height), Image.Resampling.BILINEAR))


def paste_mask(mask: np.ndarray, box: np.ndarray, height: int, width: int) -> np.ndarray:
    """Stretches one object's mask over its box in an image, as torchvision does it.

    Args:
        mask: (M, M) in 0 … 1; it is stretched with a rim of zeros around it.
        box: (4,) float32 xyxy, pixels of the image.
        height: of the image, pixels.
        width: likewise.

    Returns:
        (H, W) bool, above 0.5.
    """
    side = mask.shape[0]
    rim = np.pad(mask.astype(np.float32), 1)
    scale = np.float32((side + 2) / side)
    x1, y1, x2, y2 = box.astype(np.float32)
    middle = (x1 + x2) * np.float32(0.5), (y1 + y2) * np.float32(0.5)
    half = (x2 - x1) * np.float32(0.5) * scale, (y2 - y1) * np.float32(0.5) * scale
    # Truncated towards zero, as torch turns numbers into whole ones.
    left, right = (int(middle[0] + sign * half[0]) for sign in (-1, 1))
    top, bottom = (int(middle[1] + sign * half[1]) for sign in (-1, 1))
    rows = _inside(top, max(bottom - top + 1, 1), height)
    columns = _inside(left, max(right - left + 1, 1), width)
    painted = np.zeros((height, width), bool)
    if not len(rows[0]) or not len(columns[0]):
        return painted
    y0, y1_, dy = _between(rows[0] - top, rows[1], side + 2)
    x0, x1_, dx = _between(columns[0] - left, columns[1], side + 2)
    across = rim[:, x0] * (1 - dx) + rim[:, x1_] * dx
    values = across[y0] * (1 - dy)[:, None] + across[y1_] * dy[:, None]
    painted[rows[0][0] : rows[0][-1] + 1, columns[0][0] : columns[0][-1] + 1] = values > 0.5
    return painted


def _inside(start: int, length: int, limit: int) -> tuple[np.ndarray, int]:
    """The places of `length` from `start` that lie in 0 … limit, and the length."""
    return np.arange(max(start, 0), min(start + length, limit)), length


def _between(places: np.ndarray, length: int, side: int) -> tuple[np.ndarray, ...]:
    """Between which two cells of `side` each of `length` places lies, and how far on."""
    at = (places.astype(np.float32) + np.float32(0.5)) * np.float32(side / length)
    at = np.maximum(at - np.float32(0.5), 0)
    low = np.minimum(np.floor(at).astype(np.int64), side - 1)
    return low, np.minimum(low + 1, side - 1), at - low.astype(np.float32)
