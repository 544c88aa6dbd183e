"""Pascal VOC's XML files: what one says, and any folder of them, read for conversion.

VOC counts pixels from 1 and its boxes end on their last pixel: a box from 1 to 60 covers all of an
image 60 pixels wide, and is 0 … 60 in COCO. Difficult objects become crowds, which are neither
trained on nor counted.
"""

import xml.etree.ElementTree as ElementTree
from collections.abc import Sequence
from pathlib import Path

from detnet.coco.masks import MAX_SIDE
from detnet.data.folders import SPELLINGS, SPLITS, leaves
from detnet.data.formats.interchange import (
    Flaws,
    LabelledBox,
    Picture,
    PictureSet,
    Progress,
    files_below,
    finite,
    image_files,
    measure,
    unique_names,
)
from detnet.errors import InputError
from detnet.files import read_text

_SPLIT_FOLDERS = {word: name for name in SPLITS for word in SPELLINGS.get(name, (name,))}
_MARKS = ("-1", "0", "1")  # the second column of the lists that VOC has for each class: no object …
_CORNERS = ("xmin", "ymin", "xmax", "ymax")
_DIFFICULT = ("1", "true", "yes")  # many tools write "Unspecified" for what nobody said


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
    Classes are those of labels.txt or classes.txt, else all names, alphabetical.

    Args:
        keep_difficult: makes difficult objects ordinary ones, not crowds, which are ignored.
        zero_based: coordinates count from 0 and end after the last pixel, as some tools write.

    Raises:
        InputError: the folder holds several data sets, or a list cannot be read.
        UnsoundFiles: some files cannot be read; the message names the first and its object.
    """
    notes, flaws, classes = list[str](), Flaws(folder), listed_classes(folder)
    images = _ImageFinder(folder)
    found: dict[str, list[tuple[Path | None, Path, ElementTree.Element]]] = {}
    for split, members in _splits(folder, images, notes).items():
        found[split] = []
        for place in members:
            xml = place if place.suffix.lower() == ".xml" else None
            with flaws.noting(place, "unreadable-xml"):
                root = parse_annotation(xml) if xml else ElementTree.Element("annotation")
                image = images.of(place, root.findtext("filename") or "") if xml else place
                if image is None:
                    raise InputError(f"{xml}: {folder} has no image that belongs to it")
                found[split].append((xml, image, root))
    files = measure((image for rows in found.values() for _, image, _ in rows), flaws, progress)
    splits: dict[str, list[Picture]] = {}
    for split, rows in found.items():
        names = unique_names(image for _, image, _ in rows)
        for xml, image, root in rows:
            boxes = read_objects(
                root, xml, flaws, classes, keep_difficult=keep_difficult, zero_based=zero_based
            )
            if image in files:
                width, height = annotated_size(root) or files[image].upright_size
                picture = Picture(image, names[image], width, height, boxes)
                splits.setdefault(split, []).append(picture)
    flaws.settle()
    result = PictureSet(classes, splits, notes)
    used = {box.name for picture in result.pictures for box in picture.boxes}
    result.classes = classes or sorted(used)
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
    flaws: Flaws,
    classes: Sequence[str] = (),
    *,
    keep_difficult: bool = False,
    zero_based: bool = False,
) -> list[LabelledBox]:
    """The objects of one image; their parts (heads, hands, feet) are none.

    Args:
        path: of the file, for messages.
        flaws: takes those that lack their name or a corner, which are left out.
        classes: the names there may be; any if none are given.
        keep_difficult: makes difficult objects ordinary ones, not crowds.
        zero_based: coordinates count from 0 and end after the last pixel, as some tools write.
    """
    boxes = []
    for number, node in enumerate(root.findall("object"), start=1):
        with flaws.noting(Path(str(path)), "bad-object"):
            place = str(path), f"object {number}"
            name, corners = _read_object(node, ": ".join(place), classes)
            left, top, right, bottom = corners
            if not zero_based:
                left, top = left - 1, top - 1
            difficult = node.findtext("difficult", "").strip().lower() in _DIFFICULT
            box = (left, top, right - left, bottom - top)
            crowd = difficult and not keep_difficult
            boxes.append(LabelledBox(name, box, crowd=crowd, place=place))
    return boxes


def _read_object(
    node: ElementTree.Element, where: str, classes: Sequence[str]
) -> tuple[str, list[float]]:
    """Its name and the numbers of its corners, as they are written."""
    name = (node.findtext("name") or "").strip()
    if not name:
        raise InputError(f"{where}: has no <name>")
    if classes and name not in classes:
        raise InputError(
            f"{where}: class {name!r} is not in labels.txt or classes.txt; correct it, or add it "
            "there"
        )
    corners = []
    for key in _CORNERS:
        text = node.findtext(f"bndbox/{key}")
        if text is None:
            raise InputError(f"{where} ({name}): has no <{key}> in <bndbox>")
        corners.append(finite(text, f"{where} ({name})"))
    return name, corners


class _ImageFinder:
    """Finds the image of an XML file; outlines painted as images (Segmentation…/) are none."""

    def __init__(self, folder: Path) -> None:
        self.by_stem: dict[str, list[Path]] = {}
        self.by_name: dict[str, list[Path]] = {}
        for path in image_files(folder):
            below = path.relative_to(folder).parts[:-1]
            if not any(part.startswith("Segmentation") for part in below):
                self.by_stem.setdefault(path.stem, []).append(path)
                self.by_name.setdefault(path.name, []).append(path)

    def of(self, place: Path, filename: str = "") -> Path | None:
        """The image of the file's stem, else the one it names; of several the nearest."""
        known = self.by_stem.get(place.stem) or self.by_name.get(
            filename.replace("\\", "/").split("/")[-1], []
        )
        return min(known, key=lambda path: _steps(place, path), default=None)


def _steps(a: Path, b: Path) -> tuple[int, int]:
    """How many folders one leaves and enters between two files; if as many, less by like names."""
    above = sum(x == y for x, y in zip(a.parts, b.parts, strict=False))
    alike = sum(x == y for x, y in zip(a.parts[-2::-1], b.parts[-2::-1], strict=False))
    return len(a.parts) + len(b.parts) - 2 * above, -alike


def _splits(folder: Path, images: _ImageFinder, notes: list[str]) -> dict[str, list[Path]]:
    """The XML files of each split, and the images that ImageSets lists without one."""
    xmls = files_below(folder, {".xml"})
    listings = sorted(folder.rglob("ImageSets/Main"))
    if len(listings) > 1:
        several = ", ".join(str(path.parent.parent) for path in listings)
        raise InputError(f"{folder}: holds several data sets; convert them one by one: {several}")
    if listings:
        splits = _listed(listings[0], xmls, images)
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


def _listed(listing: Path, xmls: list[Path], images: _ImageFinder) -> dict[str, list[Path]]:
    """The splits that ImageSets/Main lists; trainval stands in where there is no train."""
    year, there, known = listing.parents[1], set(xmls), {path.stem: path for path in xmls}
    lists = {path.stem: path for path in listing.glob("*.txt")}
    if "train" not in lists and "trainval" in lists:
        lists["train"] = lists["trainval"]
    splits: dict[str, list[Path]] = {}
    for split in (name for name in SPLITS if name in lists):
        splits[split] = []
        for stem in read_list(lists[split]):
            xml = year / "Annotations" / f"{stem}.xml"  # the stem may begin with a folder
            place = xml if xml in there else known.get(stem) or images.of(xml)
            if place is None:
                raise InputError(f"{lists[split]}: {stem!r} has neither an XML file nor an image")
            splits[split].append(place)
    return splits


def read_list(path: Path) -> list[str]:
    """The stems that a list names, in its order, each once.

    Of the lists of one class, as dog_train.txt, those images are left out that have no such object.

    Raises:
        InputError: the list cannot be read, or leads out of the data set.
    """
    rows = [split_line(line) for line in read_text(path).splitlines() if line.strip()]
    out = next((stem for stem, _ in rows if leaves(stem)), None)
    if out is not None:
        raise InputError(f"{path}: {out[:200]!r} leads out of the data set's folder")
    return list(dict.fromkeys(stem for stem, mark in rows if mark != _MARKS[0]))


def split_line(line: str) -> tuple[str, str]:
    """The stem that a line of a list names, which may hold blanks, and its mark or ""."""
    stem, *mark = line.strip().rsplit(None, 1)
    return (stem, mark[0]) if mark and mark[0] in _MARKS else (line.strip(), "")


def listed_classes(*folders: Path) -> list[str]:
    """The lines of the first labels.txt or classes.txt that there is; none without one.

    Raises:
        InputError: it cannot be read.
    """
    for path in (folder / name for folder in folders for name in ("labels.txt", "classes.txt")):
        if path.is_file():
            lines = read_text(path).splitlines()
            return list(dict.fromkeys(line.strip() for line in lines if line.strip()))
    return []


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
