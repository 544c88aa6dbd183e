"""Why a detector errs: kinds of error and what each costs, confusion, calibration, doubtful labels.

Everything reads the matches of one evaluation. docs/diagnosis.md says what each number means.
"""

import math

import numpy as np

from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.diagnosis.errors import (
    average_precisions,
    confusion,
    error_costs,
    find_errors,
    label_errors,
    ranked,
)
from detnet.evaluation.diagnosis.outcomes import (
    Outcomes,
    check_threshold,
    find_outcomes,
    find_overlaps,
)
from detnet.evaluation.diagnosis.records import (
    Calibration,
    CalibrationBin,
    Confusion,
    Curves,
    Diagnosis,
    ImageTally,
)

_CURVES = (50, 75)
_BINS = 10  # of the calibration


def diagnose(
    evaluation: Evaluation, *, iou_threshold: float = 0.5, score_threshold: float = 0.5
) -> Diagnosis:
    """Tells what kinds of errors a detector makes, and what each costs.

    Args:
        iou_threshold: from which overlap on an object is found; one of the evaluation's.
        score_threshold: detections below it are left out of the confusion matrix, the label
            errors and the images' counts. Errors, curves and calibration take all scores.

    Returns:
        A JSON-able dict, None where there is nothing to average: "AP50" (the AP at
        `iou_threshold`), "errors" {kind: count, cost in AP}, "confusion", "curves",
        "calibration", "label_errors" and "images" {image id: found, missed, false, AP50}.

    Raises:
        InputError: it is of keypoints, or a threshold is unusable.

    Paper: Bolya et al. 2020, arXiv:2008.08115, Section 2, for "errors".
    """
    if not math.isfinite(score_threshold):
        raise InputError(f"score_threshold {score_threshold} must be a finite number")
    threshold = check_threshold(evaluation, iou_threshold)
    found = find_outcomes(evaluation, iou_threshold=threshold)
    near = find_overlaps(evaluation, np.flatnonzero(found.counted & ~found.hit))
    order = ranked(evaluation, found)
    kinds = find_errors(evaluation, found, near, threshold)
    base, errors = error_costs(evaluation, found, kinds, order)
    sure = evaluation.detections.scores >= score_threshold
    near = near.where(sure[near.rows])
    return {
        "iou_type": evaluation.grid.iou_type,
        "iou_threshold": iou_threshold,
        "score_threshold": score_threshold,
        "AP50": base,
        "errors": errors,
        "confusion": confusion(evaluation, found, near, threshold, score_threshold),
        "curves": _curves(evaluation),
        "calibration": _calibration(evaluation, found),
        "label_errors": label_errors(evaluation, found, near, threshold, score_threshold),
        "images": _images(evaluation, found, sure, order),
    }


def confusion_from(
    evaluation: Evaluation, score_threshold: float, *, iou_threshold: float = 0.5
) -> Confusion:
    """Counts what is taken for what from another score on; see `diagnose`."""
    threshold = check_threshold(evaluation, iou_threshold)
    found = find_outcomes(evaluation, iou_threshold=threshold)
    near = find_overlaps(evaluation, np.flatnonzero(found.counted & ~found.hit))
    near = near.where(evaluation.detections.scores[near.rows] >= score_threshold)
    return confusion(evaluation, found, near, threshold, score_threshold)


def _curves(evaluation: Evaluation) -> Curves:
    """Precision at 101 recalls by class, all sizes, and the mean of the classes that have any."""
    names, grid = evaluation.truth.names, evaluation.grid
    whole = list(grid.areas).index("all")
    by_threshold: dict[str, list[list[float] | None]] = {}
    mean: dict[str, list[float] | None] = {}
    for percent in _CURVES:
        precision = evaluation.tables.precision[
            grid.threshold(percent / 100), :, :, whole, grid.coco_most
        ]
        there = np.asarray((precision > -1).all(0))
        key = str(percent)
        by_threshold[key] = [
            precision[:, k].tolist() if defined else None
            for k, defined in enumerate(there.tolist())
        ]
        mean[key] = precision[:, there].mean(1).tolist() if there.any() else None
    return {
        "recalls": [r / 100 for r in range(101)],
        "thresholds": list(_CURVES),
        "classes": {
            name: {key: curves[k] for key, curves in by_threshold.items()}
            for k, name in enumerate(names)
        },
        "mean": mean,
    }


def _images(
    evaluation: Evaluation, found: Outcomes, sure: np.ndarray, order: np.ndarray
) -> dict[str, ImageTally]:
    truth, detections = evaluation.truth, evaluation.detections
    count = len(truth.image_ids)
    sought = np.bincount(truth.images[found.sought], minlength=count)
    right = np.bincount(detections.images[found.hit & sure], minlength=count)
    false = np.bincount(detections.images[found.counted & ~found.hit & sure], minlength=count)
    ap = average_precisions(detections.images[order], found.hit[order], sought)
    rows = zip(
        truth.image_ids.tolist(), *(c.tolist() for c in (sought, right, false, ap)), strict=True
    )
    return {
        str(image_id): {
            "found": here,
            "missed": objects - here,
            "false": wrong,
            "AP50": precision if objects else None,
        }
        for image_id, objects, here, wrong, precision in rows
    }


def _calibration(evaluation: Evaluation, found: Outcomes) -> Calibration:
    """Sets the scores beside the share of detections that are right, in ten bins.

    The numbers are hotcoco's, which has no way to stop at 100 results per image and class.

    Returns:
        "ece", the mean distance over all detections, "mce", the largest of a bin, "bins", and
        "per_class", the ece of each. None, and no bins, where nothing counts or a score is
        not between 0 and 1.
    """
    names, detections = evaluation.truth.names, evaluation.detections
    scores, right = detections.scores[found.counted], found.hit[found.counted]
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return {"ece": None, "mce": None, "bins": [], "per_class": dict.fromkeys(names)}
    bins = np.minimum((scores * _BINS).astype(np.int64), _BINS - 1)
    cells = detections.categories[found.counted] * _BINS + bins
    counts, said, true = (
        np.bincount(cells, values, len(names) * _BINS).reshape(len(names), _BINS)
        for values in (None, scores, right)
    )
    per_class = {}
    for k, name in enumerate(names):
        per_class[name] = _error(counts[k], said[k], true[k]) if counts[k].any() else None
    totals = counts.sum(0), said.sum(0), true.sum(0)
    sums = np.stack(totals)[:, totals[0] > 0]
    shown = [_bin(n, *one) for n, one in enumerate(zip(*totals, strict=True))]
    return {
        "ece": _error(*totals),
        "mce": float(np.abs(sums[1] / sums[0] - sums[2] / sums[0]).max()),
        "bins": shown,
        "per_class": per_class,
    }


def _error(counts: np.ndarray, said: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error: a bin's weight is its count, by which its means are divided."""
    return float(np.abs(said - true).sum() / counts.sum())


def _bin(number: int, count: np.integer, said: float, true: float) -> CalibrationBin:
    return {
        "low": number / _BINS,
        "high": (number + 1) / _BINS,
        "score": float(said / count) if count else None,
        "precision": float(true / count) if count else None,
        "count": int(count),
    }
