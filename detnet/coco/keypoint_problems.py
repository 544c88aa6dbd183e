"""What can be wrong with the keypoints of a COCO annotation file."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from detnet.coco.columns import Floats, Table, show
from detnet.coco.keypoints import keypoints_flaw, layout_flaw, outside_image

_UNUSED = "; taken as a box without keypoints"


def check_keypoints(categories: Table, annotations: Table, sizes: Floats) -> None:
    """Reports keypoints that cannot be used as warnings: they stop no training on boxes.

    Codes: bad-keypoint-names (of a category), keypoints-length, keypoints-visibility,
    keypoints-unnamed, keypoints-outside, keypoints-number.

    Args:
        sizes: (rows, 2) width and height of each annotation's image, NaN where not known.
    """
    counts: dict[Any, int] = {}
    for index, row in enumerate(categories.rows):
        flaw = layout_flaw(row)
        if flaw:
            categories.report("warning", "bad-keypoint-names", [index], flaw)
        elif type(row.get("id")) is int:
            counts[row["id"]] = len(row.get("keypoints") or ())
    for index, row in enumerate(annotations.rows):
        # Whole lists of zeros are what some tools write for every class.
        if row.get("keypoints") and type(row.get("category_id")) is int:
            _check_one(annotations, index, row, counts.get(row["category_id"]), sizes[index])


def _check_one(
    table: Table, index: int, row: Mapping[str, Any], count: int | None, size: Floats
) -> None:
    values = row["keypoints"]
    if count is None:
        return  # its category has been reported
    if count == 0:
        if not isinstance(values, list) or any(values):
            message = "has keypoints, but its category names none; they are not used"
            table.report("warning", "keypoints-unnamed", [index], message)
        return
    code, flaw = keypoints_flaw(values, count)
    if code:
        table.report("warning", code, [index], flaw + _UNUSED)
        return
    points = np.array(values, dtype=np.float64).reshape(1, count, 3)
    for x, y, _ in points[outside_image(points, size[None])]:
        edge = f"{size[0]:g} x {size[1]:g}"
        message = f"keypoint ({x:g}, {y:g}) lies outside its image of {edge}; left out"
        table.report("warning", "keypoints-outside", [index], message)
    labelled, told = int((points[..., 2] > 0).sum()), row.get("num_keypoints")
    if told is not None and told != labelled:
        message = f'"num_keypoints" is {show(told)}, but {labelled} are labelled'
        table.report("warning", "keypoints-number", [index], message)
