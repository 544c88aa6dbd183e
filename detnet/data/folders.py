"""Finds a data set's splits in the formats people have them in, and the images they name."""

import hashlib
import os
from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path, PurePath
from typing import Any, ClassVar

from detnet.data.formats import FORMATS
from detnet.errors import InputError

SPLITS = ("train", "val", "test")
SPELLINGS = {"val": ("val", "valid", "validation")}
_LOOKED_UP = 100  # file names; where none of so many is found, the others are not either


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Args:
        name: "train", "val", "test", or as asked for.
        annotations: the file that messages name: COCO's JSON, the first of VOC's lists ….
        images: the folder that holds them; `names_start` tells where the names of images begin.
        lists: the files that make up the split, where there are several: VOC's ImageSets/Main.
        root: the data set's folder, below which images may lie; None for `images` alone.
        outside: whether images may lie anywhere else, too.
        format: name in `FORMATS` of how the files are read.
    """

    name: str
    annotations: Path
    images: Path
    lists: tuple[Path, ...] = ()
    root: Path | None = None
    outside: bool = False
    format: str = "coco"

    @property
    def files(self) -> tuple[Path, ...]:
        """Its annotation file, or its lists."""
        return tuple(path.resolve() for path in self.lists or (self.annotations,))

    def same_as(self, other: "Split") -> bool:
        """Whether the same annotations are read, by whatever name."""
        own_files = bool(self.lists) or self.format in ("coco", "roboflow")  # no other split's
        return self.files == other.files and (own_files or self.name == other.name)

    def to_json(self) -> dict[str, Any]:
        """By which another process finds it again, from anywhere."""
        return {
            "split": self.name,
            "annotations": str(self.annotations.resolve()),
            "images": str(self.images.resolve()),
            "lists": [str(path.resolve()) for path in self.lists],
            "root": str(self.root.resolve()) if self.root else None,
            "outside_images": self.outside,
            "format": self.format,
        }

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Split":
        """The split that was written down."""
        return cls(
            content["split"],
            Path(content["annotations"]),
            Path(content["images"]),
            tuple(map(Path, content["lists"])),
            Path(content["root"]) if content["root"] else None,
            content["outside_images"],
            content["format"],
        )


class DatasetFormat(ABC):
    """One way to keep a data set in a folder; add one by `FORMATS.register("mine", MyFormat)`.

    Training, evaluation, check, conversion and reports then take a folder of it as they take
    COCO's. `layout` tells in a message what such a folder holds.
    """

    layout: ClassVar[str] = ""

    @abstractmethod
    def find(self, data: Path, name: str, images: Path | None = None) -> Split | None:
        """Finds one split; None where the folder is of another format or has no such split.

        Args:
            name: "train", "val", "test" or any other.
            images: their folder, where the user names one.

        Raises:
            InputError: the folder is of this format, but cannot be used.
        """

    @abstractmethod
    def read(self, split: Split) -> dict[str, Any]:
        """Reads a split into the content of a COCO annotation file.

        Names of images start in `split.images`. What is wrong with the content is found by others.

        Raises:
            InputError: a file cannot be read; the message names it and the record.
        """

    def names(self, data: Path) -> tuple[str, ...]:
        """Which of train, val and test are there; none where the folder is of another format.

        Raises:
            InputError: as `find`.
        """
        return tuple(name for name in SPLITS if self.find(data, name) is not None)

    def unread(self, data: Path) -> list[Path]:
        """Files of annotations that no split has, for `detnet check` to name them."""
        return []

    def sources(self, split: Split, most: int | None = None) -> Iterable[Path]:
        """All files that `read` opens, of at most `most` images; none: what is read is not kept."""
        return ()

    def fingerprint(self, split: Split) -> str:
        """SHA-256 of the annotation files, by which a resumed run knows its data again."""
        digest = hashlib.sha256()
        for path in split.files:
            with path.open("rb") as file:
                hashlib.file_digest(file, lambda: digest)
        return digest.hexdigest()


def format_of(split: Split) -> DatasetFormat:
    """How a split's files are read."""
    found: DatasetFormat = FORMATS[split.format]()
    return found


def find_split(
    data: Path, split: str, *, images: Path | None = None, outside: bool = False
) -> Split:
    """Finds one split of a data set.

    Args:
        data: a folder in one of `FORMATS`, or a COCO annotation file, which then is the split.
        split: "train", "val" (also "valid"), "test", or any name used in the layouts; of VOC's
            also lists by year, "VOC2007/trainval+VOC2012/trainval".
        images: the folder of images, where it is not beside the annotations.
        outside: let the annotations name images that lie outside of the data set's folder.

    Raises:
        InputError: nothing fits, or more than one file does.
    """
    data, name = Path(data), _canonical(split)
    if images is not None and not Path(images).is_dir():
        raise InputError(f"{images}: the folder of images does not exist")
    if data.is_file():
        if images is not None:
            return Split(name, data, Path(images), outside=outside)
        return replace(FORMATS["coco"]().of_file(data, name), outside=outside)
    _require_folder(data)
    key, present = _recognise(data)
    for each in [key] if key else FORMATS:
        found = FORMATS[each]().find(data, name, images)
        if found is not None:
            return replace(found, name=name, root=data, outside=outside, format=each)
    if present:
        has = f"it has {', '.join(present)}"
    else:
        has = f"{FORMATS['coco']().near_miss(data)}looked for {_layouts()}"
    raise InputError(f"{data}: no annotations of the split {split!r}; {has}")


def find_splits(data: Path, *, outside: bool = False) -> dict[str, Split]:
    """Finds the splits train, val and test, those that are there, in that order.

    Args:
        outside: see `find_split`.

    Raises:
        InputError: `data` does not exist, or holds none of them in a layout we know.
    """
    data = Path(data)
    if data.is_file():
        raise InputError(f"{data}: is a file; give the folder of the data set")
    _require_folder(data)
    key, names = _recognise(data)
    if key is None:
        raise InputError(
            f"{data}: no data set found; {FORMATS['coco']().near_miss(data)}looked for {_layouts()}"
        )
    found = {name: FORMATS[key]().find(data, name) for name in names}
    return {
        name: replace(split, name=name, root=data, outside=outside, format=key)
        for name, split in found.items()
        if split is not None
    }


def names_start(images: Path, names: Iterable[str]) -> Path:
    """The folder that a JSON's file names start from: that of the images, or one above it.

    Some tools write "images/a.jpg" for what lies in images/. The first file that is found decides,
    and where there is none, nothing is repeated.

    Args:
        images: as in `Split`.
        names: the JSON's file names.
    """
    for name in islice(names, _LOOKED_UP):
        for folder in () if leaves(name) else (images, *images.parents[:2]):
            if os.path.exists(folder / name):  # pathlib's own raises on names that are too long
                return folder
    return images


def leads_out(split: Split, start: Path, name: str) -> bool:
    """Whether an image's name leads out of the data set, and the split does not allow that.

    Args:
        start: see `names_start`.
    """
    if split.outside:
        return "\0" in name
    if leaves(name):
        return True
    if start in (split.images, split.root):
        return False
    place, allowed = start / name, (split.images, split.root)
    return not any(folder in place.parents for folder in allowed if folder is not None)


def require_inside(split: Split, start: Path, names: Iterable[str]) -> None:
    """Refuses names that lead out of the data set: what they name is none of its images.

    Args:
        start: see `names_start`.

    Raises:
        InputError: naming the first, and how many there are.
    """
    found = [name for name in names if leads_out(split, start, name)]
    if found:
        more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
        raise InputError(
            f"{split.annotations}: image {found[0][:200]!r}{more} lies outside of "
            f"{split.root or split.images}; move it in or link it, or allow it by --outside-images "
            "(of train: --outside-images true)"
        )


def leaves(name: str) -> bool:
    """Whether a name leads out of the folder it starts from, by itself.

    Absolute names do, and those with ".." anywhere: behind a symbolic link even "a/../b" is
    elsewhere. A link below the folder is its owner's doing and may point where it likes.
    """
    if "\0" in name:
        return True  # no name at all
    if ".." not in name and name[:1] not in ("/", "\\") and os.name == "posix":
        return False  # most names, and there may be millions
    path = PurePath(name)
    return bool(path.anchor) or ".." in path.parts


def _recognise(data: Path) -> tuple[str | None, tuple[str, ...]]:
    """The first format that a folder is in, and which of train, val and test it has."""
    for key in FORMATS:
        if names := FORMATS[key]().names(data):
            return key, names
    return None, ()


def _layouts() -> str:
    return ", ".join(FORMATS[key].layout for key in FORMATS)


def _canonical(split: str) -> str:
    return next((name for name, known in SPELLINGS.items() if split in known), split)


def _require_folder(data: Path) -> None:
    if not data.is_dir():
        if data.suffix == ".json":
            raise InputError(f"{data}: no such annotation file")
        raise InputError(f"{data}: no such folder; give the folder of a data set")
