"""Finds a data set's annotation files and images in the layouts people have them in."""

import os
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from typing import Any

from detnet.data.formats.voc_lists import find_lists, find_standard, find_years, names_root
from detnet.data.names import leaves
from detnet.errors import InputError

SPLITS = ("train", "val", "test")
_PREFIXES = ("instances_", "person_keypoints_")  # of COCO's files; the second where it is alone
_LOOKED_UP = 100  # file names; where none of so many is found, the others are not either
_SPELLINGS = {"val": ("val", "valid", "validation")}
_TRIED = (
    "annotations/instances_SPLIT*.json with images in SPLIT*/ or images/ (COCO), "
    "SPLIT/_annotations.coco.json (Roboflow), or ImageSets/Main/*.txt, also in VOC2007/, VOC2012/ "
    "… (VOC)"
)


@dataclass(frozen=True)
class Split:
    """One part of a data set.

    Args:
        name: "train", "val", "test", or as asked for.
        annotations: the COCO JSON file; of VOC's data the first of the lists.
        images: the folder that holds them; `names_start` tells where the JSON's file names begin.
        lists: the files of VOC's ImageSets/Main that make up the split; none of COCO's data.
        root: the data set's folder, below which images may lie; None for `images` alone.
        outside: whether images may lie anywhere else, too.
    """

    name: str
    annotations: Path
    images: Path
    lists: tuple[Path, ...] = ()
    root: Path | None = None
    outside: bool = False

    @property
    def files(self) -> tuple[Path, ...]:
        """What tells this split from others: its annotation file, or its lists."""
        return tuple(path.resolve() for path in self.lists or (self.annotations,))

    def to_json(self) -> dict[str, Any]:
        """By which another process finds it again, from anywhere."""
        return {
            "split": self.name,
            "annotations": str(self.annotations.resolve()),
            "images": str(self.images.resolve()),
            "lists": [str(path.resolve()) for path in self.lists],
            "root": str(self.root.resolve()) if self.root else None,
            "outside_images": self.outside,
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
        )


def find_split(
    data: Path, split: str, *, images: Path | None = None, outside: bool = False
) -> Split:
    """Finds one split of a data set.

    Args:
        data: a folder in COCO, Roboflow or VOC layout, or an annotation file, which then is the
            split.
        split: "train", "val" (also "valid"), "test", or any name used in the layouts; of VOC's
            also lists by year, "VOC2007/trainval+VOC2012/trainval".
        images: the folder of images, where it is not beside the annotations.
        outside: let the annotations name images that lie outside of the data set's folder.

    Raises:
        InputError: nothing fits, or more than one file does.
    """
    found = _find_split(data, split, images)
    return replace(found, outside=outside)


def _find_split(data: Path, split: str, images: Path | None) -> Split:
    data, name = Path(data), _canonical(split)
    if images is not None and not Path(images).is_dir():
        raise InputError(f"{images}: the folder of images does not exist")
    if data.is_file():
        if images is not None:
            return Split(name, data, Path(images))
        folder = data.parent
        root = folder.parent if folder.name == "annotations" else folder
        return Split(name, data, _images_beside(data), root=root)
    _require_folder(data)
    found = _find(data, name)
    if found is None:
        present = [other for other in SPLITS if _find(data, other, strict=False)]
        if not present and (years := find_years(data)):
            if images is not None:
                raise InputError(f"{data}: a VOC data set has its own images; leave out {images}")
            return _of_voc(data, name, years)
        has = f"it has {', '.join(present)}" if present else f"looked for {_TRIED}"
        raise InputError(f"{data}: no annotations of the split {split!r}; {has}")
    place = Path(images) if images else _images_of(data, found, name)
    return Split(name, found, place, root=data)


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
    names = [name for name in SPLITS if _find(data, name) is not None]
    if not names:
        names = list(find_standard(find_years(data)))
    if not names:
        raise InputError(f"{data}: no data set found; looked for {_TRIED}")
    return {name: find_split(data, name, outside=outside) for name in names}


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


def _canonical(split: str) -> str:
    return next((name for name, known in _SPELLINGS.items() if split in known), split)


def _of_voc(data: Path, name: str, years: dict[str, Path]) -> Split:
    lists = find_lists(years, name)
    if not lists:
        present = ", ".join(find_standard(years)) or "none of train, val and test"
        raise InputError(
            f"{data}: no list of the split {name!r}; it has {present}, and lists by year, as "
            f"{next(iter(years))}/trainval"
        )
    return Split(name, lists[0], names_root(years, data), lists, root=data)


def _require_folder(data: Path) -> None:
    if not data.is_dir():
        if data.suffix == ".json":
            raise InputError(f"{data}: no such annotation file")
        raise InputError(f"{data}: no such folder; give the folder of a data set")


def _find(data: Path, name: str, *, strict: bool = True) -> Path | None:
    """The annotation file of a split, or None; `strict` refuses to choose among several."""
    spellings = _SPELLINGS.get(name, (name,))
    exact = [data / "annotations" / f"instances_{spelling}.json" for spelling in spellings]
    exact += [data / spelling / "_annotations.coco.json" for spelling in spellings]
    for path in exact:
        if path.is_file():
            return path
    folder, matches = data / "annotations", list[Path]()
    for prefix in _PREFIXES:
        matches = matches or sorted(folder.glob(f"{prefix}{name}*.json"))
    if len(matches) > 1 and strict:
        raise InputError(
            f"{data}: {' and '.join(m.name for m in matches)} both fit the split {name!r}; "
            "give the annotation file itself, with its folder of images"
        )
    return matches[0] if matches else None


def _images_of(data: Path, annotations: Path, name: str) -> Path:
    if annotations.parent.name != "annotations":
        return annotations.parent  # Roboflow keeps a split's images beside its JSON
    stem = _plain_stem(annotations)
    candidates = [data / stem, data / "images" / stem]
    for spelling in _SPELLINGS.get(name, (name,)):
        candidates += sorted(data.glob(f"{spelling}*")) + sorted(
            (data / "images").glob(f"{spelling}*")
        )
    for folder in [*candidates, data / "images"]:
        if folder.is_dir():
            return folder
    raise InputError(
        f"{annotations}: its images are in none of {data / stem}, {data / 'images' / stem}, "
        f"{data / 'images'}; give their folder explicitly"
    )


def _plain_stem(annotations: Path) -> str:
    """What an annotation file's name says of its split: "val2017"."""
    stem = annotations.stem
    for prefix in _PREFIXES:
        stem = stem.removeprefix(prefix)
    return stem


def _images_beside(annotations: Path) -> Path:
    """The images of an annotation file given by itself, by the habits of the layouts."""
    if annotations.parent.name == "annotations":
        stem = _plain_stem(annotations)
        return _images_of(annotations.parent.parent, annotations, stem)
    beside = annotations.parent / "images"
    return beside if beside.is_dir() else annotations.parent
