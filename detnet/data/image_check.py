"""What is wrong with image files: each is read and decoded once, and nothing is raised."""

import hashlib
import io
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError
from PIL.TiffImagePlugin import IMAGELENGTH, IMAGEWIDTH, TiffImageFile

from detnet.coco.records import Problem, Problems
from detnet.data.images import (
    TooLarge,
    damage,
    heard,
    listening,
    most_pixels,
    opened,
    orientation_of,
)
from detnet.files import Similar, hint_at_similar

_SWAPPING = (5, 6, 7, 8)  # orientations whose upright image is as wide as the stored one is high
_ASK = "and its boxes must be those of the upright image: look at it"


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
    paths: Iterable[Path],
    *,
    sizes_only: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> dict[Path, ImageFile]:
    """Reads and decodes every file once, on a few threads (decoding runs outside Python's lock).

    Args:
        sizes_only: read headers for size and orientation alone; only what has none is decoded, for
            the reason.
        progress: called with (files done, files in all), on the caller's thread.
    """
    inspect = _read_header if sizes_only else _inspect
    unique = list(dict.fromkeys(paths))
    Image.init()  # the list of formats fills itself on first use, which threads would do twice
    found = {}
    with listening(), ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        for done, (path, facts) in enumerate(
            zip(unique, pool.map(inspect, unique), strict=True), start=1
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


def _read_header(path: Path) -> ImageFile:
    try:
        with heard(), opened(path) as image:
            (width, height), orientation = _stored_size(image), orientation_of(image)
    except Exception:  # told in the words of the other
        return _inspect(path)
    return ImageFile(width=width, height=height, orientation=orientation)


def _stored_size(image: Image.Image) -> tuple[int, int]:
    """Width and height before its orientation is applied, of an image that is not loaded yet.

    Of a TIFF the tags tell: pillow turns it itself, its size on opening and its pixels in loading.
    """
    if isinstance(image, TiffImageFile):
        return image.tag_v2[IMAGEWIDTH], image.tag_v2[IMAGELENGTH]
    return image.size


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
            width, height = _stored_size(image)
            tag = orientation_of(image) if isinstance(image, TiffImageFile) else 0  # which goes
            image.draft(None, (1, 1))  # JPEG: all data is read, at an eighth of the size
            image.load()  # before its EXIF is asked for, which reads a PNG and keeps errors silent
            orientation = tag or orientation_of(image)
    except TooLarge as error:
        return ImageFile("image-too-large", str(error), digest)
    except UnidentifiedImageError:
        return ImageFile("image-unreadable", _what_else(content), digest)
    except Exception as error:  # decoders raise anything on damaged data
        code, what = "image-unreadable", "does not decode"
        if "truncated" in str(error).lower():
            code, what = "image-truncated", "the image is cut off"
        return ImageFile(code, f"{what}: {damage(error)}", digest, width, height)
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


@dataclass(frozen=True)
class NamedImage:
    """An image record that names a file.

    Args:
        name: of the file, which starts from the folder.
    """

    split: str
    record: str
    folder: Path
    name: str
    width: Any
    height: Any

    @cached_property
    def path(self) -> Path:
        return self.folder / self.name


def image_problems(named: list[NamedImage], files: dict[Path, ImageFile]) -> list[Problem]:
    """Finds what is wrong with the files that records name, and with the sizes these tell."""
    problems, known = [], Similar()
    for image in named:
        facts, findings = files[image.path], Problems(str(image.path))
        if facts.error:
            message = facts.message
            if facts.error == "image-missing":
                message += hint_at_similar(image.folder, image.name, known)
            findings.add("error", facts.error, image.record, message)
        for text in facts.warned:
            findings.add("warning", "image-damaged", image.record, f"the decoder says: {text}")
        if facts.width:
            _check_size(image, facts, findings)
        problems += findings.found
    return problems


def _check_size(image: NamedImage, facts: ImageFile, findings: Problems) -> None:
    """Compares the size annotated with the upright image's, and judges the EXIF orientation."""
    annotated, stored = (image.width, image.height), (facts.width, facts.height)
    upright, tag = facts.upright_size, facts.orientation
    usable = all(isinstance(side, (int, float)) for side in annotated)
    if usable and annotated != upright:
        if annotated == stored:
            message = (
                f"annotated as stored, {_size(stored)}, but EXIF orientation {tag} makes the "
                f"upright image {_size(upright)}; annotate that, or remove the tag"
            )
            findings.add("error", "exif-rotation", image.record, message)
            return
        message = f"annotated as {_size(annotated)}, but the image is {_size(upright)}"
        if annotated == upright[::-1]:
            message += ": width and height are swapped"
        findings.add("error", "size-differs", image.record, message)
    if tag in range(2, 9):
        turned = upright != stored and usable and annotated == upright
        severity, hint = ("info", "as its annotation says") if turned else ("warning", _ASK)
        message = f"EXIF orientation {tag}: it is read upright, {hint}"
        findings.add(severity, "exif-rotation", image.record, message)  # type: ignore[arg-type]
    elif tag != 1:
        message = f"EXIF orientation {tag} is not one of 1 to 8 and is ignored"
        findings.add("warning", "exif-invalid", image.record, message)


def _size(size: tuple[Any, Any]) -> str:
    return f"{size[0]} x {size[1]}"


def duplicate_images(named: list[NamedImage], files: dict[Path, ImageFile]) -> list[Problem]:
    """Finds files of equal content within a split, and between splits, where they leak."""
    problems: list[Problem] = []
    first: dict[tuple[str, bytes], NamedImage] = {}
    for image in named:
        digest = files[image.path].digest
        if not digest:
            continue
        earlier = first.setdefault((image.split, digest), image)
        if earlier.path != image.path:
            message = f"the same picture as {earlier.record}"
            file = str(image.path)
            problems.append(Problem("warning", "duplicate-image", file, image.record, message))
    seen: dict[bytes, NamedImage] = {}
    for (_, digest), image in first.items():
        earlier = seen.setdefault(digest, image)
        if earlier.split != image.split:
            message = f"in {image.split}, the same picture as {earlier.split}'s {earlier.record}"
            file = str(image.path)
            code = "duplicate-across-splits"
            problems.append(Problem("warning", code, file, image.record, message))
    return problems
