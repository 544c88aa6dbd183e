"""The difference of two variants over other seeds and other images, and what it takes to see it.

Every seed is measured on the same images: images are crossed with seeds. A score's error then has
three parts: that of the images, which all seeds of a variant share; that of the seed; and how this
seed happens to fare on these images. The variance of the difference of means is

    seeds, first + seeds, other + images

where a side's share of the seeds is the variance of its scores over their number. It holds the
third part as well, once for each seed. Resampling the images moves the first and the third part
together, so the third, which is told by how far seeds move apart as images are resampled, is taken
off again: else it would count twice.
"""

import bisect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from typing import Literal

import numpy as np

from detnet.evaluation.comparison.bootstrap import least_images
from detnet.search.standalone.statistics import t_quantile

Verdict = Literal["agrees", "disagrees", "cannot tell"]

POWER = 0.8  # chance that a stated effect shows, in `seeds_needed`
MOST_SEEDS = 200
_t_quantile = cache(t_quantile)
_LEAST_DRAWS = 0.5  # share of the resamples that must have something to be found


@dataclass(frozen=True)
class SeedScores:
    """One variant's scores.

    Args:
        values: (S,) of each seed, on the images as they are.
        drawn: (S, R) on R resamples of the images, the same for all seeds and variants; NaN where
            a resample holds nothing to be found.
    """

    values: np.ndarray
    drawn: np.ndarray


@dataclass(frozen=True)
class CrossedDifference:
    """One score less another, with where it would lie for other seeds and images.

    Args:
        value: mean of the first's seeds less mean of the other's; a fraction.
        seeds: of the first and of the other.
        paired: whether seeds were taken in pairs.
        images: on which there is something to be found.
        interval: None where seeds or images are too few to give one, as the next.
        seed_error: the value's standard error by the seeds, and by how they fare on these images.
        image_error: its standard error by the images, which no number of seeds would lessen.
        seed_variance: of the difference of two single seeds, for planning.
    """

    value: float
    seeds: tuple[int, int]
    paired: bool
    images: int
    interval: tuple[float, float] | None = None
    seed_error: float | None = None
    image_error: float | None = None
    seed_variance: float | None = None

    @property
    def verdict(self) -> Verdict:
        """Whether the first is higher, as the question supposes."""
        if self.interval is None or self.interval[0] <= 0 <= self.interval[1]:
            return "cannot tell"
        return "agrees" if self.interval[0] > 0 else "disagrees"


def crossed_difference(
    first: SeedScores,
    other: SeedScores,
    *,
    images: int,
    paired: bool = False,
    confidence: float = 0.95,
) -> CrossedDifference:
    """Compares two variants whose seeds were measured on the same images.

    The interval is Student's: by Welch's degrees of freedom for the seeds, whose two sides may vary
    differently, by the number of images for the images, and of the two quantiles the mean, each as
    heavy as its part of the variance. Degrees of freedom for the sum of both, after Satterthwaite,
    would hold too rarely with two seeds. benchmarks/campaign_intervals.py measures how often it
    holds the true difference.

    Args:
        images: on which there is something to be found; the interval takes at least
            `least_images`.
        paired: seed by seed, where seeds of both share something that varies, as a pre-training.
        confidence: share of such intervals that hold the true difference.

    Raises:
        ValueError: seeds in pairs of which one lacks, or no seed.

    Paper: Welch 1947, Biometrika 34; the mean of quantiles is that of Cochran and Cox 1950,
    "Experimental Designs", for two variances.
    """
    counts = len(first.values), len(other.values)
    if not all(counts) or paired and counts[0] != counts[1]:
        raise ValueError(f"seeds of both sides are needed, in pairs as many, got {counts}")
    value = float(first.values.mean() - other.values.mean())
    drawn = _defined(first.drawn, other.drawn)
    if drawn is None or min(counts) < 2 or images < least_images(confidence):
        return CrossedDifference(value, counts, paired, images)
    if paired:
        apart, moved = [first.values - other.values], [drawn[0] - drawn[1]]
    else:
        apart, moved = [first.values, other.values], [*drawn]
    variances = [float(side.var(ddof=1)) for side in apart]
    shares = [one / len(side) for one, side in zip(variances, apart, strict=True)]
    few = images / (images - 1)  # resamples of few images vary less than new images would
    together = float((drawn[0].mean(0) - drawn[1].mean(0)).var(ddof=1)) * few
    own = sum(_fare(side) * few / len(side) for side in moved)
    of_seeds, of_images = sum(shares), max(0.0, together - own)
    squares = sum(one**2 / (len(side) - 1) for one, side in zip(shares, apart, strict=True))
    freedom = of_seeds**2 / squares if squares else math.inf
    reach = _reach(0.5 + confidence / 2, of_seeds, freedom, of_images, images)
    return CrossedDifference(
        value,
        counts,
        paired,
        images,
        (value - reach, value + reach),
        math.sqrt(of_seeds),
        math.sqrt(of_images),
        sum(variances),
    )


def _reach(
    probability: float, of_seeds: float, freedom: float, of_images: float, images: int
) -> float:
    """How far a value goes that Student's t stays below with this probability.

    Args:
        of_seeds, of_images: parts of the variance.
        freedom: of the first part.
    """
    total = of_seeds + of_images
    if not total:
        return 0.0
    by_seeds = _t_quantile(probability, max(1.0, freedom)) if of_seeds else 0.0
    by_images = _t_quantile(probability, images - 1)
    return (by_seeds * of_seeds + by_images * of_images) / math.sqrt(total)


def seeds_needed(
    found: CrossedDifference, effect: float, *, confidence: float = 0.95, power: float = POWER
) -> int | None:
    """How many seeds of each variant an effect of this size would need to show.

    Args:
        found: tells how much seeds and images vary, on as many images as there are.
        effect: of this size or larger, a fraction above 0.
        power: chance that the interval then lies above zero.

    Returns:
        the seeds; None where more than `MOST_SEEDS` would not do, since the images alone leave more
        doubt, or the variances are not known.

    Raises:
        ValueError: the effect is not above 0.
    """
    if not effect > 0:
        raise ValueError(f"effect must be above 0, got {effect}")
    if found.seed_variance is None:
        return None

    def shows(seeds: int) -> bool:
        return smallest_effect(found, seeds, confidence=confidence, power=power) <= effect

    enough = bisect.bisect_left(range(2, MOST_SEEDS + 1), True, key=shows) + 2
    return enough if enough <= MOST_SEEDS else None


def smallest_effect(
    found: CrossedDifference, seeds: int, *, confidence: float = 0.95, power: float = POWER
) -> float:
    """The smallest effect that so many seeds of each variant would show with this chance.

    Args:
        found: with variances.
        seeds: at least 2.

    Raises:
        ValueError: the variances are not known, or fewer seeds.
    """
    if found.seed_variance is None or found.image_error is None or seeds < 2:
        raise ValueError(f"two seeds and known variances are needed, got {seeds} seeds")
    of_seeds, of_images = found.seed_variance / seeds, found.image_error**2
    freedom = (seeds - 1) * (1 if found.paired else 2)
    return sum(
        _reach(probability, of_seeds, freedom, of_images, found.images)
        for probability in (0.5 + confidence / 2, power)
    )


def _defined(*sides: np.ndarray) -> Sequence[np.ndarray] | None:
    """The resamples in which all have a score; None where these are too few."""
    there = ~np.isnan(np.concatenate(sides)).any(axis=0)
    if there.sum() < max(2, _LEAST_DRAWS * len(there)):
        return None
    return [np.asarray(side[:, there], np.float64) for side in sides]


def _fare(drawn: np.ndarray) -> float:
    """Variance over images of a seed's score beyond what all seeds share."""
    return float((drawn - drawn.mean(0)).var(axis=1, ddof=1).sum() / (len(drawn) - 1))
