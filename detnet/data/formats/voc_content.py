"""What lists of a VOC data set hold, in the form of a COCO annotation file's content.

Difficult objects become crowds, which are neither trained on nor counted. Boxes are converted as
`detnet convert` does: what VOC counts from 1 to 60 is 0 … 60 here.
"""

import contextlib
import hashlib
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element

from detnet.data.formats.interchange import LabelledBox
from detnet.data.formats.voc import class_names
from detnet.data.formats.voc_lists import LISTS, STANDARD, annotation_file, find_years, read_list
from detnet.data.formats.voc_xml import annotated_size, parse_annotation, read_objects
from detnet.data.image_files import inspect_image
from detnet.errors import InputError

_ID_DIGITS = 15  # of an image's id; more would be no exact number to programs that read JSON


def read_voc_lists(lists: Sequence[Path], root: Path) -> dict[str, Any]:
    """Reads the XML files of the listed images.

    An image's id is its name's number (2007_000027: 2007000027), or its position where the names
    are no numbers or two years share one. Classes are in the order of labels.txt, else the names
    in all of the data's train, val and test lists, alphabetical: all splits have the same.

    Args:
        lists: files of ImageSets/Main, each image counted once.
        root: where the names of images start: the folder of the years, or the only year's.

    Raises:
        InputError: a file is missing or cannot be read; the message names it and the object.
    """
    places = _places(lists)
    folders = {path: _Folder(path, root) for path in dict.fromkeys(p.parents[1] for p in places)}
    images: list[dict[str, Any]] = []
    objects: list[list[LabelledBox]] = []
    ids = _image_ids([path.stem for path in places])
    for number, (path, listing) in zip(ids, places.items(), strict=True):
        if not path.is_file():
            raise InputError(
                f"{listing}: {path.stem!r} has no {path.parent.name}/{path.name}; add it, or take "
                "the line out"
            )
        element = parse_annotation(path)
        name, file = folders[path.parents[1]].image(path.stem, element)
        width, height = annotated_size(element) or _size_of(file, path)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        objects.append(read_objects(element, path))
    used = {box.name for boxes in objects for box in boxes}
    names = _classes(root, used, known=places.keys())
    return {
        "images": images,
        "annotations": _records(ids, objects, {name: i for i, name in enumerate(names, start=1)}),
        "categories": [{"id": i, "name": name} for i, name in enumerate(names, start=1)],
    }


def fingerprint_voc_lists(lists: Sequence[Path]) -> str:
    """SHA-256 of the listed annotations: names and contents of the XML files, in their order."""
    digest = hashlib.sha256()
    for path in _places(lists):
        content = path.read_bytes() if path.is_file() else b""
        digest.update(f"{path.parents[1].name}/{path.name} {len(content)} ".encode() + content)
    return digest.hexdigest()


def _places(lists: Sequence[Path]) -> dict[Path, Path]:
    """The XML file of each listed image, each once, and the list that names it."""
    places: dict[Path, Path] = {}
    for listing in lists:
        for stem in read_list(listing):
            places.setdefault(annotation_file(listing, stem), listing)
    return places


class _Folder:
    """The images of one year's JPEGImages, looked up without asking the disk for each."""

    def __init__(self, year: Path, root: Path) -> None:
        self.folder = year / "JPEGImages"
        self.prefix = "JPEGImages" if year == root else f"{year.name}/JPEGImages"
        try:
            names = sorted(os.listdir(self.folder))
        except OSError:
            raise InputError(f"{self.folder}: no such folder; VOC keeps its images there") from None
        self.names = set(names)
        self.by_stem = {os.path.splitext(name)[0]: name for name in reversed(names)}

    def image(self, stem: str, element: Element) -> tuple[str, Path]:
        """Name and place of an image: of the XML file's stem, else the one that the file names."""
        written = element.findtext("filename", "").replace("\\", "/").split("/")[-1].strip()
        name = self.by_stem.get(stem, written if written in self.names else f"{stem}.jpg")
        return f"{self.prefix}/{name}", self.folder / name


def _image_ids(stems: Sequence[str]) -> Sequence[int]:
    digits = [stem.replace("_", "") for stem in stems]
    if all(text.isascii() and text.isdecimal() and len(text) <= _ID_DIGITS for text in digits):
        ids = [int(text) for text in digits]
        if len(set(ids)) == len(ids):
            return ids
    return range(1, len(stems) + 1)


def _size_of(image: Path, path: Path) -> tuple[int, int]:
    """The image's own size, where the XML file tells none."""
    facts = inspect_image(image)
    if not facts.width:
        raise InputError(f"{path}: has no <size>, and the image {image}: {facts.message}")
    return facts.upright_size


def _classes(root: Path, used: set[str], known: Iterable[Path]) -> list[str]:
    """The names of all classes; `known` are the files whose names are in `used` already."""
    years = find_years(root)
    for folder in (root, *years.values()):
        if any((folder / name).is_file() for name in ("labels.txt", "classes.txt")):
            return class_names(folder, used)
    lists = [year / LISTS / f"{name}.txt" for year in years.values() for name in STANDARD]
    everything = _places([path for path in lists if path.is_file()])
    for path in everything.keys() - set(known):
        with contextlib.suppress(InputError):  # what is wrong there is told when it is asked for
            used = used | {box.name for box in read_objects(parse_annotation(path), path)}
    return sorted(used)


def _records(
    ids: Sequence[int], objects: Sequence[Sequence[LabelledBox]], classes: dict[str, int]
) -> list[dict[str, Any]]:
    records: list[dict[str, Any]] = []
    for image, boxes in zip(ids, objects, strict=True):
        for box in boxes:
            records.append(
                {
                    "id": len(records) + 1,
                    "image_id": image,
                    "category_id": classes[box.name],
                    "bbox": list(box.box),
                    "area": max(box.box[2], 0.0) * max(box.box[3], 0.0),
                    "iscrowd": int(box.crowd),
                }
            )
    return records
