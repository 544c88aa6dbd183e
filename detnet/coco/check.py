"""What is wrong with the content of a COCO file, down to what training repairs or tolerates.

No image is opened. `detnet check` tells all of it; the errors among it are found when the columns
of `detnet.coco.table` are read, and are all that training asks for.
"""

from collections import Counter
from typing import Any

import numpy as np

from detnet.coco.annotations import EDGE_TOLERANCE
from detnet.coco.keypoints import (
    LARGEST_COORDINATE,
    layout_flaw,
    outside_image,
    stack_keypoints,
)
from detnet.coco.masks import mask_flaw, painted_area, segmentation_areas
from detnet.coco.records import (
    SEVERITIES,
    Bools,
    Floats,
    Ints,
    Problem,
    Records,
    is_number,
    show,
)
from detnet.coco.table import AnnotationTable

FEW_BOXES = 10  # classes with fewer boxes are named
UNLABELLED = "_unlabelled"  # of an image's row, where a format found no file with its objects
_UNUSED = "; taken as a box without keypoints"


def find_problems(table: AnnotationTable, *, split: str = "") -> list[Problem]:
    """Finds what is wrong with the content of a COCO file, the gravest first.

    Codes, by severity. error: those of `AnnotationTable.errors`.
    warning: box-degenerate, box-outside, box-subpixel, box-twice, area-missing, area-wrong,
    id-zero, duplicate-annotation-id, duplicate-file-name, bad-segmentation, bad-keypoint-names,
    keypoints-length, keypoints-visibility, keypoints-unnamed, keypoints-outside, keypoints-number.
    info: image-without-annotations, image-without-labels, few-boxes, unused-category, crowd,
    id-zero (of an image or a category, where 0 is harmless).

    Args:
        table: checked for the first time.
        split: its name, where the file's does not tell which of its splits is meant.
    """
    table.errors()
    with np.errstate(all="ignore"):  # absurd numbers are reported as boxes and areas, not raised
        _check_ids_and_names(table)
        _check_links(table, split)
        known = table.image_of >= 0
        padded = np.append(table.sizes, [[np.nan] * 2], axis=0)
        sizes = np.where(known[:, None], padded[table.image_of], np.nan)
        boxes = _check_boxes(table, sizes)
        _check_twice(table, boxes)
        _check_areas(table, boxes, sizes)
        crowds = int(table.crowd.sum())
        if crowds:
            message = f"{crowds} of {len(table)} annotations are crowds: not trained on"
            table.problems.add("info", "crowd", "", message)
        _check_keypoints(table, sizes)
    return sorted(table.problems.found, key=lambda each: SEVERITIES.index(each.severity))


def _check_ids_and_names(table: AnnotationTable) -> None:
    for records, (ids, there) in (
        (table.categories, table.category_ids),
        (table.images, table.image_ids),
    ):
        zero: Bools = there & (ids == 0)
        records.report("info", "id-zero", zero, "id is 0, which is mapped like any other")
    names, named = table.file_names
    counts = Counter(name for name, good in zip(names, named, strict=True) if good)
    if len(counts) < named.sum():
        for index, name in enumerate(names):
            if named[index] and counts[name] > 1:
                message = f"{counts[name]} image records name this file"
                table.images.report("warning", "duplicate-file-name", [index], message)


def _check_links(table: AnnotationTable, split: str) -> None:
    """Checks what annotations point at, and what nothing points at."""
    image_of, category_of = table.image_of, table.category_of
    ids, numbered = table.annotation_ids
    zero = numbered & (ids == 0)
    message = "id is 0, which pycocotools' evaluation loses"
    table.annotations.report("warning", "id-zero", zero, message)
    table.annotations.report_repeated("warning", "duplicate-annotation-id", ids, numbered)
    empty = np.bincount(image_of[image_of >= 0], minlength=len(table.images)) == 0
    bare = np.array([UNLABELLED in row for row in table.images.rows], bool) & empty
    table.images.report("info", "image-without-annotations", empty & ~bare, "has no annotations")
    table.images.report("info", "image-without-labels", bare, "has no label file")
    per_class = np.bincount(category_of[category_of >= 0], minlength=len(table.categories))
    where = f" in {split}" if split else ""
    for row, boxes in enumerate(per_class.tolist()):
        if boxes == 0:
            table.categories.report("info", "unused-category", [row], f"has no boxes{where}")
        elif boxes < FEW_BOXES:
            message = f"has only {boxes} {'box' if boxes == 1 else 'boxes'}{where}"
            table.categories.report("info", "few-boxes", [row], message)


def _check_boxes(table: AnnotationTable, sizes: Floats) -> Floats:
    """Reports boxes without extent or beyond their image; returns them, NaN where unusable."""
    report = table.annotations.report
    x, y, width, height = table.boxes.T
    degenerate = (width <= 0) | (height <= 0)
    subpixel = ~degenerate & ((width < 1) | (height < 1))
    right, bottom = x + width, y + height
    edges = np.stack([-x, -y, right - sizes[:, 0], bottom - sizes[:, 1]])
    outside = ~degenerate & (edges > EDGE_TOLERANCE).any(axis=0)
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


def _check_twice(table: AnnotationTable, boxes: Floats) -> None:
    """Reports objects that an image has twice: both would be learned, and one counted as missed."""
    links = np.stack([table.image_of, table.category_of, table.crowd], axis=1)
    usable = (links >= 0).all(axis=1) & ~np.isnan(boxes).any(axis=1)
    rows = np.flatnonzero(usable)
    values = np.concatenate([links, boxes], axis=1)[rows]
    order = np.lexsort(values.T)  # stable: of equal ones the first stays first
    same = (values[order[1:]] == values[order[:-1]]).all(axis=1)
    for place in np.flatnonzero(same):
        earlier, index = rows[order[place]], int(rows[order[place + 1]])
        message = f"has the same box and class as {table.annotations.place(earlier)[1]}"
        table.annotations.report("warning", "box-twice", [index], message)


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


def _check_keypoints(table: AnnotationTable, sizes: Floats) -> None:
    """Reports keypoints that cannot be used as warnings: they stop no training on boxes.

    Codes: bad-keypoint-names (of a category), keypoints-length, keypoints-visibility,
    keypoints-unnamed, keypoints-outside, keypoints-number.

    Args:
        sizes: (rows, 2) width and height of each annotation's image, NaN where not known.
    """
    counts = _keypoint_counts(table.categories)
    there = np.array([values is not None for values in table.keypoints], bool)
    sound = np.append(counts >= 0, False)  # else the category has been reported
    rows = np.flatnonzero(there & sound[table.category_of])
    given, of = [table.keypoints[row] for row in rows.tolist()], table.category_of[rows]
    points, unusable = stack_keypoints(given, of, counts)
    outside = outside_image(points, sizes[rows])
    for at, (row, count) in enumerate(zip(rows.tolist(), counts[of].tolist(), strict=True)):
        if count == 0:
            flaws = _unnamed_keypoints(given[at])
        elif unusable[at]:
            flaws = [("keypoints-length", _keypoints_flaw(given[at], count) + _UNUSED)]
        else:
            record = table.annotations.rows[row]
            flaws = _point_flaws(record, points[at], outside[at], sizes[row])
        for code, message in flaws:
            table.annotations.report("warning", code, [row], message)


def _keypoint_counts(categories: Records) -> Ints:
    """(C,) how many keypoints each category names, -1 for names that cannot be: these are told."""
    counts = np.zeros(len(categories), np.int64)
    for index, row in enumerate(categories.rows):
        if flaw := layout_flaw(row):
            categories.report("warning", "bad-keypoint-names", [index], flaw)
        counts[index] = -1 if flaw else len(row.get("keypoints") or ())
    return counts


def _unnamed_keypoints(values: Any) -> list[tuple[str, str]]:
    """Codes and messages for keypoints of a category that has none."""
    if isinstance(values, list) and not any(values):
        return []  # whole lists of zeros are what some tools write for every class
    return [("keypoints-unnamed", "has keypoints, but its category names none; they are not used")]


def _point_flaws(
    row: dict[str, Any], points: Floats, outside: Bools, size: Floats
) -> list[tuple[str, str]]:
    """Codes and messages for an annotation's keypoints one by one.

    Args:
        points: (K, 3) x, y and visibility.
        outside: (K,) which lie outside of the image.
        size: width and height of the image.
    """
    strange = points[~np.isin(points[:, 2], (0, 1, 2)), 2]
    if len(strange):
        message = "visibility of a keypoint must be 0 (not labelled), 1 (hidden) or 2, found "
        return [("keypoints-visibility", f"{message}{strange[0]:g}{_UNUSED}")]
    edge = " x ".join(f"{side:g}" for side in size)
    found = [
        ("keypoints-outside", f"keypoint ({x:g}, {y:g}) lies outside its image of {edge}; left out")
        for x, y, _ in points[outside]
    ]
    told, labelled = row.get("num_keypoints"), int((points[:, 2] > 0).sum())
    if told is not None and told != labelled:
        message = f'"num_keypoints" is {show(told)}, but {labelled} are labelled'
        found.append(("keypoints-number", message))
    return found


def _keypoints_flaw(values: Any, count: int) -> str:
    """Why an annotation's keypoints cannot be used."""
    if not isinstance(values, list) or len(values) != 3 * count:
        seen = f"{len(values)} numbers" if isinstance(values, list) else show(values)
        return (
            f'"keypoints" must be {3 * count} numbers, x, y and visibility of {count}, found {seen}'
        )
    wrong = next(
        value for value in values if not is_number(value) or abs(value) > LARGEST_COORDINATE
    )
    return f'"keypoints" must be finite numbers up to {LARGEST_COORDINATE:g}, found {show(wrong)}'
