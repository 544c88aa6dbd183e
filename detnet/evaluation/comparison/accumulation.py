"""Precision and recall from matches, where each image counts as often as its weight says.

Weights of 1 give COCO's numbers; a resample of the images is other weights, and costs neither
matching nor sorting. Only where an object is found (a hit) can the precision that COCO reads off
change for the better, so of all other detections only their number between two hits is needed.
"""

import itertools
import math
from collections.abc import Sequence

import numpy as np

from detnet.evaluation.engines import Tables
from detnet.evaluation.grid import RECALLS, Measure
from detnet.evaluation.matching import ClassRankings, Matches, RankedDetections, class_rankings
from detnet.evaluation.metrics import Curve

_NUMBERS_IN_CACHE = 250_000
_EXACT_IN_FLOAT32 = 2**23
# How many of COCO's recalls are reached by a recall of q percent at 2q, and by one between q and
# q + 1 percent at 2q + 1. Some of the recalls lie a bit above the fraction they stand for.
_REACHED = np.stack(
    [np.searchsorted(RECALLS, np.arange(101) / 100, "right"), np.arange(1, 102)], 1
).ravel()


def accumulate(matches: Matches) -> Tables:
    """Precision and recall over the whole grid, equal to what the evaluators give."""
    grid, categories = matches.grid, len(matches.truth.names)
    counts = (categories, len(grid.areas), len(grid.max_dets))
    precision = -np.ones((len(grid.iou_thresholds), len(RECALLS), *counts))
    recall = -np.ones((len(grid.iou_thresholds), *counts))
    limits = [(a, m) for a in range(len(grid.areas)) for m in range(len(grid.max_dets))]
    for k in range(categories):
        of_class = class_rankings(matches, k, limits)
        for (a, t, m), ranking in of_class.rankings.items():
            objects = len(of_class.objects[a])
            if objects:
                precision[t, :, k, a, m] = precision_curve(ranking.hits, objects)
                recall[t, k, a, m] = len(ranking.hits) / objects
    return Tables(precision, recall)


def precision_curve(hits: np.ndarray, objects: int) -> np.ndarray:
    """(101,) precision at each of COCO's recalls, 0 where it is not reached; its mean is the AP.

    Args:
        hits: ranks from 0 of the detections that find an object, ascending.
        objects: to be found, at least as many as that and 1.
    """
    found = np.arange(1.0, len(hits) + 1)
    precision = np.maximum.accumulate((found / (hits + 1))[::-1])[::-1]
    reached = _reached(found, np.array(float(objects))).astype(int)
    at_recalls = np.zeros(len(RECALLS))
    given = np.repeat(precision, np.diff(reached, prepend=0))
    at_recalls[: len(given)] = given
    return at_recalls


def average_precision(
    ranking: RankedDetections, weights: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """(R,) average precision for each of R weightings of the images.

    Args:
        weights: (I, R), whole numbers in float32 or float64; every product of 100 and the
            weighted number of objects is to be exact in that type.
        objects: (R,) weighted number of objects, at least 1.
    """
    if not len(ranking.hits):
        return np.zeros(weights.shape[1], weights.dtype)
    seen = _sums_up_to_hits(ranking, weights)
    _run(seen, np.add)
    found = weights.take(ranking.hit_images, axis=0)
    _run(found, np.add)
    precision = np.divide(found, np.maximum(seen, 1, out=seen), out=seen)
    _run(precision[::-1], np.maximum)
    reached = _reached(found, objects)
    # The sum over hits of precision times recalls newly reached, by parts.
    total = reached[-1] * precision[-1]
    total += np.einsum("pr,pr->r", reached[:-1], precision[:-1] - precision[1:])
    return total / len(RECALLS)


def hits_within(ranking: RankedDetections, weights: np.ndarray) -> np.ndarray:
    """(R,) weighted number of objects found."""
    return weights.take(ranking.hit_images, axis=0).sum(axis=0)


def _of_curve(
    curve: Curve, ranking: RankedDetections, weights: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """(R,) what a registered metric makes of it."""
    if not len(ranking.hits):
        return np.zeros(weights.shape[1])
    found = weights.take(ranking.hit_images, axis=0).cumsum(axis=0)
    return curve(found, _sums_up_to_hits(ranking, weights).cumsum(axis=0), objects)


def weighted_scores(
    rankings: Sequence[ClassRankings],
    weights: np.ndarray,
    measures: Sequence[Measure],
    class_measures: Sequence[Measure],
) -> tuple[np.ndarray, np.ndarray]:
    """Gives means (measures, R) and (classes, class measures, R) for weights (I, R) of the images.

    Both are NaN where there are no such objects.
    """
    width = weights.shape[1]
    sums = np.zeros((len(measures), width))
    counts = np.zeros((len(measures), width))
    classes = np.full((len(rankings), len(class_measures), width), np.nan)
    for k, of_class in enumerate(rankings):
        scores = _ClassScores(of_class, weights)
        for q, measure in enumerate(measures):
            there = scores.objects[measure.size] > 0
            sums[q] += np.where(there, scores.of(measure), 0)
            counts[q] += there
        for q, measure in enumerate(class_measures):
            there = scores.objects[measure.size] > 0
            classes[k, q] = np.where(there, scores.of(measure), np.nan)
    return np.divide(sums, counts, out=np.full_like(sums, np.nan), where=counts > 0), classes


class _ClassScores:
    """Scores of one category; each ranking is gone through once, for all measures that need it."""

    def __init__(self, of_class: ClassRankings, weights: np.ndarray) -> None:
        longest = max((len(r.images) for r in of_class.rankings.values()), default=0)
        most = max((len(images) for images in of_class.objects), default=0)
        if weights.size and max(100 * most, longest) * weights.max() > _EXACT_IN_FLOAT32:
            weights = weights.astype(np.float64)
        self._rankings, self._weights = of_class.rankings, weights
        self.objects = [weights.take(images, axis=0).sum(axis=0) for images in of_class.objects]
        self._known: dict[tuple[str | Curve, int, int, int], np.ndarray] = {}

    def of(self, measure: Measure) -> np.ndarray:
        """(R,) the measure; of no meaning where the category has no objects."""
        of, size, limit, thresholds = measure
        return np.mean([self._at(of, size, t, limit) for t in thresholds], axis=0)

    def _at(self, of: str | Curve, size: int, threshold: int, limit: int) -> np.ndarray:
        key = (of, size, threshold, limit)
        if key not in self._known:
            ranking, objects = self._rankings[key[1:]], np.maximum(self.objects[size], 1)
            if callable(of):
                self._known[key] = _of_curve(of, ranking, self._weights, objects)
            elif of == "AR":
                self._known[key] = hits_within(ranking, self._weights) / objects
            else:
                self._known[key] = average_precision(ranking, self._weights, objects)
        return self._known[key]


def _sums_up_to_hits(ranking: RankedDetections, weights: np.ndarray) -> np.ndarray:
    """(hits, R) weighted number of detections after the hit before and up to this one."""
    starts = np.concatenate([[0], ranking.hits[:-1] + 1])
    sums = np.empty((len(starts), weights.shape[1]), weights.dtype)
    # A piece at a time, so that what is gathered is summed before it leaves the cache.
    pieces = starts // max(1, _NUMBERS_IN_CACHE // weights.shape[1])
    cuts = [0, *(np.flatnonzero(np.diff(pieces)) + 1).tolist(), len(starts)]
    for first, last in itertools.pairwise(cuts):
        begin, end = starts[first], ranking.hits[last - 1] + 1
        gathered = weights.take(ranking.images[begin:end], axis=0)
        np.add.reduceat(gathered, starts[first:last] - begin, axis=0, out=sums[first:last])
    return sums


def _reached(found: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """How many of COCO's recalls the recall found / objects reaches, of found's type.

    Exact also where the recall is one of them: as they are compared with a quotient rounded to
    the nearest double, only quotients of whole percents lie that near.
    """
    percent = found * 100
    percent /= objects
    below = np.floor(percent)
    below += np.ceil(percent, out=percent)
    return _REACHED.astype(found.dtype).take(below.astype(np.intp))


def _run(rows: np.ndarray, operation: np.ufunc) -> None:
    """Replaces each row by the operation's running result over the rows up to it.

    numpy's own `accumulate` takes one number at a time along the first axis, ten times slower.
    Blocks of rows are run side by side, then each is joined to the one before.
    """
    length = max(1, math.isqrt(len(rows)))
    whole = len(rows) // length * length
    blocks = rows[:whole].reshape(-1, length, *rows.shape[1:])
    for i in range(1, length):
        operation(blocks[:, i - 1], blocks[:, i], out=blocks[:, i])
    for i in range(1, len(blocks)):
        operation(blocks[i - 1, -1], blocks[i], out=blocks[i])
    for i in range(max(whole, 1), len(rows)):
        operation(rows[i - 1], rows[i], out=rows[i])
