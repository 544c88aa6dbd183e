"""Images sorted into class folders, as ImageNet and torchvision's ImageFolder have them.

The listing of a large folder is kept, so that the next start only asks each folder when it was
changed last. Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from detnet.data.flat import FlatBytes
from detnet.data.image_files import IMAGE_SUFFIXES
from detnet.errors import InputError

_VERSION = 1
_KEEP_AFTER_S = 0.5  # a listing made faster is not worth a file
_SETTLED_NS = 2_000_000_000  # a folder changed just now may change again within its clock's tick
_SUFFIXES = tuple(suffix.encode() for suffix in IMAGE_SUFFIXES)


@dataclass(frozen=True, eq=False)
class ImageFolder:
    """The images of a split in flat arrays, ordered by class and name.

    Args:
        path: of the split.
        classes: names of the class folders, sorted; an image's label is its folder's place.
        labels: (N,) int32.
        names: of the files, relative to their class folder.
        others: files that are no images, by their suffixes; they are left alone.
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
        return f"{self.classes[self.labels[index]]}/{os.fsdecode(self.names[index])}"

    def image_path(self, index: int) -> Path:
        return self.path / self.name(index)

    def fingerprint(self) -> str:
        """Hash of classes, names and labels, by which a resumed run knows its data again."""
        digest = hashlib.sha256(json.dumps(self.classes).encode())
        for array in (self.labels, self.names.offsets, self.names.blob):
            digest.update(np.ascontiguousarray(array).tobytes())
        return digest.hexdigest()


def index_folder(path: Path) -> ImageFolder:
    """Lists the images of a split, or takes the listing of an earlier start if nothing changed.

    Folders in class folders are searched, too; names that begin with a dot are not.

    Raises:
        InputError: no such folder, no class folders, or class folders without images.
    """
    path = path.resolve()
    if not path.is_dir():
        raise InputError(f"{path}: no such folder; it should hold one folder of images per class")
    place = _cache_file(path)
    found = _kept(path, place)
    if found is None:
        began = time.monotonic()
        found, folders = _list(path)
        if time.monotonic() - began >= _KEEP_AFTER_S:
            _keep(found, folders, place)
    _require_images(found)
    return found


def require_same_classes(val: ImageFolder, train: ImageFolder) -> None:
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


def _list(path: Path) -> tuple[ImageFolder, dict[str, int]]:
    """Reads every folder; also gives when each was changed last, by its path below `path`."""
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
    return ImageFolder(path, tuple(classes), labels, _joined(names), others), folders


def _list_class(path: Path, name: str, folders: dict[str, int]) -> tuple[list[bytes], int]:
    """The images of one class, relative to its folder, and how many other files lie there."""
    images, others, todo = [], 0, [""]
    while todo:
        below = todo.pop()
        place = path / name / below
        folders[f"{name}/{below}"] = place.stat().st_mtime_ns
        with os.scandir(place) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if _is_image(found := os.fsencode(below + entry.name)):
                    images.append(found)
                elif entry.is_dir():
                    todo.append(f"{below}{entry.name}/")
                else:
                    others += 1
    return images, others


def _is_image(name: bytes) -> bool:
    return name.lower().endswith(_SUFFIXES)


def _joined(parts: list[FlatBytes]) -> FlatBytes:
    lengths = np.concatenate([np.diff(part.offsets) for part in parts])
    blob = np.concatenate([part.blob for part in parts])
    return FlatBytes(blob, np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64))


def _require_images(found: ImageFolder) -> None:
    counts = np.bincount(found.labels, minlength=len(found.classes))
    empty = [found.classes[index] for index in np.flatnonzero(counts == 0)]
    if empty:
        more = ", …" if len(empty) > 3 else ""
        raise InputError(
            f"{found.path}: {len(empty)} of {len(found.classes)} class folders hold no images "
            f"({', '.join(empty[:3])}{more}); fill or remove them"
        )


def cache_folder() -> Path:
    """Where listings are kept: $DETNET_CACHE, else detnet in the user's cache folder."""
    if own := os.environ.get("DETNET_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "detnet"


def _cache_file(path: Path) -> Path:
    name = hashlib.sha256(os.fsencode(path)).hexdigest()[:32]
    return cache_folder() / "image-folders" / f"{name}.npz"


def _keep(found: ImageFolder, folders: dict[str, int], place: Path) -> None:
    """Writes the listing; where that is not possible the next start reads the folders again."""
    if max(folders.values()) > time.time_ns() - _SETTLED_NS:
        return
    header = {
        "version": _VERSION,
        "path": str(found.path),
        "suffixes": sorted(IMAGE_SUFFIXES),
        "classes": found.classes,
        "others": found.others,
        "folders": folders,
    }
    beside = place.with_name(f".{place.name}.{os.getpid()}.part")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        with beside.open("wb") as file:
            np.savez(
                file,
                header=np.frombuffer(json.dumps(header).encode(), dtype=np.uint8),
                labels=found.labels,
                blob=found.names.blob,
                offsets=found.names.offsets,
            )
        beside.replace(place)
    except OSError:
        with contextlib.suppress(OSError):
            beside.unlink()


def _kept(path: Path, place: Path) -> ImageFolder | None:
    """The listing of an earlier start, if every folder is as it was then."""
    try:
        # Opened here: numpy leaves a cut file open.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as arrays:
            header = json.loads(arrays["header"].tobytes())
            if not _holds(header, path):
                return None
            names = FlatBytes(arrays["blob"], arrays["offsets"])
            classes = tuple(header["classes"])
            return ImageFolder(path, classes, arrays["labels"], names, header["others"], True)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # none, or cut: it is made anew
        return None


def _holds(header: dict[str, Any], path: Path) -> bool:
    expected = (_VERSION, str(path), sorted(IMAGE_SUFFIXES))
    if (header["version"], header["path"], header["suffixes"]) != expected:
        return False
    return all(changed == then for changed, then in _changes(path, header["folders"]))


def _changes(path: Path, folders: dict[str, int]) -> Iterator[tuple[int, int]]:
    """When each folder was changed last, now and then."""
    for below, then in folders.items():
        yield (path / below).stat().st_mtime_ns, then
