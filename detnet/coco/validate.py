"""What can be wrong with the content of a COCO annotation file, found without opening an image."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.columns import SEVERITIES, Bools, Findings, Floats, Ints, Problem, Severity, Table
from detnet.coco.keypoint_problems import check_keypoints
from detnet.coco.masks import MAX_SIDE, mask_flaw, painted_area, segmentation_areas
from detnet.errors import InputError

__all__ = [
    "FEW_BOXES",
    "SEVERITIES",
    "Problem",
    "Severity",
    "find_problems",
    "read_json",
    "read_sound",
]

FEW_BOXES = 10  # classes with fewer boxes are named
_EDGE_TOLERANCE = 0.05  # pixels; files that round to one decimal exceed the edge by as much
_NAME_KEYS = ("images", "annotations", "categories")


def read_json(path: Path | str, *, unlabelled: bool = False) -> dict[str, Any]:
    """Reads a COCO annotation file as far as its three lists being there.

    Args:
        unlabelled: a file without the list "annotations", as COCO gives out for its test images,
            is taken for one where it is empty.

    Raises:
        InputError: the file is missing, cut, no JSON, or not in COCO format.
    """
    path = Path(path)
    try:
        raw = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise InputError(f"{path}: no such annotation file") from None
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except json.JSONDecodeError as error:
        where = f"line {error.lineno} column {error.colno}"
        cut = error.pos >= len(error.doc.rstrip()) or error.msg.startswith("Unterminated")
        what = "the JSON is cut off" if cut else "not JSON"
        raise InputError(
            f"{path}: {what} at {where} ({error.msg}); copy or export the file again"
        ) from None
    except (UnicodeDecodeError, RecursionError):
        raise InputError(f"{path}: not a JSON text file; export it in COCO format") from None
    except ValueError:  # Python reads no integer of more than 4,300 digits
        raise InputError(f"{path}: holds a number of thousands of digits; correct it") from None
    if isinstance(raw, list):
        raise InputError(
            f"{path}: holds a list, as results files do; annotations are an object with "
            f'"images", "annotations" and "categories"'
        )
    if not isinstance(raw, dict):
        raise InputError(f"{path}: not in COCO format: holds {type(raw).__name__}, not an object")
    if unlabelled:
        raw.setdefault("annotations", [])
    for key in _NAME_KEYS:
        if not isinstance(raw.get(key), list):
            seen = "is no list" if key in raw else "is missing"
            raise InputError(f'{path}: not in COCO format: "{key}" {seen}')
    return raw


def read_sound(path: Path, *, unlabelled: bool = False) -> dict[str, Any]:
    """Reads a COCO annotation file and refuses one with errors; warnings pass.

    Args:
        unlabelled: as `read_json`.

    Raises:
        InputError: as `read_json`, or the first error and how many more there are.
    """
    raw = read_json(path, unlabelled=unlabelled)
    problems = find_problems(raw, file=str(path))
    errors = [problem for problem in problems if problem.severity == "error"]
    if errors:
        first = errors[0]
        in_layout = path.parent.name == "annotations" or path.name == "_annotations.coco.json"
        data = path.parent.parent if in_layout else path
        more = f"+{len(errors) - 1} more: " if len(errors) > 1 else ""
        where = ": ".join(filter(None, [first.file, first.record]))
        raise InputError(f"{where}: {first.message} ({more}run `detnet check {data}`)")
    return raw


def find_problems(raw: dict[str, Any], *, file: str) -> list[Problem]:
    """Finds what is wrong with the content of a COCO file, the gravest first.

    Codes, by severity. error: bad-type, missing-field, missing-size, orphan-annotation,
    unknown-category, duplicate-image-id, duplicate-category-id, duplicate-category-name.
    warning: box-degenerate, box-outside, box-subpixel, area-missing, area-wrong, id-zero,
    duplicate-annotation-id, duplicate-file-name, bad-segmentation, bad-keypoint-names,
    keypoints-length, keypoints-visibility, keypoints-unnamed, keypoints-outside, keypoints-number.
    info: image-without-annotations, few-boxes, unused-category, crowd, id-zero (of an image or
    a category, where 0 is harmless).

    Args:
        raw: as `read_json` gives it; any content is answered, none raises.
        file: how the problems name the file.
    """
    findings = Findings(file)
    with np.errstate(all="ignore"):  # absurd numbers are reported as boxes and areas, not raised
        _check(raw, findings)
    findings.problems.sort(key=lambda problem: SEVERITIES.index(problem.severity))
    return findings.problems


def _check(raw: dict[str, Any], findings: Findings) -> None:
    categories = Table(raw, "categories", "category", findings)
    images = Table(raw, "images", "image", findings)
    annotations = Table(raw, "annotations", "annotation", findings)
    category_ids = _check_categories(categories)
    image_ids, sizes = _check_images(images)
    image_of = _check_links(annotations, images, image_ids, categories, category_ids)
    known = image_of >= 0
    sizes = np.where(known[:, None], np.append(sizes, [[np.nan] * 2], axis=0)[image_of], np.nan)
    boxes = _check_boxes(annotations, sizes)
    _check_areas(annotations, boxes, sizes)
    _check_crowds(annotations)
    check_keypoints(categories, annotations, sizes)


def _check_categories(table: Table) -> tuple[Ints, Bools]:
    ids, there = table.integers("id")
    names, named = table.strings("name")
    _report_repeated(table, "error", "duplicate-category-id", ids, there, "id {} is used")
    table.report("info", "id-zero", there & (ids == 0), "id is 0, which is mapped like any other")
    counts = Counter(name for name, good in zip(names, named, strict=True) if good)
    for index, name in enumerate(names):
        if named[index] and counts[name] > 1:
            message = f"name {name!r} is used {counts[name]} times"
            table.findings.add("error", "duplicate-category-name", table.name(index), message)
    return ids, there


def _check_images(table: Table) -> tuple[tuple[Ints, Bools], Floats]:
    ids, there = table.integers("id")
    _report_repeated(table, "error", "duplicate-image-id", ids, there, "id {} is used")
    table.report("info", "id-zero", there & (ids == 0), "id is 0, which is mapped like any other")
    names, named = table.strings("file_name")
    counts = Counter(name for name, good in zip(names, named, strict=True) if good)
    if len(counts) < named.sum():
        for index, name in enumerate(names):
            if named[index] and counts[name] > 1:
                message = f"{counts[name]} image records name this file"
                table.findings.add("warning", "duplicate-file-name", table.name(index), message)
    sides = []
    for key in ("width", "height"):
        side, given = table.numbers(key, missing="missing-size")
        empty = given & ~((side >= 1) & (side <= MAX_SIDE))
        message = f"{key} must be from 1 to {MAX_SIDE:,} pixels"
        table.report("error", "missing-size", empty, message)
        sides.append(np.where(given & ~empty, side, np.nan))
    return (ids, there), np.stack(sides, axis=1)


def _check_links(
    table: Table,
    images: Table,
    image_ids: tuple[Ints, Bools],
    categories: Table,
    category_ids: tuple[Ints, Bools],
) -> Ints:
    """Checks what annotations point at; returns the image's row of each, -1 where there is none."""
    wanted, there = table.integers("image_id")
    image_of = np.where(there, _rows_of(wanted, *image_ids), -1)
    names = [row.get("file_name", "") for row in images.rows] + [""]
    table.images = [names[row] if isinstance(names[row], str) else "" for row in image_of]
    for index in np.flatnonzero(there & (image_of < 0)):
        message = f"names image {wanted[index]}, which the file does not have"
        table.findings.add("error", "orphan-annotation", table.name(int(index)), message)
    classes, labelled = table.integers("category_id")
    class_of = np.where(labelled, _rows_of(classes, *category_ids), -1)
    for index in np.flatnonzero(labelled & (class_of < 0)):
        message = f"has category {classes[index]}, which the file does not have"
        table.findings.add("error", "unknown-category", table.name(int(index)), message)
    ids, numbered = table.integers("id")
    zero = numbered & (ids == 0)
    table.report("warning", "id-zero", zero, "id is 0, which pycocotools' evaluation loses")
    _report_repeated(table, "warning", "duplicate-annotation-id", ids, numbered, "id {} is used")
    empty = np.bincount(image_of[image_of >= 0], minlength=len(images)) == 0
    images.report("info", "image-without-annotations", empty, "has no annotations")
    per_class = np.bincount(class_of[class_of >= 0], minlength=len(categories))
    for row, boxes in enumerate(per_class.tolist()):
        if boxes == 0:
            categories.report("info", "unused-category", [row], "has no boxes")
        elif boxes < FEW_BOXES:
            message = f"has only {boxes} {'box' if boxes == 1 else 'boxes'}"
            categories.report("info", "few-boxes", [row], message)
    return image_of


def _check_boxes(table: Table, sizes: Floats) -> Floats:
    """Reports boxes without extent or beyond their image; returns them, NaN where unusable."""
    boxes, _ = table.boxes()
    x, y, width, height = boxes.T
    degenerate = (width <= 0) | (height <= 0)
    subpixel = ~degenerate & ((width < 1) | (height < 1))
    right, bottom = x + width, y + height
    edges = np.stack([-x, -y, right - sizes[:, 0], bottom - sizes[:, 1]])
    outside = ~degenerate & (edges > _EDGE_TOLERANCE).any(axis=0)
    wholly = (right <= 0) | (bottom <= 0) | (x >= sizes[:, 0]) | (y >= sizes[:, 1])
    for code, rows in (("box-degenerate", degenerate), ("box-subpixel", subpixel)):
        for index in np.flatnonzero(rows):
            message = f"box is {_plain(width[index])} wide and {_plain(height[index])} high"
            table.findings.add("warning", code, table.name(int(index)), message)
    for index in np.flatnonzero(outside):
        how = "lies wholly outside" if wholly[index] else "reaches outside"
        edge = " x ".join(_plain(side) for side in sizes[index])
        corners = ", ".join(_plain(v) for v in (x[index], y[index], right[index], bottom[index]))
        message = f"box ({corners}) {how} its image of {edge}"
        table.findings.add("warning", "box-outside", table.name(int(index)), message)
    boxes[degenerate] = np.nan
    return boxes


def _check_areas(table: Table, boxes: Floats, sizes: Floats) -> None:
    """Reports unreadable segmentations, then areas that are absent or say something else."""
    segmentations: list[Any] = [row.get("segmentation") or None for row in table.rows]
    covered = segmentation_areas(segmentations)
    segmented = np.array([value is not None for value in segmentations], bool)
    runs = np.array([isinstance(value, dict) for value in segmentations], bool)
    for index in np.flatnonzero(segmented & (np.isnan(covered) | runs)):
        width, height = np.nan_to_num(sizes[index]).astype(int).tolist()
        if not np.isnan(covered[index]) and segmentations[index]["size"] == [height, width]:
            continue
        if why := mask_flaw(segmentations[index], height, width):
            covered[index] = np.nan
            table.findings.add("warning", "bad-segmentation", table.name(int(index)), why)
    areas, given = table.numbers("area", missing="")
    missing = np.array([row.get("area") is None for row in table.rows], bool)
    table.report("warning", "area-missing", missing, "has no area")
    expected = np.where(segmented, covered, boxes[:, 2] * boxes[:, 3])
    for index in np.flatnonzero(given & ~_close(areas, expected) & ~np.isnan(expected)):
        if isinstance(segmentations[index], list) and not np.isnan(sizes[index]).any():
            # Polygons that overlap, or tools that count pixels: both areas are right.
            width, height = sizes[index].astype(int).tolist()
            if _close(areas[index], painted_area(segmentations[index], height, width)):
                continue
        what = "mask covers" if segmented[index] else "box has"
        message = f"area is {_plain(areas[index])}, its {what} {_plain(expected[index])}"
        table.findings.add("warning", "area-wrong", table.name(int(index)), message)


def _check_crowds(table: Table) -> None:
    crowds = 0
    for index, row in enumerate(table.rows):
        crowd = row.get("iscrowd", 0)
        if crowd not in (0, 1, None):
            message = f'"iscrowd" must be 0 or 1, found {crowd!r}'
            table.findings.add("error", "bad-type", table.name(index), message)
        crowds += crowd == 1
    if crowds:
        message = f"{crowds} of {len(table)} annotations are crowds: not trained on"
        table.findings.add("info", "crowd", "", message)


def _close(areas: Any, expected: Any) -> Any:
    """Within 1 pixel or 1 %, whichever is more."""
    return np.abs(areas - expected) <= np.maximum(1, 0.01 * np.abs(expected))


def _rows_of(wanted: Ints, ids: Ints, there: Bools) -> Ints:
    """The row that holds each wanted id, -1 where none does."""
    if not there.any():
        return np.full(len(wanted), -1)
    rows = np.flatnonzero(there)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    place = np.minimum(np.searchsorted(ids[rows], wanted), len(rows) - 1)
    return np.where(ids[rows][place] == wanted, rows[place], -1)


def _report_repeated(
    table: Table, severity: Severity, code: str, ids: Ints, there: Bools, what: str
) -> None:
    unique, inverse, counts = np.unique(ids[there], return_inverse=True, return_counts=True)
    if len(unique) == len(inverse):
        return
    rows = np.flatnonzero(there)
    for index in np.flatnonzero(counts[inverse] > 1):
        number = inverse[index]
        message = f"{what.format(unique[number])} {counts[number]} times"
        table.findings.add(severity, code, table.name(int(rows[index])), message)


def _plain(number: float) -> str:
    if abs(number) >= 1e9:
        return f"{number:.3g}"
    return f"{number:.2f}".rstrip("0").rstrip(".")
