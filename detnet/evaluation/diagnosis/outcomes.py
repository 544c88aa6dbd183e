"""What became of every detection and every object, and what overlaps what, of whatever class."""

from dataclasses import dataclass, replace

import numpy as np

from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.grid import AREAS, MAX_DETS
from detnet.evaluation.matching import candidates, match
from detnet.evaluation.overlaps import overlaps_of


@dataclass(frozen=True)
class Outcomes:
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


def find_outcomes(evaluation: Evaluation, *, iou_threshold: float = 0.5) -> Outcomes:
    """Tells which detections found which objects; rows are those of the evaluation's columns.

    Raises:
        InputError: the evaluation is of keypoints, or its grid lacks the threshold.
    """
    threshold = check_threshold(evaluation, iou_threshold)
    truth, detections = evaluation.truth, evaluation.detections
    grid = replace(
        evaluation.grid,
        iou_thresholds=(threshold,),
        areas={"all": AREAS["all"]},
        max_dets=MAX_DETS[-1:],
    )
    matches = match(truth, detections, grid)
    objects, counts = matches.matched[0, 0], ~matches.ignored[0, 0]
    truth_of = np.full(len(detections.images), -1, np.int32)
    truth_of[matches.rows] = np.where(counts, objects, -1)
    counted = np.zeros(len(truth_of), bool)
    counted[matches.rows] = counts
    found_by = np.full(len(truth.images), -1, np.int32)
    hits = np.flatnonzero(truth_of >= 0)
    found_by[truth_of[hits]] = hits
    return Outcomes(truth_of >= 0, counted, truth_of, found_by, ~matches.truth_ignored[0])


def check_threshold(evaluation: Evaluation, iou_threshold: float) -> float:
    """The grid's own value of an IoU threshold, for an evaluation that can be diagnosed.

    Raises:
        InputError: see `find_outcomes`.
    """
    if evaluation.grid.iou_type == "keypoints":
        raise InputError("a diagnosis is of boxes or masks, not of keypoints; take --iou-type bbox")
    thresholds = evaluation.grid.iou_thresholds
    try:
        return thresholds[evaluation.grid.threshold(iou_threshold)]
    except ValueError:
        raise InputError(
            f"iou_threshold {iou_threshold} was not evaluated; choose one of "
            f"{', '.join(f'{t:.6g}' for t in thresholds)} or add it to iou_thresholds"
        ) from None


@dataclass(frozen=True)
class Pairs:
    """Detections and objects of one image that overlap: P pairs, by detection, IoU not 0.

    Args:
        rows: (P,) rows of detections.
        objects: (P,) rows of objects.
        ious: (P,); for a crowd the share of the detection that lies in it, as in COCO.
    """

    rows: np.ndarray
    objects: np.ndarray
    ious: np.ndarray

    def where(self, chosen: np.ndarray) -> "Pairs":
        """The pairs marked in `chosen` (P,)."""
        return Pairs(self.rows[chosen], self.objects[chosen], self.ious[chosen])

    def best(self, count: int) -> tuple[np.ndarray, np.ndarray]:
        """Each of `count` detections' largest IoU, 0 for none, and its object, -1 for none."""
        largest, objects = np.zeros(count), np.full(count, -1)
        order = np.lexsort((-self.objects, self.ious))
        # The last assignment stays: the largest IoU, of equal ones the first object.
        largest[self.rows[order]] = self.ious[order]
        objects[self.rows[order]] = self.objects[order]
        return largest, objects


def find_overlaps(evaluation: Evaluation, rows: np.ndarray) -> Pairs:
    """Overlaps of some detections with all objects of their images, of whatever class.

    Args:
        rows: which detections; only the images that these lie in are looked at.
    """
    truth, detections = evaluation.truth, evaluation.detections
    overlaps = overlaps_of(truth, evaluation.grid)
    parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
    for members, objects in candidates(detections.images[rows], truth.images):
        ious = overlaps(truth, detections, rows[members], objects)
        some = ious > 0
        parts.append((rows[members][some], objects[some], ious[some]))
    return Pairs(*(np.concatenate(columns) for columns in zip(*parts, strict=True)))
