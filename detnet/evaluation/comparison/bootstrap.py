"""Paired bootstrap over images, and what the differences in its resamples say."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypedDict

import numpy as np

from detnet.evaluation.comparison.accumulation import weighted_scores
from detnet.evaluation.grid import Measure
from detnet.evaluation.matching import ClassRankings, Matches, class_rankings

NOISE = "cannot be told from noise"
_NUMBERS_AT_ONCE = 4_000_000


class Difference(TypedDict):
    """Two scores, the other's less the first's, and the interval that it lies in."""

    first: float
    other: float
    difference: float
    low: float | None
    high: float | None
    verdict: str


Cell = Difference | None  # None where there is no ground truth


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


def tell_difference(
    values: list[float | None], drawn: np.ndarray, images: int, confidence: float
) -> Cell:
    """The other's score less the first's, with the middle part of the resampled differences.

    Args:
        values: first, other.
        drawn: (R,) resampled differences, NaN where there was nothing to be found.
        images: on which there is something to be found.
    """
    first, other = values
    if first is None or other is None:
        return None
    low = high = None
    verdict = NOISE
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) >= len(drawn):
        edges = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(defined.astype(np.float64), edges).tolist()
        if images >= least_images(confidence) and (low > 0 or high < 0):
            verdict = "higher" if low > 0 else "lower"
    return {
        "first": first,
        "other": other,
        "difference": other - first,
        "low": low,
        "high": high,
        "verdict": verdict,
    }


def least_images(confidence: float) -> int:
    """Counts the images that an interval takes: fewer all differ the same way too often by chance.

    Of n images that differ at random all differ the same way with probability 2^(1 - n), while
    resamples of so few hardly differ and their interval is far too narrow.
    """
    return math.ceil(1 - math.log2(1 - confidence))
