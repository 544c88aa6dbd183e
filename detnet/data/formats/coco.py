"""COCO's folders, and Roboflow's: a JSON file for each split, with the images beside or near it."""

from pathlib import Path
from typing import Any

from detnet.data.folders import SPELLINGS, SPLITS, DatasetFormat, Split
from detnet.errors import InputError
from detnet.files import read_json

_PREFIXES = ("instances_", "person_keypoints_")  # of COCO's files; the second where it is alone


_HEAD = 65_536  # bytes of a JSON file, among which its first keys are


class CocoFolder(DatasetFormat):
    """annotations/instances_SPLIT*.json, images in SPLIT*/ or images/."""

    layout = "annotations/instances_SPLIT*.json with images in SPLIT*/ or images/ (COCO)"

    def find(self, data: Path, name: str, images: Path | None = None) -> Split | None:
        """Finds a split's annotation file and its images.

        Raises:
            InputError: two files fit, or its images are nowhere.
        """
        found = _find(data, name)
        return (
            None if found is None else Split(name, found, images or _images_of(data, found, name))
        )

    def names(self, data: Path) -> tuple[str, ...]:
        """Which of train, val and test have a file or several, with images or without."""
        return tuple(name for name in SPLITS if _matches(data, name))

    def near_miss(self, data: Path) -> str:
        """Names an annotation file that lies where no layout has it, and how it is taken."""
        if data.name == "annotations" and self.names(data.parent):
            return f"give the folder above it, {data.parent}; "
        places = [*data.glob("*.json"), *data.glob("annotations/*.json")]
        found = next((path for path in sorted(places) if _looks_like_coco(path)), None)
        if found is None:
            return ""
        images = data / "images" if (data / "images").is_dir() else data
        return (
            f"{found.relative_to(data)} is an annotation file, but not where or as a layout has "
            f"it: give {found} itself instead of the folder, or train with --train-annotations "
            f"{found} --train-images {images}; "
        )

    def read(self, split: Split) -> dict[str, Any]:
        return _less_group(read_json(split.annotations))

    def of_file(self, path: Path, name: str) -> Split:
        """An annotation file given by itself, with its images by the habits of the layouts.

        Raises:
            InputError: it lies in a layout that has them, but they are not there.
        """
        if path.parent.name == "annotations":
            root = path.parent.parent
            return Split(name, path, _images_of(root, path, _plain_stem(path)), root=root)
        beside = path.parent / "images"
        images = beside if beside.is_dir() else path.parent
        return Split(name, path, images, root=path.parent)


class RoboflowFolder(CocoFolder):
    """SPLIT/_annotations.coco.json with the images beside it."""

    layout = "SPLIT/_annotations.coco.json (Roboflow)"

    def find(self, data: Path, name: str, images: Path | None = None) -> Split | None:
        for spelling in SPELLINGS.get(name, (name,)):
            path = data / spelling / "_annotations.coco.json"
            if path.is_file():
                return Split(name, path, images or path.parent)
        return None

    def names(self, data: Path) -> tuple[str, ...]:
        return DatasetFormat.names(self, data)


def _less_group(content: dict[str, Any]) -> dict[str, Any]:
    """Leaves out the group that Roboflow lists before its classes, where one has its name."""
    match content:
        case {"categories": [{"id": 0, "name": name}, *classes], "annotations": [*rows]}:
            own = {"name": name, "supercategory": name}.items()
            repeated = any(isinstance(each, dict) and own <= each.items() for each in classes)
            used = any(isinstance(row, dict) and row.get("category_id") == 0 for row in rows)
            return {**content, "categories": classes} if repeated and not used else content
    return content


def _find(data: Path, name: str) -> Path | None:
    """The annotation file of a split, or None; among several it refuses to choose."""
    matches = _matches(data, name)
    if len(matches) > 1:
        raise InputError(
            f"{data}: {' and '.join(m.name for m in matches)} both fit the split {name!r}; "
            f"name one, as {_plain_stem(matches[0])!r}, or give the annotation file itself, with "
            "its folder of images"
        )
    return matches[0] if matches else None


def _matches(data: Path, name: str) -> list[Path]:
    """The annotation file of exactly this name, else those that begin with it."""
    for spelling in SPELLINGS.get(name, (name,)):
        path = data / "annotations" / f"instances_{spelling}.json"
        if path.is_file():
            return [path]
    folder, matches = data / "annotations", list[Path]()
    for prefix in _PREFIXES:
        matches = matches or sorted(folder.glob(f"{prefix}{name}*.json"))
    return matches


def _images_of(data: Path, annotations: Path, name: str) -> Path:
    stem = _plain_stem(annotations)
    candidates = [data / stem, data / "images" / stem]
    for spelling in SPELLINGS.get(name, (name,)):
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


def _looks_like_coco(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            head = file.read(_HEAD)
    except OSError:
        return False
    return any(f'"{key}"'.encode() in head for key in ("images", "annotations", "categories"))
