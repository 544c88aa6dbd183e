"""Paired bootstrap over images: how the scores of several models vary from one sample to another.

A resample draws as many images as there are, with replacement; every model is scored on the same
draw. An image drawn twice counts twice, which is a weight of 2, not a second matching.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detnet.evaluation.comparison.accumulation import (
    ClassRankings,
    average_precision,
    class_rankings,
    hits_within,
)
from detnet.evaluation.comparison.matching import Matches

_NUMBERS_AT_ONCE = 4_000_000
_EXACT_IN_FLOAT32 = 2**23


class Measure(NamedTuple):
    """AP or AR at one size and number of results, averaged over some thresholds.

    Args:
        recall: AR rather than AP.
        size, limit, thresholds: positions in the grid.
    """

    recall: bool
    size: int
    limit: int
    thresholds: tuple[int, ...]


@dataclass(frozen=True)
class Resamples:
    """Scores of each model in each resample, NaN where the resample holds no such object.

    Args:
        means: (models, measures, resamples), averaged over the classes that have objects.
        classes: (models, classes, class measures, resamples).
    """

    means: np.ndarray
    classes: np.ndarray


def bootstrap(
    models: Sequence[Matches],
    measures: Sequence[Measure],
    class_measures: Sequence[Measure],
    *,
    resamples: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Resamples:
    """Scores all models on the same resamples of their common images.

    Args:
        models: matches against the same ground truth, on the same grid.
        class_measures: those that are also wanted class by class.
        progress: called with the number of resamples done and their total.
    """
    truth = models[0].truth
    limits = sorted({(m.size, m.limit) for m in (*measures, *class_measures)})
    rankings = [
        [class_rankings(model, k, limits) for k in range(len(truth.names))] for model in models
    ]
    means = np.full((len(models), len(measures), resamples), np.nan)
    # Of many classes (LVIS has 1,203) these are many; 7 digits are enough for intervals.
    shape = (len(models), len(truth.names), len(class_measures), resamples)
    classes = np.full(shape, np.nan, np.float32)
    images, done = len(truth.image_ids), 0
    for weights in image_weights(images, resamples, seed, _columns(images, rankings)):
        until = done + weights.shape[1]
        for i, of_model in enumerate(rankings):
            means[i, :, done:until], classes[i, :, :, done:until] = weighted_scores(
                of_model, weights, measures, class_measures
            )
        done = until
        if progress is not None:
            progress(done, resamples)
    return Resamples(means, classes)


def weighted_scores(
    rankings: Sequence[ClassRankings],
    weights: np.ndarray,
    measures: Sequence[Measure],
    class_measures: Sequence[Measure],
) -> tuple[np.ndarray, np.ndarray]:
    """(measures, R) means and (classes, class measures, R) for weights (I, R) of the images."""
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
        self._known: dict[tuple[bool, int, int, int], np.ndarray] = {}

    def of(self, measure: Measure) -> np.ndarray:
        """(R,) the measure; of no meaning where the category has no objects."""
        recall, size, limit, thresholds = measure
        return np.mean([self._at(recall, size, t, limit) for t in thresholds], axis=0)

    def _at(self, recall: bool, size: int, threshold: int, limit: int) -> np.ndarray:
        key = (recall, size, threshold, limit)
        if key not in self._known:
            ranking, objects = self._rankings[key[1:]], np.maximum(self.objects[size], 1)
            self._known[key] = (
                hits_within(ranking, self._weights) / objects
                if recall
                else average_precision(ranking, self._weights, objects)
            )
        return self._known[key]


def _columns(images: int, rankings: Sequence[Sequence[ClassRankings]]) -> int:
    """How many resamples are worked on at once, so that memory does not grow with the data."""
    hits = (len(r.hits) for model in rankings for k in model for r in k.rankings.values())
    return int(np.clip(_NUMBERS_AT_ONCE // max(images, *hits, 1), 16, 1000))


def image_weights(images: int, resamples: int, seed: int, columns: int) -> Iterator[np.ndarray]:
    """Blocks of weights (I, R): how often each image is drawn; the same whatever the block."""
    random = np.random.default_rng(seed)
    for begin in range(0, resamples, columns):
        width = min(columns, resamples - begin)
        drawn = random.integers(0, images, (width, images))
        drawn += np.arange(width)[:, None] * images
        counts = np.bincount(drawn.ravel(), minlength=width * images).reshape(width, images)
        yield np.ascontiguousarray(counts.T, np.float32)
