"""Pascal VOC: its XML files and its folders, one year or several.

VOC counts pixels from 1 and its boxes end on their last pixel: a box from 1 to 60 covers all of an
image 60 pixels wide, and is 0 … 60 in COCO. Difficult objects become crowds, which are neither
trained on nor counted.

A data set is a VOCdevkit with VOC2007, VOC2012 …, a folder that holds a VOCdevkit, or one year's
folder with Annotations/, JPEGImages/ and ImageSets/Main/. Where there is an annotated test list
and a trainval list, the splits are the papers': train is trainval of all years that have it, val is
test of all years that have it. Else train, val and test are the lists of these names. To be
converted it may also be any other folder of XML files with their images, see `read_voc`.
"""

import contextlib
import hashlib
import os
import xml.etree.ElementTree as ElementTree
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.coco.masks import MAX_SIDE
from detnet.data.folders import SPELLINGS, SPLITS, DatasetFormat, Split, leaves
from detnet.data.formats.interchange import (
    LabelledBox,
    Picture,
    PictureSet,
    Progress,
    finite,
    image_files,
    measure,
    read_text,
    to_content,
    unique_names,
)
from detnet.data.images import inspect_image
from detnet.errors import InputError

_SPLIT_FOLDERS = {word: name for name in SPLITS for word in SPELLINGS.get(name, (name,))}
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


def read_voc(
    folder: Path,
    *,
    keep_difficult: bool = False,
    zero_based: bool = False,
    progress: Progress | None = None,
) -> PictureSet:
    """Reads a folder of XML files with their images, in VOC's own layout or any other.

    Splits are those of ImageSets/Main, else folders named train, val, valid or test, else all is
    train. An image belongs to the XML file of the same stem, else to the one that names it.
    Classes are in the order of labels.txt or classes.txt, else alphabetical.

    Args:
        keep_difficult: makes difficult objects ordinary ones, not crowds, which are ignored.
        zero_based: coordinates count from 0 and end after the last pixel, as some tools write.

    Raises:
        InputError: a file cannot be read; the message names it and the object.
    """
    notes: list[str] = []
    images = _ImageFinder(folder)
    found: dict[str, list[tuple[Path | None, Path, ElementTree.Element]]] = {}
    for split, members in _splits(folder, images, notes).items():
        found[split] = []
        for place in members:
            xml = place if place.suffix == ".xml" else None
            root = parse_annotation(xml) if xml else ElementTree.Element("annotation")
            image = images.of(place, root.findtext("filename") or "") if xml else place
            if image is None:
                raise InputError(f"{xml}: {folder} has no image that belongs to it")
            found[split].append((xml, image, root))
    files = measure((image for rows in found.values() for _, image, _ in rows), progress)
    splits: dict[str, list[Picture]] = {}
    for split, rows in found.items():
        names = unique_names(image for _, image, _ in rows)
        for xml, image, root in rows:
            width, height = annotated_size(root) or files[image].upright_size
            boxes = read_objects(root, xml, keep_difficult=keep_difficult, zero_based=zero_based)
            picture = Picture(image, names[image], width, height, boxes)
            splits.setdefault(split, []).append(picture)
    result = PictureSet([], splits, notes)
    used = {box.name for picture in result.pictures for box in picture.boxes}
    result.classes = class_names(folder, used)
    _note(result, keep_difficult=keep_difficult)
    return result


def parse_annotation(path: Path) -> ElementTree.Element:
    """Reads the file as far as its outermost element.

    Raises:
        InputError: it is not there, cut, or no annotation of VOC's kind.
    """
    try:
        root = ElementTree.fromstring(path.read_bytes())
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: not a whole XML file: {error}") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    if root.tag != "annotation":
        raise InputError(f"{path}: not a VOC annotation: starts with <{root.tag}>")
    return root


def annotated_size(root: ElementTree.Element) -> tuple[int, int] | None:
    """Width and height as annotated; None where tools write 0, nothing or nonsense."""
    sides = [root.findtext(f"size/{side}", "").strip() for side in ("width", "height")]
    # Python reads no integer of more than 4,300 digits.
    if all(side.isdecimal() and len(side) < 10 and 0 < int(side) <= MAX_SIDE for side in sides):
        return int(sides[0]), int(sides[1])
    return None


def read_objects(
    root: ElementTree.Element,
    path: Path | None,
    *,
    keep_difficult: bool = False,
    zero_based: bool = False,
) -> list[LabelledBox]:
    """The objects of one image; their parts (heads, hands, feet) are none.

    Args:
        path: of the file, for messages.
        keep_difficult: makes difficult objects ordinary ones, not crowds.
        zero_based: coordinates count from 0 and end after the last pixel, as some tools write.

    Raises:
        InputError: an object lacks its name or a corner; the message names file and object.
    """
    boxes = []
    for number, node in enumerate(root.findall("object"), start=1):
        where = f"{path}: object {number}"
        name = (node.findtext("name") or "").strip()
        if not name:
            raise InputError(f"{where}: has no <name>")
        corners = []
        for key in _CORNERS:
            text = node.findtext(f"bndbox/{key}")
            if text is None:
                raise InputError(f"{where} ({name}): has no <{key}> in <bndbox>")
            corners.append(finite(text, f"{where} ({name})"))
        left, top, right, bottom = corners
        if not zero_based:
            left, top = left - 1, top - 1
        difficult = (node.findtext("difficult") or "0").strip() not in ("0", "")
        box = (left, top, right - left, bottom - top)
        boxes.append(LabelledBox(name, box, crowd=difficult and not keep_difficult))
    return boxes


class _ImageFinder:
    """Finds the image of an XML file; outlines painted as images (Segmentation…/) are none."""

    def __init__(self, folder: Path) -> None:
        self.by_stem: dict[str, list[Path]] = {}
        self.by_name: dict[str, list[Path]] = {}
        for path in image_files(folder):
            if not any(part.startswith("Segmentation") for part in path.parts[:-1]):
                self.by_stem.setdefault(path.stem, []).append(path)
                self.by_name.setdefault(path.name, []).append(path)

    def of(self, place: Path, filename: str = "") -> Path | None:
        """The image of the file's stem, else the one it names; of several the nearest."""
        known = self.by_stem.get(place.stem) or self.by_name.get(
            filename.replace("\\", "/").split("/")[-1], []
        )
        return min(known, key=lambda path: _steps(place, path), default=None)


def _steps(a: Path, b: Path) -> int:
    """How many folders one leaves and enters to get from one file to the other."""
    shared = sum(x == y for x, y in zip(a.parts, b.parts, strict=False))
    return len(a.parts) + len(b.parts) - 2 * shared


def _splits(folder: Path, images: _ImageFinder, notes: list[str]) -> dict[str, list[Path]]:
    """The XML files of each split, and the images that ImageSets lists without one."""
    xmls = sorted(folder.rglob("*.xml"))
    listings = sorted(folder.rglob("ImageSets/Main"))
    if len(listings) > 1:
        several = ", ".join(str(path.parent.parent) for path in listings)
        raise InputError(f"{folder}: holds several data sets; convert them one by one: {several}")
    if listings:
        splits = _listed(listings[0], {path.stem: path for path in xmls}, images)
        unlisted = len(set(xmls).difference(*splits.values()))
        if splits and unlisted:
            notes.append(f"left out {unlisted} XML files that ImageSets/Main does not list")
        if splits:
            return splits
    splits = {name: [] for name in SPLITS}
    for path in xmls:
        folders = [part.lower() for part in path.relative_to(folder).parts[:-1]]
        named = [_SPLIT_FOLDERS[part] for part in folders if part in _SPLIT_FOLDERS]
        splits[named[0] if named else "train"].append(path)
    bare = len(set(images.by_stem) - {path.stem for path in xmls})
    if bare:
        notes.append(f"left out {bare} images without an XML file")
    return {split: paths for split, paths in splits.items() if paths}


def _listed(listing: Path, xmls: dict[str, Path], images: _ImageFinder) -> dict[str, list[Path]]:
    """The splits that ImageSets/Main lists; trainval stands in where there is no train."""
    lists = {path.stem: path for path in listing.glob("*.txt")}
    if "train" not in lists and "trainval" in lists:
        lists["train"] = lists["trainval"]
    splits: dict[str, list[Path]] = {}
    for split in (name for name in SPLITS if name in lists):
        lines = read_text(lists[split]).splitlines()
        splits[split] = []
        for stem in dict.fromkeys(line.split()[0] for line in lines if line.strip()):
            place = xmls.get(stem) or images.of(listing / f"{stem}.xml")
            if place is None:
                raise InputError(f"{lists[split]}: {stem!r} has neither an XML file nor an image")
            splits[split].append(place)
    return splits


def class_names(folder: Path, used: set[str]) -> list[str]:
    """The classes in the order of labels.txt or classes.txt, others and else alphabetical."""
    for name in ("labels.txt", "classes.txt"):
        path = folder / name
        if path.is_file():
            lines = read_text(path).splitlines()
            listed = list(dict.fromkeys(line.strip() for line in lines if line.strip()))
            return listed + sorted(used - set(listed))
    return sorted(used)


def _note(pictures: PictureSet, *, keep_difficult: bool) -> None:
    boxes = [box for picture in pictures.pictures for box in picture.boxes]
    difficult = sum(box.crowd for box in boxes)
    if difficult and not keep_difficult:
        pictures.notes.append(
            f"marked {difficult} difficult objects as crowds, which are neither trained on nor "
            f"counted (--keep-difficult makes them ordinary)"
        )
    below = sum(min(box.box[:2]) < 0 for box in boxes)
    if below:
        pictures.notes.append(
            f"{below} boxes start before the first pixel, 1 in VOC; if the coordinates count "
            f"from 0, convert again with --zero-based"
        )


LISTS = Path("ImageSets", "Main")
STANDARD = ("train", "val", "trainval", "test")
_NO_OBJECT = "-1"  # second column of the lists that VOC has for each class
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

    def fingerprint(self, split: Split) -> str:
        """SHA-256 of the names and contents of the listed XML files, in their order."""
        digest = hashlib.sha256()
        for path in _places(split.lists):
            content = path.read_bytes() if path.is_file() else b""
            digest.update(f"{path.parents[1].name}/{path.name} {len(content)} ".encode() + content)
        return digest.hexdigest()


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
    pictures: list[Picture] = []
    for path, listing in places.items():
        if not path.is_file():
            raise InputError(
                f"{listing}: {path.stem!r} has no {path.parent.name}/{path.name}; add it, or take "
                "the line out"
            )
        element = parse_annotation(path)
        name, file = folders[path.parents[1]].image(path.stem, element)
        size = annotated_size(element) or _size_of(file, path)
        pictures.append(Picture(file, name, *size, read_objects(element, path)))
    used = {box.name for picture in pictures for box in picture.boxes}
    names = {picture.path: picture.name for picture in pictures}
    ids = _image_ids([path.stem for path in places])
    return to_content(pictures, _classes(root, used, places.keys()), names, ids=ids, exact=True)


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

    def image(self, stem: str, element: ElementTree.Element) -> tuple[str, Path]:
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


def read_list(path: Path) -> list[str]:
    """The stems that a list names, in its order, each once.

    Of the lists of one class, as dog_train.txt, those images are left out that have no such object.

    Raises:
        InputError: the list cannot be read.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "no text file"
        raise InputError(f"{path}: cannot be read: {reason}") from None
    rows = [line.split() for line in lines if line.strip()]
    out = next((row[0] for row in rows if leaves(row[0])), None)
    if out is not None:
        raise InputError(f"{path}: {out[:200]!r} leads out of the data set's folder")
    return list(dict.fromkeys(row[0] for row in rows if row[1:2] != [_NO_OBJECT]))


def annotation_file(listing: Path, stem: str) -> Path:
    """Where the XML file of a listed image is."""
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
