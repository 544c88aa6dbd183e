"""Results as columns, checked against the ground truth that they answer."""

from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from detnet.coco.ground_truth import GroundTruth
from detnet.coco.keypoints import keypoint_boxes, stack_keypoints
from detnet.coco.masks import mask_areas, mask_boxes
from detnet.coco.records import Ints, Problems, Records, plain, show, value_of
from detnet.coco.scorable import refuse_keypoints, require_field, require_masks
from detnet.errors import InputError
from detnet.evaluation.results import Results, ResultsSource
from detnet.files import read_json

_BY_ROW = (
    *("images", "categories", "boxes", "areas", "scores", "masks", "keypoints"),
    *("crowd", "labelled", "difficult"),
)
_NO, _NO_BOXES = np.zeros(0), np.zeros((0, 4))
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


def on_images(truth: GroundTruth, image_ids: np.ndarray) -> GroundTruth:
    """What is to be found on some of the images, as if the others were not there."""
    kept = np.isin(truth.image_ids, image_ids)
    rows = pick_rows(truth, np.flatnonzero(kept[truth.images]))
    return replace(
        rows,
        sizes=truth.sizes[kept],
        image_ids=truth.image_ids[kept],
        images=(np.cumsum(kept) - 1)[rows.images],
    )


def read_detections(
    results: ResultsSource, truth: GroundTruth, *, iou_type: str = "bbox"
) -> Detections:
    """Reads and checks COCO results against the ground truth they answer.

    As in pycocotools, a result's size is that of its box where the results carry boxes, else that
    of its mask, or of the box around its keypoints.

    Raises:
        InputError: the file or a record cannot be scored; the message names it.
    """
    found = _of_columns(results, truth, iou_type) if isinstance(results, Results) else None
    found = found or _of_records(results, truth, iou_type)
    boxes, areas = found.boxes, found.boxes[:, 2] * found.boxes[:, 3]
    if not len(boxes) and found.masks:
        boxes, areas = mask_boxes(found.masks), mask_areas(found.masks)
    elif not len(boxes) and found.keypoints is not None:
        assert truth.keypoint_counts is not None  # truth has been read for keypoints
        boxes = keypoint_boxes(found.keypoints, truth.keypoint_counts[found.categories])
        areas = boxes[:, 2] * boxes[:, 3]
    return replace(found, boxes=boxes, areas=areas)


def _of_columns(found: Results, truth: GroundTruth, iou_type: str) -> Detections | None:
    """Results as detections, without boxes where they carry none; None if one cannot be scored."""
    images, unknown = _places(found.images, truth.image_ids)
    categories, foreign = _places(found.categories, truth.category_ids)
    boxes = _NO_BOXES if found.boxes is None else found.boxes
    sound = (np.abs(boxes) <= _LARGEST).all() and (boxes[:, 2:] >= 0).all()
    if (unknown | foreign).any() or not (sound and np.isfinite(found.scores).all()):
        return None
    masks, points = None, None
    if iou_type == "segm":
        masks = found.masks
        fits = masks and [mask["size"] for mask in masks] == truth.sizes[images].tolist()
    elif iou_type == "keypoints":
        points, counts = found.keypoints, truth.keypoint_counts
        assert counts is not None  # truth has been read for keypoints
        own = np.zeros(0) if found.keypoint_counts is None else found.keypoint_counts
        fits = np.array_equal(own, counts[categories])
        fits = fits and points is not None and points.shape[1] == counts.max()
    else:
        fits = found.boxes is not None
    return Detections(images, categories, boxes, _NO, found.scores, masks, points) if fits else None


def _of_records(results: ResultsSource, truth: GroundTruth, iou_type: str) -> Detections:
    """The same of records, or an InputError that names the first that cannot be scored."""
    if isinstance(results, str | Path):
        file, raw = str(results), read_json(results)
    else:
        file, raw = "results", [*results] if isinstance(results, Results) else results
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
    boxes, masks, points = _NO_BOXES, None, None
    if iou_type == "segm":
        given = [plain(row.get("segmentation")) for row in found.rows]
        masks = require_masks(found, given, truth.sizes[images])
    elif iou_type == "keypoints":
        assert truth.keypoint_counts is not None  # truth has been read for keypoints
        points = _keypoints(found, categories, truth.keypoint_counts)
    if iou_type == "bbox" or (len(found) and value_of(found.rows[0], "bbox")):
        boxes, _ = found.boxes()
        found.refuse((np.abs(boxes) > _LARGEST).any(axis=1), "bbox", "is too large a number")
        found.refuse((boxes[:, 2:] < 0).any(axis=1), "bbox", "has a negative width or height")
    return Detections(images, categories, boxes, _NO, scores, masks, points)


def _keypoints(found: Records, categories: Ints, counts: Ints) -> np.ndarray:
    given = [value_of(row, "keypoints") for row in found.rows]
    absent = np.array([values is None for values in given], bool) & (counts[categories] > 0)
    found.refuse(absent, "keypoints", "is not there; its category has some")
    points, unusable = stack_keypoints(given, categories, counts)
    refuse_keypoints(found, unusable, counts[categories])
    return points


def _positions(found: Records, what: str, known: np.ndarray) -> Ints:
    """Which of the ground truth's images or categories each result names."""
    positions, unknown = _places(found.integers(f"{what}_id")[0], known)
    plural = {"image": "images", "category": "categories"}[what]
    found.refuse(
        unknown, f"{what}_id", f"is not among the ground truth's {plural}: {_REMEDIES[what]}"
    )
    return positions


def _places(ids: Ints, known: np.ndarray) -> tuple[Ints, np.ndarray]:
    """Where each id is among the known ones, which ascend, and which are not there."""
    positions = np.minimum(np.searchsorted(known, ids), max(len(known) - 1, 0))
    return positions, known[positions] != ids if len(known) else np.ones(len(ids), bool)
