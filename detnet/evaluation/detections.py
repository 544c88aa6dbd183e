"""Results as columns, checked against the ground truth that they answer."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from detnet.coco.ground_truth import GroundTruth
from detnet.coco.keypoints import keypoint_boxes, stack_keypoints
from detnet.coco.masks import mask_boxes, rle_areas
from detnet.coco.records import Ints, Problems, Records, show
from detnet.coco.scorable import refuse_keypoints, require_field, require_masks
from detnet.errors import InputError
from detnet.files import read_json

_BY_ROW = (
    *("images", "categories", "boxes", "areas", "scores", "masks", "keypoints"),
    *("crowd", "labelled", "difficult"),
)
_LARGEST = 1e9  # of a coordinate or a score: keeps products finite
_REMEDIES = {
    "image": "are these results of another split?",
    "category": "results carry the ids of its categories, not a model's labels",
}


@dataclass(frozen=True)
class Detections:
    """What was found, in the file's order, in columns like those of `GroundTruth`."""

    images: np.ndarray
    categories: np.ndarray
    boxes: np.ndarray
    areas: np.ndarray
    scores: np.ndarray
    masks: list[Any] | None
    keypoints: np.ndarray | None = None


Columns = TypeVar("Columns", GroundTruth, Detections)


def pick_rows(columns: Columns, rows: np.ndarray) -> Columns:
    """The columns with these rows only, in this order.

    Args:
        rows: (P,) positions of objects or detections.
    """
    of_rows = {one.name: getattr(columns, one.name) for one in fields(columns)}
    changes: dict[str, Any] = {
        name: [values[row] for row in rows] if isinstance(values, list) else values[rows]
        for name, values in of_rows.items()
        if name in _BY_ROW and values is not None
    }
    return replace(columns, **changes)


def read_detections(
    results: Path | str | list[dict[str, Any]], truth: GroundTruth, *, iou_type: str = "bbox"
) -> Detections:
    """Reads and checks COCO results against the ground truth they answer.

    As in pycocotools, a result's size is that of its box where the results carry boxes, else that
    of its mask, or of the box around its keypoints.

    Raises:
        InputError: the file or a record cannot be scored; the message names it.
    """
    if isinstance(results, str | Path):
        file, raw = str(results), read_json(results)
    else:
        file, raw = "results", results
    if not isinstance(raw, list):
        raise InputError(
            f"{file}: results are a list of "
            '{"image_id", "category_id", "bbox", "segmentation" or "keypoints", "score"}, '
            f"found {show(raw)}"
        )
    found = Records({"results": raw}, "results", "result", Problems(file, strict=True))
    require_field(found, iou_type)
    images = _positions(found, "image", truth.image_ids)
    categories = _positions(found, "category", truth.category_ids)
    scores, _ = found.numbers("score")
    masks, points, areas = None, None, None
    if iou_type == "segm":
        sizes = truth.sizes[images]
        masks = require_masks(found, [row.get("segmentation") for row in found.rows], sizes)
    elif iou_type == "keypoints":
        assert truth.keypoint_counts is not None  # truth has been read for keypoints
        points = _keypoints(found, categories, truth.keypoint_counts)
    if iou_type == "bbox" or (len(found) and found.rows[0].get("bbox")):
        boxes, _ = found.boxes()
        found.refuse((np.abs(boxes) > _LARGEST).any(axis=1), "bbox", "is too large a number")
        found.refuse((boxes[:, 2:] < 0).any(axis=1), "bbox", "has a negative width or height")
    elif masks is not None:
        boxes = mask_boxes(masks)
        areas = rle_areas([mask["counts"] for mask in masks], sizes.prod(axis=1)).astype(float)
    else:
        assert points is not None  # the kind of evaluation that is left
        assert truth.keypoint_counts is not None
        boxes = keypoint_boxes(points, truth.keypoint_counts[categories])
    if areas is None:
        areas = boxes[:, 2] * boxes[:, 3]
    return Detections(images, categories, boxes, areas, scores, masks, points)


def _keypoints(found: Records, categories: Ints, counts: Ints) -> np.ndarray:
    given = [row.get("keypoints") or None for row in found.rows]
    absent = np.array([values is None for values in given], bool) & (counts[categories] > 0)
    found.refuse(absent, "keypoints", "is not there; its category has some")
    points, unusable = stack_keypoints(given, categories, counts)
    refuse_keypoints(found, unusable, counts[categories])
    return points


def _positions(found: Records, what: str, known: np.ndarray) -> Ints:
    """Which of the ground truth's images or categories each result names."""
    ids, _ = found.integers(f"{what}_id")
    positions = np.minimum(np.searchsorted(known, ids), max(len(known) - 1, 0))
    unknown = known[positions] != ids if len(known) else np.ones(len(ids), bool)
    plural = {"image": "images", "category": "categories"}[what]
    found.refuse(
        unknown, f"{what}_id", f"is not among the ground truth's {plural}: {_REMEDIES[what]}"
    )
    return positions
