"""What a folder to be converted holds: its format, and the pictures of its splits."""

from contextlib import suppress
from pathlib import Path

import numpy as np

from detnet.coco.table import AnnotationTable
from detnet.data.folders import Split, find_split, find_splits, names_start, require_inside
from detnet.data.formats import FORMATS
from detnet.data.formats.interchange import LabelledBox, Picture, PictureSet, files_below
from detnet.data.formats.yolo import find_yaml
from detnet.data.images import IMAGE_SUFFIXES
from detnet.data.reading import read_sound
from detnet.errors import InputError
from detnet.files import hint_at_similar


def recognise(source: Path) -> str:
    """Says which format a folder is in: that in which `check` and training take it, if they do.

    Raises:
        InputError: there is no such folder, or it is in none.
    """
    if source.is_file() and source.suffix == ".json":
        return "coco"
    if not source.is_dir():
        raise InputError(f"{source}: no such folder; give the folder of a data set")
    found = next((key for key in FORMATS if _has_splits(source, key)), "")
    if found and found != "yolo":
        return "coco" if found == "roboflow" else found
    # Many folders hold a stray XML file, and labellers of XML files leave classes.txt and labels/.
    if (found or any(source.glob("data.y*ml"))) and _has_labels(source):
        return "yolo"
    if files_below(source, {".xml"}, most=1):
        return "voc"
    named = find_yaml(source)[0] is not None or next(source.rglob("classes.txt"), None) is not None
    if named or any(path.is_dir() for path in source.rglob("labels")):
        return "yolo"
    raise InputError(
        f"{source}: no data set recognised; it has no COCO annotations, no XML files (voc) and no "
        "data.yaml or labels folder (yolo); name its format by --from"
    )


def _has_splits(folder: Path, key: str) -> bool:
    with suppress(InputError):  # which is told when it is read
        return bool(FORMATS[key]().names(folder))
    return False


def _has_labels(folder: Path) -> bool:
    """Whether there is a label file of YOLO's, in a folder labels/ or beside an image."""
    texts = (path for path in folder.rglob("*.txt") if path.name != "classes.txt")
    return any(
        "labels" in path.relative_to(folder).parts[:-1]
        or any(path.with_suffix(suffix).is_file() for suffix in IMAGE_SUFFIXES)
        for path in texts
    )


def read_splits(source: Path, *, outside: bool = False) -> PictureSet:
    """Reads all splits of a data set in any of `FORMATS`, or a COCO file.

    Args:
        outside: take images that lie outside of `source`, too.

    Raises:
        InputError: it has errors as `detnet check` reports them, or its splits' categories differ.
    """
    if source.is_file():
        split = find_split(source, "train", outside=outside)
        splits = {"train": split}
    else:
        splits = find_splits(source, outside=outside)
    classes: list[str] = []
    pictures, notes = dict[str, list[Picture]](), list[str]()
    for name, split in splits.items():
        table = read_sound(split)
        names = [row["name"] for row in table.categories.rows]
        ordered = [names[row] for row in np.argsort(table.category_ids[0], kind="stable")]
        if classes and ordered != classes:
            raise InputError(f"{split.annotations}: categories differ from the other splits'")
        classes = ordered
        pictures[name] = _pictures(table, split)
        if any(table.keypoints):
            notes = ["left out the keypoints, keeping their boxes"]
    return PictureSet(classes, pictures, notes)


def _pictures(table: AnnotationTable, split: Split) -> list[Picture]:
    names, _ = table.file_names
    folder = names_start(split.images, names)
    require_inside(split, folder, names)
    pictures = []
    for name, (width, height) in zip(names, table.sizes.astype(int).tolist(), strict=True):
        path = folder / name
        if not path.is_file():
            hint = hint_at_similar(folder, name)
            raise InputError(f"{path}: no such image; {split.annotations} names it{hint}")
        pictures.append(Picture(path, name, width, height))
    columns = zip(
        table.image_of.tolist(),
        table.category_of.tolist(),
        table.boxes.tolist(),
        table.crowd.tolist(),
        table.segmentations,
        strict=True,
    )
    for image, category, box, crowd, outline in columns:
        found = LabelledBox(
            table.categories.rows[category]["name"],
            tuple(box),
            crowd=crowd,
            polygons=outline if isinstance(outline, list) else None,
            rle=outline if isinstance(outline, dict) else None,
        )
        pictures[image].boxes.append(found)
    return pictures
