"""Reads image files as people have them: rotated by EXIF, grey, transparent, 16 bits deep, TIFF.

Pillow decodes all of them: torchvision's decoders are deprecated since 0.29 and due to go.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING

import numpy as np
from PIL import Image

from detnet.data.decoding import TooLarge, heard, listening, opened
from detnet.data.image_files import orientation_of
from detnet.errors import InputError

if TYPE_CHECKING:
    from torch import Tensor

_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read_image(path: Path) -> "Tensor":
    """Reads one image for a network, see `read_pixels`.

    Returns:
        (3, H, W) uint8, the channels last in memory, which is how resizing is fastest.

    Raises:
        InputError: the file is missing, no image, or cut.
    """
    import torch  # takes seconds, and pages are made of pixels without it

    return torch.from_numpy(read_pixels(path)).permute(2, 0, 1)


def read_pixels(path: Path) -> np.ndarray:
    """Reads one image as RGB, turned upright as its EXIF orientation says.

    Files are turned nowhere else, so sizes and boxes everywhere are those of the upright image.
    Of an animation the first frame is taken; for the rest see `to_rgb`.

    Returns:
        (H, W, 3) uint8, memory of its own.

    Raises:
        InputError: the file is missing, no image, or cut.
    """
    with opened_image(path) as image:
        return to_rgb(image)


@contextmanager
def opened_image(path: Path, content: IO[bytes] | None = None) -> Iterator[Image.Image]:
    """Opens an image; whatever goes wrong while it is open is said in one line.

    Args:
        path: of the file, also for messages.
        content: what to read instead of the file at `path`.

    Raises:
        InputError: the file is missing, no image, cut, or has too many pixels; see
            `detnet.data.decoding`.

    Warns:
        UserWarning: the picture could be read, but its decoder found other bytes of the file
            broken, the EXIF that would turn it upright for instance.
    """
    warned: list[str] = []
    try:
        source = path if content is None else content
        with listening(), heard() as warned, opened(source) as image:
            yield image
    except TooLarge as error:
        raise InputError(f"{path}: {error}") from None
    except InputError:
        raise
    except Image.UnidentifiedImageError:
        raise InputError(f"{path}: {_not_an_image(path, content)}") from None
    except FileNotFoundError:
        raise InputError(f"{path}: no such image file") from None
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{path}: the image is damaged or cut: {reason}") from None
    for text in warned:
        warnings.warn(f"{path}: {text}", stacklevel=3)


def to_rgb(image: Image.Image) -> np.ndarray:
    """Turns a pillow image of any mode upright, drops transparency and reduces 16 bits to 8.

    Returns:
        (H, W, 3) uint8, memory of its own.
    """
    image.load()
    turn = _UPRIGHT.get(orientation_of(image))
    if image.mode.startswith(("I", "F")):
        deep = image.transpose(turn) if turn is not None else image
        return _deep_gray(np.asarray(deep))
    if image.mode in ("P", "PA"):
        image = image.convert("RGBA")  # the palette's own transparency would mix in otherwise
    if image.mode != "RGB":
        image = image.convert("RGB")
    return np.array(image.transpose(turn) if turn is not None else image)


def _deep_gray(values: np.ndarray) -> np.ndarray:
    """Brings grey of more than 8 bits to (H, W, 3) uint8; pillow itself would clip it at 255.

    Of floats the smallest becomes black and the largest white; what is not a number is black.
    """
    if values.dtype.kind in "iu":
        low, high = 0.0, 65535.0
    else:
        values = values.astype(np.float64)  # in which no difference of single numbers overflows
        finite = values[np.isfinite(values)]
        low, high = (finite.min(), finite.max()) if finite.size else (0.0, 0.0)
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
    gray = (values - low) * (255.0 / (high - low) if high > low else 0.0)
    return np.repeat(gray.clip(0, 255).astype(np.uint8)[:, :, None], 3, axis=2)


def _not_an_image(path: Path, content: IO[bytes] | None) -> str:
    size = Path(path).stat().st_size if content is None else content.seek(0, os.SEEK_END)
    if size == 0:
        return "the file is empty"
    return "is not an image in a format that can be read"
