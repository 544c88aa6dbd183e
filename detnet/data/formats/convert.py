"""Turns data sets from COCO, Pascal VOC or YOLO format into one another."""

import json
import re
import tempfile
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from detnet.data.formats import FORMATS
from detnet.data.formats.interchange import (
    LabelledBox,
    Picture,
    PictureSet,
    Progress,
    clipped,
    place_image,
    plain,
    to_content,
    unique_names,
)
from detnet.data.formats.sources import read_splits, recognise
from detnet.data.formats.voc_xml import read_voc, split_line
from detnet.data.formats.yolo import read_yolo
from detnet.errors import InputError
from detnet.files import write_text

# Characters that no XML 1.0 file may hold, escaped or not.
_NOT_XML = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


@dataclass(frozen=True)
class Conversion:
    """What `convert` did.

    Args:
        source_format: as recognised or given.
        counts: {split: {"images", "annotations"}} of the result.
        notes: what was left out or changed, one line each.
    """

    source_format: str
    counts: dict[str, dict[str, int]]
    notes: list[str] = field(default_factory=list)


def convert(
    source: Path,
    output: Path,
    *,
    source_format: str | None = None,
    target_format: str = "coco",
    link: bool = True,
    keep_difficult: bool = False,
    zero_based: bool = False,
    outside: bool = False,
    progress: Progress | None = None,
) -> Conversion:
    """Converts a data set into a new folder, which is there whole or not at all.

    Args:
        source: a folder in one of the formats, or a COCO file with its images beside it.
        output: must not exist.
        source_format: one of `FORMATS`; recognised if None.
        target_format: "coco", "voc" or "yolo".
        link: images are hard links to the source's where possible, else copies.
        keep_difficult: see `read_voc`.
        zero_based: see `read_voc`.
        outside: take images that lie outside of `source`, too, where its files name them.

    Raises:
        InputError: the source cannot be read, names an image outside of it, or the output exists.
        OSError: writing failed; it names the output.
    """
    source, output = Path(source), Path(output)
    if output.exists() or output.is_symlink():
        raise InputError(f"{output}: exists already; name a folder that does not")
    found = source_format or recognise(source)
    FORMATS.require(found)
    if found == target_format:
        raise InputError(f"{source}: is in {found} format already; nothing to convert")
    try:
        if found == "voc":
            pictures = read_voc(
                source, keep_difficult=keep_difficult, zero_based=zero_based, progress=progress
            )
        elif found == "yolo":
            pictures = read_yolo(source, outside=outside, progress=progress)
        else:
            pictures = read_splits(source, outside=outside)
        if not any(picture.boxes for picture in pictures.pictures):
            raise InputError(f"{source}: no image has an object")
    except InputError as error:
        other = "" if source_format else ", --from names another format"
        raise InputError(f"{error}; read as {found}{other}") from error
    pictures.join_repeated()
    write = {"coco": write_coco, "voc": write_voc, "yolo": write_yolo}[target_format]
    output.parent.mkdir(parents=True, exist_ok=True)
    try:
        with tempfile.TemporaryDirectory(dir=output.parent, prefix=f".{output.name}-") as scratch:
            whole = Path(scratch) / "data"
            whole.mkdir()
            written = write(pictures, whole, link=link)
            whole.rename(output)
    except OSError as error:
        if error.filename is not None:
            raise
        # Of a full disk the system does not say which file it was.
        raise OSError(error.errno, error.strerror or str(error), str(output)) from error
    counts = {
        split: {"images": len(members), "annotations": written[split]}
        for split, members in pictures.splits.items()
    }
    return Conversion(found, counts, pictures.notes)


def write_coco(pictures: PictureSet, folder: Path, *, link: bool = True) -> dict[str, int]:
    """Writes annotations/instances_SPLIT.json, ids from 1, with the images in images/SPLIT/.

    Returns:
        how many annotations each split got.
    """
    written: dict[str, int] = {}
    (folder / "annotations").mkdir(parents=True)
    for split, members in pictures.splits.items():
        short = unique_names(Path(picture.name) for picture in members)
        names = {picture.path: short[Path(picture.name)] for picture in members}
        for path, name in names.items():
            place_image(path, folder / "images" / split / name, link=link)
        content = to_content(members, pictures.classes, names)
        target = folder / "annotations" / f"instances_{split}.json"
        write_text(target, json.dumps(content, ensure_ascii=False))
        written[split] = len(content["annotations"])
    return written


def write_voc(pictures: PictureSet, folder: Path, *, link: bool = True) -> dict[str, int]:
    """Writes Annotations/, JPEGImages/, ImageSets/Main/ and labels.txt; crowds become difficult.

    Coordinates that are no whole pixels keep their fraction, as some of VOC's own do.

    Returns:
        how many objects each split got.

    Raises:
        InputError: a name or class holds a character that XML cannot hold.
    """
    for part in ("Annotations", "JPEGImages", "ImageSets/Main"):
        (folder / part).mkdir(parents=True)
    names = unique_names(Path(split, p.name) for split, ps in pictures.splits.items() for p in ps)
    lost = masks = 0
    written: dict[str, int] = {}
    for split, members in pictures.splits.items():
        stems = []
        written[split] = 0
        for picture in members:
            name = names[Path(split, picture.name)]
            stem = Path(name).stem
            stems.append(stem)
            root = ElementTree.Element("annotation")
            _set(root, "folder", "JPEGImages")
            _set(root, "filename", name)
            size = ElementTree.SubElement(root, "size")
            for key, value in (("width", picture.width), ("height", picture.height), ("depth", 3)):
                _set(size, key, value)
            _set(root, "segmented", 0)
            for box in picture.boxes:
                there = _write_object(root, box, picture)
                written[split] += there
                lost += not there
                masks += box.polygons is not None or box.rle is not None
            ElementTree.indent(root)
            xml = folder / "Annotations" / f"{stem}.xml"
            ElementTree.ElementTree(root).write(xml, encoding="utf-8")
            place_image(picture.path, folder / "JPEGImages" / name, link=link)
        # "photo 1" would be the image "photo" with a mark, so it gets one.
        listing = "".join(f"{s} 1\n" if split_line(s)[1] else f"{s}\n" for s in stems)
        (folder / "ImageSets" / "Main" / f"{split}.txt").write_text(listing, encoding="utf-8")
    labels = "".join(f"{name}\n" for name in pictures.classes)
    (folder / "labels.txt").write_text(labels, encoding="utf-8")
    if lost:
        pictures.notes.append(f"left out {lost} boxes without a pixel inside their image")
    if masks:
        pictures.notes.append(f"left out the masks of {masks} objects: VOC's XML has boxes only")
    return written


def _write_object(root: ElementTree.Element, box: LabelledBox, picture: Picture) -> bool:
    inside = clipped(box.box, picture.width, picture.height)
    if inside is None:
        return False
    x, y, width, height = inside
    node = ElementTree.SubElement(root, "object")
    _set(node, "name", box.name)
    _set(node, "pose", "Unspecified")
    _set(node, "truncated", 0)
    _set(node, "difficult", int(box.crowd))
    corners = ElementTree.SubElement(node, "bndbox")
    for key, value in (("xmin", x + 1), ("ymin", y + 1), ("xmax", x + width), ("ymax", y + height)):
        _set(corners, key, plain(value))
    return True


def _set(parent: ElementTree.Element, key: str, value: object) -> None:
    text = str(value)
    if strange := _NOT_XML.search(text):
        raise InputError(
            f"{key} {text[:60]!r}: XML cannot hold the character {strange[0]!r}; rename it first"
        )
    ElementTree.SubElement(parent, key).text = text


def write_yolo(pictures: PictureSet, folder: Path, *, link: bool = True) -> dict[str, int]:
    """Writes images/SPLIT/, labels/SPLIT/ and data.yaml; boxes only, without crowds.

    Returns:
        how many objects each split got.
    """
    crowds = lost = masks = 0
    written: dict[str, int] = {}
    for split, members in pictures.splits.items():
        names = unique_names(Path(picture.name) for picture in members)
        (folder / "labels" / split).mkdir(parents=True)
        (folder / "images" / split).mkdir(parents=True)
        written[split] = 0
        for picture in members:
            lines = []
            for box in picture.boxes:
                inside = clipped(box.box, picture.width, picture.height)
                if box.crowd or inside is None:
                    crowds += box.crowd
                    lost += not box.crowd
                    continue
                masks += box.polygons is not None or box.rle is not None
                lines.append(_line(pictures.classes.index(box.name), inside, picture))
            written[split] += len(lines)
            name = names[Path(picture.name)]
            target = folder / "labels" / split / Path(name).with_suffix(".txt")
            target.write_text("".join(lines), encoding="utf-8")
            place_image(picture.path, folder / "images" / split / name, link=link)
    config: dict[str, Any] = {split: f"images/{split}" for split in pictures.splits}
    config["names"] = dict(enumerate(pictures.classes))
    text = yaml.safe_dump(config, sort_keys=False, allow_unicode=True)
    (folder / "data.yaml").write_text(text, encoding="utf-8")
    for count, what in (
        (crowds, "crowd annotations: YOLO has none"),
        (lost, "boxes without a pixel inside their image"),
        (masks, "masks, keeping their boxes"),
    ):
        if count:
            pictures.notes.append(f"left out {count} {what}")
    return written


def _line(label: int, box: tuple[float, float, float, float], picture: Picture) -> str:
    (x, y, width, height), (across, down) = box, (picture.width, picture.height)
    fractions = ((x + width / 2) / across, (y + height / 2) / down, width / across, height / down)
    return " ".join([str(label), *(f"{value:.7g}" for value in fractions)]) + "\n"
