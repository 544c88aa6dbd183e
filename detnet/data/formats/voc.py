"""Pascal VOC's folders, one year or several, as a data set.

A data set is a VOCdevkit with VOC2007, VOC2012 …, a folder that holds a VOCdevkit, or one year's
folder with Annotations/, JPEGImages/ and ImageSets/Main/. Where there is an annotated test list
and a trainval list, the splits are the papers': train is trainval of all years that have it, val is
test of all years that have it. Else train, val and test are the lists of these names. Any other
folder of XML files can be converted, see `detnet.data.formats.voc_xml.read_voc`.
"""

import contextlib
import hashlib
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.data.folders import DatasetFormat, Split
from detnet.data.formats.interchange import Flaws, Picture, files_below, image_files, to_content
from detnet.data.formats.voc_xml import (
    annotated_size,
    listed_classes,
    parse_annotation,
    read_list,
    read_objects,
)
from detnet.data.image_check import inspect_image
from detnet.errors import InputError

LISTS = Path("ImageSets", "Main")
STANDARD = ("train", "val", "trainval", "test")
_ID_DIGITS = 15  # of an image's id; more would be no exact number to programs that read JSON


class VocFolder(DatasetFormat):
    """ImageSets/Main/*.txt, Annotations/*.xml and JPEGImages/, of one year or several."""

    layout = "ImageSets/Main/*.txt, also in VOC2007/, VOC2012/ … (VOC)"

    def find(self, data: Path, name: str, images: Path | None = None) -> Split | None:
        """Finds the lists of a split, see `find_lists`.

        Raises:
            InputError: there is no such list, or images were named.
        """
        years = find_years(data)
        if not years:
            return None
        if images is not None:
            raise InputError(f"{data}: a VOC data set has its own images; leave out {images}")
        lists = find_lists(years, name)
        if not lists:
            present = ", ".join(find_standard(years)) or "none of train, val and test"
            raise InputError(
                f"{data}: no list of the split {name!r}; it has {present}, and lists by year, as "
                f"{next(iter(years))}/trainval"
            )
        return Split(name, lists[0], names_root(years, data), lists)

    def names(self, data: Path) -> tuple[str, ...]:
        return find_standard(find_years(data))

    def read(self, split: Split) -> dict[str, Any]:
        return read_voc_lists(split.lists, split.images)

    def unread(self, data: Path) -> list[Path]:
        """XML files that no list names."""
        years = find_years(data).values()
        listed = {
            annotation_file(path, stem)
            for year in years
            for path in (year / LISTS).glob("[!.]*.txt")
            for stem in read_list(path)
        }
        present = {path for y in years for path in files_below(y / "Annotations", {".xml"})}
        return sorted(present - listed)

    def fingerprint(self, split: Split) -> str:
        """SHA-256 of the names and contents of the listed XML files, in their order."""
        digest = hashlib.sha256()
        for path, (listing, stem) in _places(split.lists).items():
            content = path.read_bytes() if path.is_file() else b""
            name = f"{listing.parents[2].name}/{stem}.xml {len(content)} "
            digest.update(name.encode(errors="surrogateescape") + content)
        return digest.hexdigest()


def read_voc_lists(lists: Sequence[Path], root: Path) -> dict[str, Any]:
    """Reads the XML files of the listed images.

    An image's id is its name's number (2007_000027: 2007000027), or its position where the names
    are no numbers or two years share one. Classes are those of labels.txt, else the names
    in all of the data's train, val and test lists, alphabetical: all splits have the same.

    Args:
        lists: files of ImageSets/Main, each image counted once.
        root: where the names of images start: the folder of the years, or the only year's.

    Raises:
        InputError: a list or the folder of images cannot be read.
        UnsoundFiles: some files are missing or cannot be read; the message names the first and its
            object.
    """
    places = _places(lists)
    folders = {year: _Folder(year, root) for year in {path.parents[2] for path in lists}}
    listed = listed_classes(root, *find_years(root).values())
    stems, pictures, flaws = list[str](), list[Picture](), Flaws(root)
    for path, (listing, stem) in places.items():
        if not path.is_file():
            message = f"{stem!r} has no Annotations/{stem}.xml"
            flaws.add(listing, "missing-xml", f"{message}; add it, or take the line out")
            continue
        with flaws.noting(path, "unreadable-xml"):
            element = parse_annotation(path)
            name, file = folders[listing.parents[2]].image(stem, element)
            boxes = read_objects(element, path, flaws, listed)
            size = annotated_size(element) or _size_of(file, path)
            pictures.append(Picture(file, name, *size, boxes))
            stems.append(stem)
    used = {box.name for picture in pictures for box in picture.boxes}
    names = {picture.path: picture.name for picture in pictures}
    classes = listed or _classes(root, used, places.keys())
    ids = _image_ids(stems)
    content = to_content(pictures, classes, names, ids=ids, exact=True, placed=True)
    flaws.settle(content)
    return content


def _places(lists: Sequence[Path]) -> dict[Path, tuple[Path, str]]:
    """The XML file of each listed image, each once, and the list that names it, and how."""
    places: dict[Path, tuple[Path, str]] = {}
    for listing in lists:
        for stem in read_list(listing):
            places.setdefault(annotation_file(listing, stem), (listing, stem))
    return places


class _Folder:
    """The images of one year's JPEGImages, looked up without asking the disk for each."""

    def __init__(self, year: Path, root: Path) -> None:
        self.folder = year / "JPEGImages"
        self.prefix = "JPEGImages" if year == root else f"{year.name}/JPEGImages"
        if not self.folder.is_dir():
            raise InputError(f"{self.folder}: no such folder; VOC keeps its images there")
        names = [path.relative_to(self.folder).as_posix() for path in image_files(self.folder)]
        self.by_stem = {os.path.splitext(name)[0]: name for name in reversed(names)}

    def image(self, stem: str, element: ElementTree.Element) -> tuple[str, Path]:
        """Name and place of an image: of the XML file's stem, else the one that the file names."""
        written = element.findtext("filename", "").replace("\\", "/").split("/")[-1].strip()
        written = f"{stem.rpartition('/')[0]}/{written}".lstrip("/")
        name = self.by_stem.get(stem)
        name = name or (written if os.path.isfile(self.folder / written) else f"{stem}.jpg")
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
    years = find_years(root).values()
    lists = [year / LISTS / f"{name}.txt" for year in years for name in STANDARD]
    everything = _places([path for path in lists if path.is_file()])
    for path in everything.keys() - set(known):
        with contextlib.suppress(InputError):  # what is wrong there is told when it is asked for
            boxes = read_objects(parse_annotation(path), path, Flaws(root))
            used = used | {box.name for box in boxes}
    return sorted(used)


def find_years(data: Path) -> dict[str, Path]:
    """The folders with lists, by name; none where DATA is no VOC data set."""
    if (data / LISTS).is_dir():
        return {data.resolve().name: data}
    for root in (data, data / "VOCdevkit"):
        found = {path.parents[1].name: path.parents[1] for path in sorted(root.glob(f"*/{LISTS}"))}
        if found:
            return found
    return {}


def names_root(years: Mapping[str, Path], data: Path) -> Path:
    """The folder that names of images start from: that of the years, or the only year's own."""
    if list(years.values()) == [data]:
        return data
    return next(iter(years.values())).parent


def find_lists(years: Mapping[str, Path], split: str) -> tuple[Path, ...]:
    """The lists that make up a split; none where there are none.

    Args:
        split: "train", "val", "test", the name of another list (of all years that have it), or
            lists by their years, joined: "VOC2007/trainval+VOC2012/trainval".

    Raises:
        InputError: a list named by its year is not there.
    """
    if "/" in split:
        return tuple(_list(years, part.strip()) for part in split.split("+"))
    return _plan(years).get(split) or _all(years, split)


def find_standard(years: Mapping[str, Path]) -> tuple[str, ...]:
    """Those of train, val and test that are there; not test where it is val."""
    plan = _plan(years)
    same = plan.get("test") == plan.get("val")
    return tuple(name for name in plan if not (same and name == "test"))


def annotation_file(listing: Path, stem: str) -> Path:
    """Where the XML file of a listed image is; the stem may begin with a folder."""
    return listing.parents[2] / "Annotations" / f"{stem}.xml"


def _plan(years: Mapping[str, Path]) -> dict[str, tuple[Path, ...]]:
    """The lists of train, val and test: the papers' where the data are complete."""
    tests = tuple(path for path in _all(years, "test") if _annotated(path))
    trainval = _all(years, "trainval")
    if tests and trainval:
        return {"train": trainval, "val": tests, "test": tests}
    plan = {name: _all(years, name) for name in ("train", "val")} | {"test": tests}
    plan["train"] = plan["train"] or trainval
    return {name: lists for name, lists in plan.items() if lists}


def _annotated(listing: Path) -> bool:
    """Whether the list has annotations, which VOC keeps to itself for its later tests."""
    stems = read_list(listing)
    return bool(stems) and annotation_file(listing, stems[0]).is_file()


def _all(years: Mapping[str, Path], name: str) -> tuple[Path, ...]:
    paths = [folder / LISTS / f"{name}.txt" for folder in years.values()]
    return tuple(path for path in paths if path.is_file())


def _list(years: Mapping[str, Path], part: str) -> Path:
    year, _, name = part.partition("/")
    if year not in years:
        raise InputError(f"{part!r}: there is no {year!r}; the data have {', '.join(years)}")
    path = years[year] / LISTS / f"{name}.txt"
    if not path.is_file():
        has = [known for known in STANDARD if (path.parent / f"{known}.txt").is_file()]
        raise InputError(f"{path}: no such list; {year} has {', '.join(has) or 'no standard ones'}")
    return path
