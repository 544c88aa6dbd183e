"""Opens image files safely: a bound on pixels, no programs, and what the decoder says of them.

Everything here that opens a picture does so by `opened`. Nothing imports torch.
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
from typing import IO

from PIL import Image

from detnet.errors import InputError

# Cameras of 102 megapixels and panoramas of 16,384 x 8,192 pass. Decoding was seen to take 10 to 14
# bytes a pixel, so this is up to 1.9 GB for a process that reads images.
MAX_PIXELS = 135_000_000
SETTING = "DETNET_MAX_PIXELS"  # of the environment, which workers inherit
_PROGRAMS = ("EPS", "WMF")  # formats that pillow hands to other programs to be drawn
# Pillow's complaints about odd metadata are many; these mean that bytes are not what they were.
_BROKEN = re.compile(r"corrupt|truncated|malformed|invalid", re.IGNORECASE)

_heard = threading.local()

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


def require_size(width: int, height: int) -> None:
    """Refuses more pixels than are read, before they are decoded.

    Raises:
        TooLarge: beginning with the size, for the caller to say of which file.
    """
    most = most_pixels()
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
def opened(source: Path | IO[bytes]) -> Iterator[Image.Image]:
    """Opens an image, still to be decoded; errors are pillow's own.

    Raises:
        TooLarge: it has more pixels than are read.
        UnidentifiedImageError: no image, or one that is a program.
    """
    most = most_pixels()
    if Image.MAX_IMAGE_PIXELS is not None and most > Image.MAX_IMAGE_PIXELS * 2:
        Image.MAX_IMAGE_PIXELS = most  # the user allows more than pillow would
    with _open(source) as image:
        if image.format in _PROGRAMS:
            raise Image.UnidentifiedImageError(f"{image.format} files are programs, and not run")
        require_size(*image.size)
        yield image


def _open(source: Path | IO[bytes]) -> Image.Image:
    """Pillow's own opening, which reads the header; a header that it stumbles over is no image."""
    try:
        return Image.open(source)
    except Image.DecompressionBombError as error:  # pillow's bound, before ours can be asked
        found = re.search(r"\d+", str(error))
        raise TooLarge(_too_many(f"{int(found[0]):,}" if found else "its", most_pixels())) from None
    except OSError:
        raise
    except Exception as error:  # text of many megabytes, fields that contradict each other, …
        raise Image.UnidentifiedImageError(" ".join(str(error).split())) from error


@contextmanager
def listening() -> Iterator[None]:
    """Lets `heard` collect what decoders warn of, on this thread and those it waits for."""
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.showwarning = _hear  # type: ignore[assignment]
        yield


@contextmanager
def heard() -> Iterator[list[str]]:
    """Collects, inside `listening`, the warnings of this thread that mean a broken file."""
    found: list[str] = []
    before, _heard.found = getattr(_heard, "found", None), found
    try:
        yield found
    finally:
        _heard.found = before


def _hear(message: Warning | str, *_: object) -> None:
    found, text = getattr(_heard, "found", None), " ".join(str(message).split())
    bomb = isinstance(message, Image.DecompressionBombWarning)  # `require_size` decides
    if found is not None and not bomb and _BROKEN.search(text) and text not in found:
        found.append(text)
