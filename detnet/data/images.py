"""Reads image files as people have them: rotated by EXIF, grey, transparent, 16 bits deep, BMP."""

import io
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor
from torchvision.io import ImageReadMode, decode_image

from detnet.errors import InputError

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")

# What torchvision decodes; everything else goes to pillow at once.
_TORCHVISION_MAGIC = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n")


def read_image(path: Path) -> Tensor:
    """Reads one image as RGB, turned upright as its EXIF orientation says.

    This is the only place that turns images, so sizes and boxes everywhere are those of the
    upright image. Transparency is dropped, of an animation the first frame is taken, 16 bits are
    reduced to 8.

    Returns:
        (3, H, W) uint8.

    Raises:
        InputError: the file is missing, no image, or cut.
    """
    try:
        data = np.fromfile(path, dtype=np.uint8)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    if data.size == 0:
        raise InputError(f"{path}: the file is empty")
    if not data[:8].tobytes().startswith(_TORCHVISION_MAGIC):
        return _decode_with_pillow(path, data)
    try:
        image = decode_image(
            torch.from_numpy(data), mode=ImageReadMode.RGB, apply_exif_orientation=True
        )
    except RuntimeError:
        return _decode_with_pillow(path, data)  # odd files that only pillow takes; else its words
    if image.dtype == torch.uint16:
        image = (image.to(torch.int32) >> 8).to(torch.uint8)
    return image


def _decode_with_pillow(path: Path, data: np.ndarray) -> Tensor:
    try:
        with Image.open(io.BytesIO(data.tobytes())) as opened:
            upright = ImageOps.exif_transpose(opened)
            if upright.mode.startswith(("I", "F")):
                pixels = _deep_gray(np.asarray(upright))
            else:
                pixels = np.array(upright.convert("RGB"))
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: is not an image in a format that can be read") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: the image is damaged or cut: {reason}") from None
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _deep_gray(values: np.ndarray) -> np.ndarray:
    """Brings gray of more than 8 bits to (H, W, 3) uint8; pillow itself would clip it at 255."""
    low, high = (0.0, 65535.0) if values.dtype.kind in "iu" else (values.min(), values.max())
    gray = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)
