"""What one image file says of itself: size, EXIF orientation, content hash, and whether it decodes.

The suffixes of images and the reading of the orientation are defined here, once for all.

Nothing here imports torch: a check of a data set starts at once.
"""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from detnet.data.decoding import TooLarge, heard, listening, most_pixels, opened

IMAGE_SUFFIXES = frozenset(
    {".jpg", ".jpeg", ".jpe", ".png", ".bmp", ".tif", ".tiff", ".webp", ".gif", ".ppm", ".pgm"}
)
_ORIENTATION = 0x0112  # the EXIF tag
_SWAPPING = (5, 6, 7, 8)  # orientations whose upright image is as wide as the stored one is high


@dataclass(frozen=True, slots=True)
class ImageFile:
    """What reading one file told.

    Args:
        error: code of the problem that keeps it from being used, "" where it decodes.
        message: the problem in words.
        digest: hash of the file's bytes; empty where it could not be read.
        width: pixels as stored, before EXIF orientation is applied; 0 where not known.
        height: as width.
        orientation: the EXIF tag's value, 1 where it has none.
        warned: what the decoder said of bytes that are not what they were, though it went on.
    """

    error: str = ""
    message: str = ""
    digest: bytes = b""
    width: int = 0
    height: int = 0
    orientation: int = 1
    warned: tuple[str, ...] = ()

    @property
    def upright_size(self) -> tuple[int, int]:
        """Width and height as training and prediction see them, orientation applied."""
        if self.orientation in _SWAPPING:
            return self.height, self.width
        return self.width, self.height


def inspect_images(
    paths: Iterable[Path], *, progress: Callable[[int, int], None] | None = None
) -> dict[Path, ImageFile]:
    """Reads and decodes every file once, on a few threads (decoding runs outside Python's lock).

    Args:
        progress: called with (files done, files in all), on the caller's thread.
    """
    unique = list(dict.fromkeys(paths))
    Image.init()  # the list of formats fills itself on first use, which threads would do twice
    found = {}
    with listening(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, (path, facts) in enumerate(
            zip(unique, pool.map(_inspect, unique), strict=True), start=1
        ):
            found[path] = facts
            if progress is not None:
                progress(done, len(unique))
    return found


def inspect_image(path: Path) -> ImageFile:
    """Reads one file and decodes it; what is wrong with it is in the answer, never raised.

    Raises:
        InputError: the environment's bound on pixels is no number.
    """
    with listening():
        return _inspect(path)


def orientation_of(image: Image.Image) -> int:
    """The value of the EXIF orientation tag, 1 (upright) where there is none that can be read."""
    try:
        value = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF: readers go on without it
        return 1
    return value if isinstance(value, int) else 1


def _inspect(path: Path) -> ImageFile:
    """Does so inside `listening`, which threads share."""
    most_pixels()  # what is wrong with the setting is no image's fault
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return ImageFile("image-missing", "the file does not exist")
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or error
        return ImageFile("image-unreadable", f"cannot be read: {reason}")
    digest = hashlib.blake2b(content, digest_size=16).digest()
    width = height = 0
    try:
        with heard() as warned, opened(io.BytesIO(content)) as image:
            width, height = image.size
            image.draft(None, (1, 1))  # JPEG: all data is read, at an eighth of the size
            image.load()  # before its EXIF is asked for, which reads a PNG and keeps errors silent
            orientation = orientation_of(image)
    except TooLarge as error:
        return ImageFile("image-too-large", str(error), digest)
    except UnidentifiedImageError:
        return ImageFile("image-unreadable", _what_else(content), digest)
    except Exception as error:  # decoders raise anything on damaged data
        reason = " ".join(str(error).split())
        if "truncated" in reason.lower():
            message = f"the image is cut off: {reason}"
            return ImageFile("image-truncated", message, digest, width, height)
        return ImageFile("image-unreadable", f"does not decode: {reason}", digest, width, height)
    return ImageFile("", "", digest, width, height, orientation, tuple(warned))


def _what_else(content: bytes) -> str:
    """Says what a file is that no decoder knows."""
    if not content:
        return "the file is empty"
    head = content[:200]
    if head.startswith(b"version https://git-lfs"):
        return "is a Git LFS pointer, not the image; run `git lfs pull`"
    try:
        text = head.decode("utf-8") if len(content) > 200 else content.decode("utf-8")
    except UnicodeDecodeError:
        text = ""
    if text and text.isprintable() or "\n" in text and text.replace("\n", "").isprintable():
        return f"is a text file, not an image; it starts with {text.splitlines()[0][:40]!r}"
    return "is not an image in a format that can be read"
