"""Why a detector errs: kinds of error and what each costs, confusion, calibration, doubtful labels.

Everything reads the matches of one evaluation. docs/diagnosis.md says what each number means.
"""

import math
from typing import Any

import numpy as np

from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.diagnose_errors import error_costs, find_errors
from detnet.evaluation.diagnose_labels import confusion, label_errors
from detnet.evaluation.diagnose_matches import Statuses, check_threshold, overlaps, statuses

__all__ = ["Statuses", "diagnose", "statuses"]

_CURVES = (50, 75)
_BINS = 10


def diagnose(
    evaluation: Evaluation, *, iou_threshold: float = 0.5, score_threshold: float = 0.5
) -> dict[str, Any]:
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
        InputError: another engine than hotcoco made the evaluation, or a threshold is unusable.

    Paper: Bolya et al. 2020, arXiv:2008.08115, Section 2, for "errors".
    """
    if not math.isfinite(score_threshold):
        raise InputError(f"score_threshold {score_threshold} must be a finite number")
    threshold = check_threshold(evaluation, iou_threshold)
    found = statuses(evaluation, iou_threshold=threshold)
    near = overlaps(evaluation, np.flatnonzero(found.counted & ~found.hit))
    base, errors = error_costs(evaluation, found, find_errors(evaluation, found, near, threshold))
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
        "calibration": _calibration(evaluation, found, threshold),
        "label_errors": label_errors(evaluation, found, near, threshold, score_threshold),
        "images": _images(evaluation, found, sure),
    }


def _curves(evaluation: Evaluation) -> dict[str, Any]:
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


def _calibration(evaluation: Evaluation, found: Statuses, threshold: float) -> dict[str, Any]:
    """How far scores are from the share of detections that are right; None beyond 0 to 1."""
    names = evaluation.truth.names
    scores = evaluation.detections.scores[found.counted]
    nothing: dict[str, Any] = {
        "ece": None,
        "mce": None,
        "bins": [],
        "per_class": dict.fromkeys(names),
    }
    if not len(scores) or scores.min() < 0 or scores.max() > 1:
        return nothing
    told = evaluation.evaluator.calibration(_BINS, threshold)
    return {
        "ece": told["ece"],
        "mce": told["mce"],
        "bins": [
            {
                "low": one["bin_lower"],
                "high": one["bin_upper"],
                "score": one["avg_confidence"] if one["count"] else None,
                "precision": one["avg_accuracy"] if one["count"] else None,
                "count": one["count"],
            }
            for one in told["bins"]
        ],
        "per_class": {name: told["per_category"].get(name) for name in names},
    }


def _images(evaluation: Evaluation, found: Statuses, sure: np.ndarray) -> dict[str, dict[str, Any]]:
    truth, detections = evaluation.truth, evaluation.detections
    count = len(truth.image_ids)
    sought = np.bincount(truth.images[found.sought], minlength=count)
    right = np.bincount(detections.images[found.hit & sure], minlength=count)
    false = np.bincount(detections.images[found.counted & ~found.hit & sure], minlength=count)
    return {
        str(image_id): {
            "found": found_here,
            "missed": sought_here - found_here,
            "false": false_here,
            "AP50": None if math.isnan(ap) else ap,
        }
        for image_id, sought_here, found_here, false_here, ap in zip(
            truth.image_ids.tolist(),
            sought.tolist(),
            right.tolist(),
            false.tolist(),
            found.image_ap.tolist(),
            strict=True,
        )
    }
