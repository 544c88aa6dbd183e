"""Whether a score says how often a detection is right."""

from typing import Any

import numpy as np

from detnet.evaluation.coco import Evaluation
from detnet.evaluation.diagnosis.outcomes import Outcomes

_BINS = 10


def calibration(evaluation: Evaluation, found: Outcomes) -> dict[str, Any]:
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
    shown = [_bin(n, *sums) for n, sums in enumerate(zip(*totals, strict=True))]
    return {
        "ece": _error(*totals),
        "mce": max(abs(one["score"] - one["precision"]) for one in shown if one["count"]),
        "bins": shown,
        "per_class": per_class,
    }


def _error(counts: np.ndarray, said: np.ndarray, true: np.ndarray) -> float:
    """Expected calibration error: a bin's weight is its count, by which its means are divided."""
    return float(np.abs(said - true).sum() / counts.sum())


def _bin(number: int, count: np.integer, said: float, true: float) -> dict[str, Any]:
    return {
        "low": number / _BINS,
        "high": (number + 1) / _BINS,
        "score": float(said / count) if count else None,
        "precision": float(true / count) if count else None,
        "count": int(count),
    }
