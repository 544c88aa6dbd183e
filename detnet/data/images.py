"""Reads image files safely and as people have them: rotated, grey, transparent, deep, TIFF, broken.

Whatever opens a picture does so by `opened`: a bound on pixels, no programs, and what the decoder
says of it. Pillow decodes: torchvision's decoders are deprecated since 0.29 and due to go. Nothing
here imports torch before it makes a tensor.
"""

import logging
import math
import os
import re
import threading
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from detnet.errors import InputError
from detnet.text import one_line

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif"}
    | {".ppm", ".pgm"}
)
_ORIENTATION = 0x0112  # the EXIF tag
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
# Cameras of 102 megapixels and panoramas of 16,384 x 8,192 pass. Decoding was seen to take 10 to 14
# bytes a pixel, so this is up to 1.9 GB for a process that reads images.
MAX_PIXELS = 135_000_000
SETTING = "DETNET_MAX_PIXELS"  # of the environment, which workers inherit
_PROGRAMS = ("EPS", "WMF")  # formats that pillow hands to other programs to be drawn
# Pillow's complaints about odd metadata are many; these mean that bytes are not what they were.
_BROKEN = re.compile(r"corrupt|truncated|malformed|invalid", re.IGNORECASE)

_heard = threading.local()


class _Listening:
    """How many listen, and what was done with warnings before."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.count = 0

    def begin(self) -> None:
        self._before = warnings.catch_warnings()
        self._before.__enter__()
        self.show: Any = warnings.showwarning
        warnings.simplefilter("always")
        warnings.showwarning = _hear  # type: ignore[assignment]

    def end(self) -> None:
        self._before.__exit__(None, None, None)


_listening = _Listening()

# Some decoders log what they raise afterwards; without a handler it goes to standard error.
logging.getLogger("PIL").addHandler(logging.NullHandler())


class TooLarge(InputError):
    """An image with more pixels than are read; the message says how many and how to allow it."""


def most_pixels() -> int:
    """How many pixels an image may have: `MAX_PIXELS`, or what the environment says.

    Raises:
        InputError: the environment says no positive number.
    """
    text = os.environ.get(SETTING)
    if not text:
        return MAX_PIXELS
    try:
        most = float(text)
    except ValueError:
        most = math.nan
    if not 1 <= most < 2**62:
        raise InputError(f"{SETTING}={text}: write a number of pixels, as 500e6")
    return int(most)


def require_size(width: int, height: int, *, most: int | None = None) -> None:
    """Refuses more pixels than are read, before they are decoded.

    Args:
        most: how many are, `most_pixels()` by default.

    Raises:
        TooLarge: beginning with the size, for the caller to say of which file.
    """
    most = most_pixels() if most is None else most
    if width * height > most:
        raise TooLarge(
            f"{_too_many(f'{width:,} x {height:,}', most)}={math.ceil(width * height / 1e6)}e6"
        )


def _too_many(pixels: str, most: int) -> str:
    return (
        f"{pixels} pixels are more than the {most:,} that are read; where the file is meant to be "
        f"so large, set {SETTING}"
    )


@contextmanager
def opened(
    source: Path | IO[bytes], *, formats: tuple[str, ...] | None = None, most: int | None = None
) -> Iterator[Image.Image]:
    """Opens an image, still to be decoded; errors are pillow's own.

    Args:
        formats: pillow's names of those that are looked for; no other decoder sees a byte.
        most: pixels that it may have, `most_pixels()` by default.

    Raises:
        TooLarge: it has more pixels than are read.
        UnidentifiedImageError: no image, or one that is a program.
    """
    most = most_pixels() if most is None else most
    if Image.MAX_IMAGE_PIXELS is not None and most > Image.MAX_IMAGE_PIXELS * 2:
        Image.MAX_IMAGE_PIXELS = most  # the user allows more than pillow would
    with _open(source, formats, most) as image:
        if image.format in _PROGRAMS:
            raise Image.UnidentifiedImageError(f"{image.format} files are programs, and not run")
        require_size(*image.size, most=most)
        yield image


def _open(source: Path | IO[bytes], formats: tuple[str, ...] | None, most: int) -> Image.Image:
    """Pillow's own opening, which reads the header; a header that it stumbles over is no image."""
    try:
        return Image.open(source, formats=formats)
    except Image.DecompressionBombError as error:  # pillow's bound, before ours can be asked
        found = re.search(r"\d+", str(error))
        raise TooLarge(_too_many(f"{int(found[0]):,}" if found else "its", most)) from None
    except OSError:
        raise
    except Exception as error:  # text of many megabytes, fields that contradict each other, …
        raise Image.UnidentifiedImageError(one_line(error)) from error


@contextmanager
def listening() -> Iterator[None]:
    """Lets `heard` collect what decoders warn of, on this thread and those it waits for.

    What is done with warnings is the process's affair: the first thread here takes it, and the
    last one gives it back.
    """
    with _listening.lock:
        _listening.count += 1
        if _listening.count == 1:
            _listening.begin()
    try:
        yield
    finally:
        with _listening.lock:
            _listening.count -= 1
            if _listening.count == 0:
                _listening.end()


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collects, inside `listening`, the warnings of this thread that mean a broken file."""
    found: list[str] = []
    before, _heard.found = getattr(_heard, "found", None), found
    try:
        yield found
    finally:
        _heard.found = before


def _hear(message: Warning | str, *details: Any) -> None:
    found, text = getattr(_heard, "found", None), " ".join(str(message).split())
    bomb = isinstance(message, Image.DecompressionBombWarning)  # `require_size` decides
    if found is None and type(message) is UserWarning:  # of a thread that is not in `heard`
        _listening.show(message, *details)
    if found is not None and not bomb and _BROKEN.search(text) and text not in found:
        found.append(text)


def orientation_of(image: Image.Image) -> int:
    """The value of the EXIF orientation tag, 1 (upright) where there is none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF: readers go on without it
        return 1
    return value if isinstance(value, int) else 1


if TYPE_CHECKING:
    from torch import Tensor


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
        InputError: the file is missing, no image, cut, or has too many pixels.

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
        raise InputError(f"{path}: the image is damaged or cut: {damage(error)}") from None
    for text in warned:
        warnings.warn(f"{path}: {text}", stacklevel=3)


def damage(error: Exception) -> str:
    """Says what a decoder stumbled over, in words of ours where the file was cut."""
    reason = one_line(error)
    return "the file ends before the picture does" if "truncated" in reason.lower() else reason


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
    try:
        size = Path(path).stat().st_size if content is None else content.seek(0, os.SEEK_END)
    except ValueError:  # a null character, or one that is not text
        return f"no file can be named {ascii(str(path))}"
    if size == 0:
        return "the file is empty"
    return "is not an image in a format that can be read"
