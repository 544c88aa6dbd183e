"""What became of every detection and every object, read from the matches of one evaluation."""

import math
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pycocotools.mask

from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.grid import MAX_DETS


@dataclass(frozen=True)
class Statuses:
    """COCO's matches at one IoU threshold, at all scores.

    Detections are matched from the surest on, so a score threshold may be applied afterwards:
    what is left is what matching only the surer ones would have given.

    Args:
        hit: (D,) whether a detection found an object.
        counted: (D,) whether it is right or wrong at all; not where a crowd took it, nor past
            the 100 surest of its image and class, as in every AP.
        truth_of: (D,) int32 row of the object it found, -1 for none.
        found_by: (G,) int32 row of the detection that found an object, -1 for none.
        sought: (G,) whether an object is to be found: no crowds.
    """

    hit: np.ndarray
    counted: np.ndarray
    truth_of: np.ndarray
    found_by: np.ndarray
    sought: np.ndarray


def statuses(evaluation: Evaluation, *, iou_threshold: float = 0.5) -> Statuses:
    """Tells which detections found which objects; rows are those of the evaluation's columns.

    Raises:
        InputError: another engine than hotcoco made the evaluation, or its grid lacks the
            threshold.
    """
    threshold = check_threshold(evaluation, iou_threshold)
    truth, detections = evaluation.truth, evaluation.detections
    found_by = np.full(len(truth.images), -1, np.int32)
    truth_of = np.full(len(detections.images), -1, np.int32)
    counted = np.zeros(len(truth_of), bool)
    sought = np.zeros(len(found_by), bool)
    if evaluation.evaluator is not None:
        # Above every score: hotcoco's own list of label errors is not used.
        told = evaluation.evaluator.image_diagnostics(threshold, math.inf)
        rows = _integers(told["dt_match"]) - 1
        truth_of[rows] = _integers(told["dt_match"].values()) - 1
        counted[_integers(told["dt_status"]) - 1] = True
        sought[_integers(told["gt_status"]) - 1] = True
        if evaluation.grid.max_dets[-1] > MAX_DETS[-1]:
            past = _ranks(evaluation) >= MAX_DETS[-1]
            truth_of[past], counted[past] = -1, False
    hits = np.flatnonzero(truth_of >= 0)
    found_by[truth_of[hits]] = hits
    return Statuses(truth_of >= 0, counted, truth_of, found_by, sought)


def _ranks(evaluation: Evaluation) -> np.ndarray:
    """(D,) place of each detection among those of its image and class, the surest at 0."""
    detections = evaluation.detections
    groups = detections.images * len(evaluation.truth.names) + detections.categories
    order = np.lexsort((-detections.scores, groups))
    firsts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    ranks = np.empty(len(order), np.int64)
    ranks[order] = np.arange(len(order)) - np.repeat(firsts, np.diff(firsts, append=len(order)))
    return ranks


def check_threshold(evaluation: Evaluation, iou_threshold: float) -> float:
    """The grid's own value of an IoU threshold, for an evaluation that can be diagnosed.

    Raises:
        InputError: see `statuses`.
    """
    if evaluation.grid.iou_type == "keypoints":
        raise InputError("a diagnosis is of boxes or masks, not of keypoints; take --iou-type bbox")
    if not evaluation.engine.startswith("hotcoco"):
        raise InputError(
            f"engine {evaluation.engine} does not tell which detections it matched; "
            "evaluate with engine hotcoco to have a diagnosis"
        )
    thresholds = evaluation.grid.iou_thresholds
    try:
        return thresholds[evaluation.grid.threshold(iou_threshold)]
    except ValueError:
        raise InputError(
            f"iou_threshold {iou_threshold} was not evaluated; choose one of "
            f"{', '.join(f'{t:.6g}' for t in thresholds)} or add it to iou_thresholds"
        ) from None


@dataclass(frozen=True)
class Overlaps:
    """Detections and objects of one image that overlap: P pairs, by detection, IoU not 0.

    Args:
        rows: (P,) rows of detections.
        objects: (P,) rows of objects.
        ious: (P,); for a crowd the share of the detection that lies in it, as in COCO.
    """

    rows: np.ndarray
    objects: np.ndarray
    ious: np.ndarray

    def where(self, chosen: np.ndarray) -> "Overlaps":
        """The pairs marked in `chosen` (P,)."""
        return Overlaps(self.rows[chosen], self.objects[chosen], self.ious[chosen])

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Each of `count` detections' largest IoU, 0 for none, and its object, -1 for none."""
        largest, objects = np.zeros(count), np.full(count, -1)
        order = np.lexsort((-self.objects, self.ious))
        # The last assignment stays: the largest IoU, of equal ones the first object.
        largest[self.rows[order]] = self.ious[order]
        objects[self.rows[order]] = self.objects[order]
        return largest, objects


def overlaps(evaluation: Evaluation, rows: np.ndarray) -> Overlaps:
    """Overlaps of some detections with all objects of their images, of whatever class.

    Args:
        rows: which detections; only the images that these lie in are looked at.
    """
    truth, detections = evaluation.truth, evaluation.detections
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    rows = rows[np.argsort(detections.images[rows], kind="stable")]
    objects = np.argsort(truth.images, kind="stable")
    images, starts = np.unique(detections.images[rows], return_index=True)
    bounds = np.append(starts, len(rows))
    firsts = np.searchsorted(truth.images[objects], images)
    lasts = np.searchsorted(truth.images[objects], images, side="right")
    shape_of = _shapes(evaluation)
    with warnings.catch_warnings():
        # pycocotools 2.0.11 converts its buffers in a way that numpy 2 deprecates.
        warnings.simplefilter("ignore", DeprecationWarning)
        for i, (first, last) in enumerate(zip(firsts, lasts, strict=True)):
            here, there = rows[bounds[i] : bounds[i + 1]], objects[first:last]
            if not len(there):
                continue
            found, sought = shape_of(detections, here), shape_of(truth, there)
            ious = pycocotools.mask.iou(found, sought, truth.crowd[there].astype(np.uint8))
            row, column = np.nonzero(ious)
            parts.append((here[row], there[column], ious[row, column]))
    if not parts:
        return Overlaps(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0))
    return Overlaps(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))


def _shapes(evaluation: Evaluation) -> Callable[[Any, np.ndarray], Any]:
    """A function that takes the boxes, or the masks, of some rows as pycocotools wants them."""
    if evaluation.grid.iou_type == "bbox":
        return lambda columns, rows: np.ascontiguousarray(columns.boxes[rows])
    return lambda columns, rows: [columns.masks[row] for row in rows]


def _integers(values: Any) -> np.ndarray:
    return np.fromiter(values, np.int64, len(values))
