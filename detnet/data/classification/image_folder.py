"""Images sorted into class folders, as ImageNet and torchvision's ImageFolder have them.

The listing of a large folder is kept, so that the next start only asks what has changed since: it
holds for as long as every folder or file it was read from bears the time of its last change.
Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from zipfile import BadZipFile

import numpy as np

from detnet.coco.annotations import FlatBytes
from detnet.data.images import IMAGE_SUFFIXES
from detnet.errors import InputError
from detnet.files import cache_folder, replacing
from detnet.text import is_utf8

_VERSION = 1
_KEEP_AFTER_S = 0.5  # a listing made faster is not worth a file
_SETTLED_NS = 2_000_000_000  # what changed just now may change again within its clock's tick


@dataclass(frozen=True, eq=False)
class Listing:
    """What was found in a folder.

    Args:
        facts: as JSON can hold them.
        arrays: by name.
        watched: what it was read from, relative to the folder, and when that changed last, in
            nanoseconds.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    watched: dict[str, int]


def listed(path: Path, kind: str, make: Callable[[], Listing]) -> tuple[Listing, bool]:
    """Gives the kept listing of a folder if it still holds, or makes and keeps one.

    Args:
        path: the folder, resolved.
        kind: of listing, and how it is made: another kind is made again.
        make: reads the folder.

    Returns:
        the listing, and whether it was kept from before.
    """
    name = hashlib.sha256(f"{_VERSION} {kind} {path}".encode(errors="surrogateescape")).hexdigest()
    place = cache_folder() / "listings" / f"{name[:32]}.npz"
    found = _read(place, path)
    if found is not None:
        return found, True
    began = time.monotonic()
    found = make()
    settled = max(found.watched.values()) <= time.time_ns() - _SETTLED_NS
    if settled and time.monotonic() - began >= _KEEP_AFTER_S:
        _write(place, found)
    return found, False


def _write(place: Path, found: Listing) -> None:
    """Writes a listing; where that is not possible the next start makes it again."""
    header = json.dumps({"facts": found.facts, "watched": found.watched}).encode()
    stored: dict[str, Any] = {"header": np.frombuffer(header, dtype=np.uint8), **found.arrays}
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place, shared=True) as beside, beside.open("wb") as file:
            np.savez(file, **stored)


def _read(place: Path, path: Path) -> Listing | None:
    """The listing of an earlier start, if all it was read from is as it was then."""
    try:
        # Opened here: numpy leaves a cut file open.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            watched = header["watched"]
            if any((path / name).stat().st_mtime_ns != then for name, then in watched.items()):
                return None
            arrays = {name: stored[name] for name in stored.files if name != "header"}
            return Listing(header["facts"], arrays, watched)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # none, or cut: it is made again
        return None


_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True, eq=False)
class ClassifiedImages:
    """The images of a split in flat arrays.

    Args:
        path: of the split.
        classes: names by label.
        labels: (N,) int32.
        names: (N,) of the files, as the kind of split has them.
        others: files that are no images, in shards images that cannot be told apart by their keys;
            they are left alone.
        cached: whether the listing was kept from an earlier start.
    """

    path: Path
    classes: tuple[str, ...]
    labels: np.ndarray
    names: FlatBytes
    others: int = 0
    cached: bool = False

    def __len__(self) -> int:
        return len(self.labels)

    def name(self, index: int) -> str:
        """An image's path below the split's folder."""
        raise NotImplementedError

    def image_path(self, index: int) -> Path:
        return self.path / self.name(index)

    def content(self, index: int) -> IO[bytes] | None:
        """An image's bytes; None where it is the file at its path."""
        return None

    def fingerprint(self) -> str:
        """Hash of classes, names and labels, by which a resumed run knows its data again."""
        return self._hash_with()

    def _hash_with(self, *more: np.ndarray) -> str:
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for array in (self.labels, self.names.offsets, self.names.blob, *more):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


class ImageFolder(ClassifiedImages):
    """The images of a folder of class folders, ordered by class and name.

    Classes are the class folders, sorted; names are relative to them.
    """

    def name(self, index: int) -> str:
        return f"{self.classes[self.labels[index]]}/{os.fsdecode(self.names[index])}"


def index_folder(path: Path) -> ImageFolder:
    """Lists the images of a split, or takes the listing of an earlier start if nothing changed.

    Folders in class folders are searched, too; names that begin with a dot are not, nor links to a
    folder they lie in.

    Raises:
        InputError: no such folder, no class folders, or class folders without images.
    """
    path = path.resolve()
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; it should hold one folder of images per class")
    kind = f"folders of {' '.join(sorted(IMAGE_SUFFIXES))}"
    listing, cached = listed(path, kind, lambda: _list(path))
    facts, arrays = listing.facts, listing.arrays
    names = FlatBytes(arrays["blob"], arrays["offsets"])
    found = ImageFolder(
        path, tuple(facts["classes"]), arrays["labels"], names, facts["others"], cached
    )
    _require_images(found)
    return found


def require_same_classes(val: ClassifiedImages, train: ClassifiedImages) -> None:
    """Refuses an evaluation on other classes than those trained on.

    Raises:
        InputError: naming some of the differences.
    """
    if val.classes == train.classes:
        return
    parts = [
        f"{len(names)} {text} ({', '.join(names[:3])}{', …' if len(names) > 3 else ''})"
        for text, names in (
            (f"not in {train.path}", sorted(set(val.classes) - set(train.classes))),
            ("missing", sorted(set(train.classes) - set(val.classes))),
        )
        if names
    ]
    raise InputError(f"{val.path}: its class folders differ: {'; '.join(parts)}")


def _list(path: Path) -> Listing:
    """Reads every folder."""
    folders = {"": path.stat().st_mtime_ns}
    with os.scandir(path) as entries:
        found = [entry for entry in entries if not entry.name.startswith(".")]
    classes = sorted(entry.name for entry in found if entry.is_dir())
    if not classes:
        flat = sum(_is_image(os.fsencode(entry.name)) for entry in found)
        lying = f"{flat} images lie directly in it; " if flat else ""
        raise InputError(
            f"{path}: has no class folders; {lying}sort the images into one folder per class"
        )
    names: list[FlatBytes] = []
    counts, others = [], 0
    for name in classes:
        images, rest = _list_class(path, name, folders)
        names.append(FlatBytes.of(sorted(images)))  # flat class by class: millions of names
        counts.append(len(images))
        others += rest
    labels = np.repeat(np.arange(len(classes), dtype=np.int32), counts)
    joined = _joined(names)
    arrays = {"labels": labels, "blob": joined.blob, "offsets": joined.offsets}
    return Listing({"classes": classes, "others": others}, arrays, folders)


def _list_class(path: Path, name: str, folders: dict[str, int]) -> tuple[list[bytes], int]:
    """The images of one class, relative to its folder, and how many other files lie there."""
    images, others = [], 0
    todo = [("", frozenset([_identity(path.stat())]))]  # each with the folders that it lies in
    while todo:
        below, above = todo.pop()
        place = path / name / below
        facts = place.stat()
        if (identity := _identity(facts)) in above:
            continue
        folders[f"{name}/{below}"] = facts.st_mtime_ns
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_image(found := os.fsencode(below + entry.name)):
                    images.append(found)
                elif entry.is_dir():
                    todo.append((f"{below}{entry.name}/", above | {identity}))
                else:
                    others += 1
    return images, others


def _identity(facts: os.stat_result) -> tuple[int, int]:
    return facts.st_dev, facts.st_ino


def _is_image(name: bytes) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _joined(parts: list[FlatBytes]) -> FlatBytes:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    blob = np.concatenate([part.blob for part in parts])
    return FlatBytes(blob, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _require_images(found: ImageFolder) -> None:
    if strange := [name for name in found.classes if not is_utf8(name)]:
        raise InputError(
            f"{found.path}: the class folder {os.fsencode(strange[0])!r} has no name in UTF-8; "
            "rename it"
        )
    counts = np.bincount(found.labels, minlength=len(found.classes))
    empty = [found.classes[index] for index in np.flatnonzero(counts == 0)]
    if empty:
        more = ", …" if len(empty) > 3 else ""
        raise InputError(
            f"{found.path}: {len(empty)} of {len(found.classes)} class folders hold no images "
            f"({', '.join(empty[:3])}{more}); fill or remove them"
        )
