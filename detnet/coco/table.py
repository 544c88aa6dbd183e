"""A COCO annotation file as one table: each column is read and checked once, for everybody.

What can be wrong with its content is found here, without opening an image.
"""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.keypoints import check_keypoints
from detnet.coco.masks import MAX_SIDE, mask_flaw, painted_area, segmentation_areas
from detnet.coco.records import SEVERITIES, Bools, Floats, Ints, Problem, Problems, Records
from detnet.errors import InputError
from detnet.files import read_json

LISTS = ("images", "annotations", "categories")
FEW_BOXES = 10  # classes with fewer boxes are named
_EDGE_TOLERANCE = 0.05  # pixels; files that round to one decimal exceed the edge by as much


class AnnotationTable:
    """The content of a COCO annotation file, as it is: nothing is repaired.

    A column is read when it is first asked for, and what is wrong with it is in `problems` then.
    Training's `Annotations` and the evaluation's ground truth are both made from this.

    Args:
        raw: the file's content.
        file: what messages call it.
        unlabelled: a file without the list "annotations", as COCO gives out for its test images,
            is taken for one where it is empty.
        strict: raise the first error of each column, for those who need but some of them.

    Raises:
        InputError: it is not in COCO format.
    """

    def __init__(
        self, raw: Any, file: str, *, unlabelled: bool = False, strict: bool = False
    ) -> None:
        if unlabelled and isinstance(raw, dict):
            raw = {"annotations": [], **raw}
        _require_lists(raw, file)
        self.file, self.problems = file, Problems(file, strict)
        self.categories = Records(raw, "categories", "category", self.problems)
        self.images = Records(raw, "images", "image", self.problems)
        self.annotations = Records(raw, "annotations", "annotation", self.problems)

    def __len__(self) -> int:
        return len(self.annotations)

    @cached_property
    def category_ids(self) -> tuple[Ints, Bools]:
        """(C,) and which are there; of the same number no two, else it is an error."""
        return self.categories.unique_ids()

    @cached_property
    def category_names(self) -> tuple[list[Any], Bools]:
        return self.categories.strings("name")

    @cached_property
    def image_ids(self) -> tuple[Ints, Bools]:
        """(I,) and which are there; of the same number no two, else it is an error."""
        return self.images.unique_ids()

    @cached_property
    def file_names(self) -> tuple[list[Any], Bools]:
        return self.images.strings("file_name")

    @cached_property
    def sizes(self) -> Floats:
        """(I, 2) width and height, pixels; NaN for what is none."""
        sides = []
        for key in ("width", "height"):
            side, given = self.images.numbers(key, missing="missing-size")
            empty = given & ~((side >= 1) & (side <= MAX_SIDE))
            message = f"{key} must be from 1 to {MAX_SIDE:,} pixels"
            self.images.report("error", "missing-size", empty, message)
            sides.append(np.where(given & ~empty, side, np.nan))
        return np.stack(sides, axis=1)

    @cached_property
    def image_of(self) -> Ints:
        """(A,) which row of the images each annotation is on, -1 where there is none."""
        wanted, there = self.annotations.integers("image_id")
        found = np.where(there, _rows_of(wanted, *self.image_ids), -1)

        def image_name(index: int) -> str:
            row = self.images.rows[found[index]] if found[index] >= 0 else {}
            name = row.get("file_name")
            return name if isinstance(name, str) else ""

        self.annotations.image_name = image_name
        for index in np.flatnonzero(there & (found < 0)):
            message = f"names image {wanted[index]}, which the file does not have"
            name = self.annotations.name(int(index))
            self.problems.add("error", "orphan-annotation", name, message)
        return found

    @cached_property
    def category_of(self) -> Ints:
        """(A,) which row of the categories each annotation is of, -1 where there is none."""
        wanted, there = self.annotations.integers("category_id")
        found = np.where(there, _rows_of(wanted, *self.category_ids), -1)
        for index in np.flatnonzero(there & (found < 0)):
            message = f"has category {wanted[index]}, which the file does not have"
            name = self.annotations.name(int(index))
            self.problems.add("error", "unknown-category", name, message)
        return found

    @cached_property
    def annotation_ids(self) -> tuple[Ints, Bools]:
        return self.annotations.integers("id")

    @cached_property
    def boxes(self) -> Floats:
        """(A, 4) xywh pixels, NaN where there is none."""
        return self.annotations.boxes()[0]

    @cached_property
    def areas(self) -> Floats:
        """(A,) square pixels, NaN where there is none."""
        return self.annotations.numbers("area", missing="")[0]

    @cached_property
    def crowd(self) -> Bools:
        """(A,)"""
        return self.annotations.flags("iscrowd")

    @cached_property
    def segmentations(self) -> list[Any]:
        """A of them as in the file; None where there is none."""
        return [row.get("segmentation") or None for row in self.annotations.rows]

    @cached_property
    def keypoints(self) -> list[Any]:
        """A lists as in the file; None where there are none."""
        return [row.get("keypoints") or None for row in self.annotations.rows]


def read_table(path: Path, *, unlabelled: bool = False, strict: bool = False) -> AnnotationTable:
    """Reads a COCO annotation file.

    Args:
        unlabelled, strict: see `AnnotationTable`.

    Raises:
        InputError: it cannot be read, or is not in COCO format.
    """
    return AnnotationTable(read_json(path), str(path), unlabelled=unlabelled, strict=strict)


def _require_lists(raw: Any, file: str) -> None:
    if isinstance(raw, list):
        raise InputError(
            f"{file}: not in COCO format: holds a list, as results files do; annotations are an "
            'object with "images", "annotations" and "categories"'
        )
    if not isinstance(raw, dict):
        raise InputError(f"{file}: not in COCO format: holds {type(raw).__name__}, not an object")
    for key in LISTS:
        if not isinstance(raw.get(key), list):
            seen = "is no list" if key in raw else "is missing"
            raise InputError(f'{file}: not in COCO format: "{key}" {seen}')


def _rows_of(wanted: Ints, ids: Ints, there: Bools) -> Ints:
    """The row that holds each wanted id, -1 where none does."""
    if not there.any():
        return np.full(len(wanted), -1)
    rows = np.flatnonzero(there)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    place = np.minimum(np.searchsorted(ids[rows], wanted), len(rows) - 1)
    return np.where(ids[rows][place] == wanted, rows[place], -1)


def find_problems(table: AnnotationTable) -> list[Problem]:
    """Finds what is wrong with the content of a COCO file, the gravest first.

    Codes, by severity. error: bad-type, missing-field, missing-size, orphan-annotation,
    unknown-category, duplicate-image-id, duplicate-category-id, duplicate-category-name.
    warning: box-degenerate, box-outside, box-subpixel, area-missing, area-wrong, id-zero,
    duplicate-annotation-id, duplicate-file-name, bad-segmentation, bad-keypoint-names,
    keypoints-length, keypoints-visibility, keypoints-unnamed, keypoints-outside, keypoints-number.
    info: image-without-annotations, few-boxes, unused-category, crowd, id-zero (of an image or
    a category, where 0 is harmless).

    Args:
        table: asked for the first time: a column tells its problems once.
    """
    with np.errstate(all="ignore"):  # absurd numbers are reported as boxes and areas, not raised
        _check_categories(table)
        _check_images(table)
        _check_links(table)
        known = table.image_of >= 0
        padded = np.append(table.sizes, [[np.nan] * 2], axis=0)
        sizes = np.where(known[:, None], padded[table.image_of], np.nan)
        boxes = _check_boxes(table, sizes)
        _check_areas(table, boxes, sizes)
        crowds = int(table.crowd.sum())
        if crowds:
            message = f"{crowds} of {len(table)} annotations are crowds: not trained on"
            table.problems.add("info", "crowd", "", message)
        check_keypoints(table.categories, table.annotations, sizes)
    return sorted(table.problems.found, key=lambda each: SEVERITIES.index(each.severity))


def _check_categories(table: AnnotationTable) -> None:
    ids, there = table.category_ids
    names, named = table.category_names
    _report_zeros(table.categories, there & (ids == 0))
    counts = Counter(name for name, good in zip(names, named, strict=True) if good)
    for index, name in enumerate(names):
        if named[index] and counts[name] > 1:
            message = f"name {name!r} is used {counts[name]} times"
            table.categories.report("error", "duplicate-category-name", [index], message)


def _check_images(table: AnnotationTable) -> None:
    ids, there = table.image_ids
    _report_zeros(table.images, there & (ids == 0))
    names, named = table.file_names
    counts = Counter(name for name, good in zip(names, named, strict=True) if good)
    if len(counts) < named.sum():
        for index, name in enumerate(names):
            if named[index] and counts[name] > 1:
                message = f"{counts[name]} image records name this file"
                table.images.report("warning", "duplicate-file-name", [index], message)
    assert table.sizes.shape == (len(names), 2)  # read, and their problems with them


def _report_zeros(records: Records, zero: Bools) -> None:
    records.report("info", "id-zero", zero, "id is 0, which is mapped like any other")


def _check_links(table: AnnotationTable) -> None:
    """Checks what annotations point at, and what nothing points at."""
    image_of, category_of = table.image_of, table.category_of
    ids, numbered = table.annotation_ids
    zero = numbered & (ids == 0)
    message = "id is 0, which pycocotools' evaluation loses"
    table.annotations.report("warning", "id-zero", zero, message)
    table.annotations.report_repeated("warning", "duplicate-annotation-id", ids, numbered)
    empty = np.bincount(image_of[image_of >= 0], minlength=len(table.images)) == 0
    table.images.report("info", "image-without-annotations", empty, "has no annotations")
    per_class = np.bincount(category_of[category_of >= 0], minlength=len(table.categories))
    for row, boxes in enumerate(per_class.tolist()):
        if boxes == 0:
            table.categories.report("info", "unused-category", [row], "has no boxes")
        elif boxes < FEW_BOXES:
            message = f"has only {boxes} {'box' if boxes == 1 else 'boxes'}"
            table.categories.report("info", "few-boxes", [row], message)


def _check_boxes(table: AnnotationTable, sizes: Floats) -> Floats:
    """Reports boxes without extent or beyond their image; returns them, NaN where unusable."""
    report = table.annotations.report
    x, y, width, height = table.boxes.T
    degenerate = (width <= 0) | (height <= 0)
    subpixel = ~degenerate & ((width < 1) | (height < 1))
    right, bottom = x + width, y + height
    edges = np.stack([-x, -y, right - sizes[:, 0], bottom - sizes[:, 1]])
    outside = ~degenerate & (edges > _EDGE_TOLERANCE).any(axis=0)
    wholly = (right <= 0) | (bottom <= 0) | (x >= sizes[:, 0]) | (y >= sizes[:, 1])
    for code, rows in (("box-degenerate", degenerate), ("box-subpixel", subpixel)):
        for index in np.flatnonzero(rows):
            message = f"box is {_plain(width[index])} wide and {_plain(height[index])} high"
            report("warning", code, [int(index)], message)
    for index in np.flatnonzero(outside):
        how = "lies wholly outside" if wholly[index] else "reaches outside"
        edge = " x ".join(_plain(side) for side in sizes[index])
        corners = ", ".join(_plain(v) for v in (x[index], y[index], right[index], bottom[index]))
        report("warning", "box-outside", [int(index)], f"box ({corners}) {how} its image of {edge}")
    return np.where(degenerate[:, None], np.nan, table.boxes)


def _check_areas(table: AnnotationTable, boxes: Floats, sizes: Floats) -> None:
    """Reports unreadable segmentations, then areas that are absent or say something else."""
    report, segmentations, areas = table.annotations.report, table.segmentations, table.areas
    covered = segmentation_areas(segmentations)
    segmented = np.array([value is not None for value in segmentations], bool)
    runs = np.array([isinstance(value, dict) for value in segmentations], bool)
    for index in np.flatnonzero(segmented & (np.isnan(covered) | runs)):
        width, height = np.nan_to_num(sizes[index]).astype(int).tolist()
        if not np.isnan(covered[index]) and segmentations[index]["size"] == [height, width]:
            continue
        if why := mask_flaw(segmentations[index], height, width):
            covered[index] = np.nan
            report("warning", "bad-segmentation", [int(index)], why)
    missing = np.array([row.get("area") is None for row in table.annotations.rows], bool)
    report("warning", "area-missing", missing, "has no area")
    expected = np.where(segmented, covered, boxes[:, 2] * boxes[:, 3])
    given = ~np.isnan(areas)
    for index in np.flatnonzero(given & ~_close(areas, expected) & ~np.isnan(expected)):
        if isinstance(segmentations[index], list) and not np.isnan(sizes[index]).any():
            # Polygons that overlap, or tools that count pixels: both areas are right.
            width, height = sizes[index].astype(int).tolist()
            if _close(areas[index], painted_area(segmentations[index], height, width)):
                continue
        what = "mask covers" if segmented[index] else "box has"
        message = f"area is {_plain(areas[index])}, its {what} {_plain(expected[index])}"
        report("warning", "area-wrong", [int(index)], message)


def _close(areas: Any, expected: Any) -> Any:
    """Within 1 pixel or 1 %, whichever is more."""
    return np.abs(areas - expected) <= np.maximum(1, 0.01 * np.abs(expected))


def _plain(number: float) -> str:
    if abs(number) >= 1e9:
        return f"{number:.3g}"
    return f"{number:.2f}".rstrip("0").rstrip(".")
