"""How well one score ranks networks that another score measures: Kendall's τ, and its interval."""

import math
import statistics
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

_MANY = 200  # degrees of freedom
_PURPOSE = 31  # keeps these draws apart from others of the same seed


def kendall_tau(a: Sequence[float], b: Sequence[float]) -> float:
    """Kendall's τ-b: how far two scores of the same candidates agree on their order.

    1 for the same order, -1 for the opposite one, about 0 for orders that know nothing of each
    other. Pairs that a score ties count for neither side, and make the largest value possible
    smaller on both sides alike.

    Raises:
        ValueError: of different lengths, fewer than two candidates, a number that is not finite, or
            a score that is the same for all of them: τ is not defined then.

    Paper: Kendall 1945, "The treatment of ties in ranking problems", Biometrika 33(3).
    """
    signs = _signs(a, b)
    counts = np.ones((1, len(a)))
    return float(_tau(signs, counts)[0])


def tau_interval(
    a: Sequence[float],
    b: Sequence[float],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The percentile bootstrap interval of Kendall's τ-b, over candidates.

    Candidates are drawn with both their scores, as many as there are, with replacement. Draws of
    which all have one score are left out, since τ is not defined for them; with ten candidates that
    is one draw in a thousand million, with three one in nine.

    The interval tells how much τ depends on which candidates happened to be drawn. It does not
    cover what another training of each would score.

    Args:
        resamples: how often to draw.
        seed: of the draws.
        confidence: share of the draws' τ that the interval holds, its middle part.

    Returns:
        Its lower and its upper end.

    Raises:
        ValueError: as `kendall_tau`; no resamples; a confidence outside (0, 1).
    """
    signs = _signs(a, b)
    return _middle(_tau(signs, _draws(len(a), resamples, seed, confidence)), confidence)


def tau_difference_interval(
    a: Sequence[float],
    other: Sequence[float],
    b: Sequence[float],
    *,
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
) -> tuple[float, float]:
    """The interval of how much better one score ranks candidates than another does.

    That is τ of `a` with `b` less τ of `other` with `b`, both over the draws that `tau_interval`
    makes: what is hard to rank is so for both, and the difference is known better than either τ.

    Args:
        a, other: two scores of the same candidates.
        b: what both are to rank.
        resamples, seed, confidence: see `tau_interval`.

    Returns:
        Its lower and its upper end.

    Raises:
        ValueError: as `tau_interval`.
    """
    drawn = [_signs(a, b), _signs(other, b)]
    counts = _draws(len(a), resamples, seed, confidence)
    first, second = (_tau(signs, counts) for signs in drawn)
    return _middle(first - second, confidence)


def _draws(size: int, resamples: int, seed: int, confidence: float) -> NDArray[np.float64]:
    """How often each candidate is in each draw, (resamples, size).

    Raises:
        ValueError: no resamples; a confidence outside (0, 1).
    """
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"resamples must be positive and confidence in (0, 1), got {resamples}, {confidence}"
        )
    rng = np.random.default_rng(np.random.SeedSequence((seed, _PURPOSE)))
    drawn = rng.integers(size, size=(resamples, size))
    rows = np.arange(resamples)[:, None] * size
    counts = np.bincount((drawn + rows).ravel(), minlength=resamples * size)
    return counts.reshape(resamples, size).astype(float)


def _middle(values: NDArray[np.float64], confidence: float) -> tuple[float, float]:
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(values, [tail, 1 - tail])
    return float(low), float(high)


def _signs(a: Sequence[float], b: Sequence[float]) -> tuple[NDArray[np.float64], ...]:
    """For every ordered pair of candidates, which of them each score prefers: -1, 0 or 1."""
    if len(a) != len(b):
        raise ValueError(f"two scores of the same candidates are needed, got {len(a)} and {len(b)}")
    if len(a) < 2:
        raise ValueError(f"Kendall's tau needs at least two candidates, got {len(a)}")
    found = []
    for values in (np.asarray(a, dtype=float), np.asarray(b, dtype=float)):
        if not np.isfinite(values).all():
            raise ValueError(f"scores must be finite, got {values[~np.isfinite(values)][0]}")
        if (values == values[0]).all():
            raise ValueError(f"all {len(values)} candidates have the score {values[0]:g}")
        found.append((values[:, None] > values).astype(float) - (values[:, None] < values))
    return tuple(found)


def _tau(
    signs: tuple[NDArray[np.float64], ...], counts: NDArray[np.float64]
) -> NDArray[np.float64]:
    """τ-b of samples that hold each candidate so many times; NaN where it is not defined.

    Args:
        counts: (samples, candidates).
    """
    first, second = signs

    def pairs(table: NDArray[np.float64]) -> NDArray[np.float64]:
        return np.einsum("si,si->s", counts @ table, counts)

    untied = np.sqrt(pairs(np.abs(first)) * pairs(np.abs(second)))
    agreement = pairs(first * second)
    return np.divide(agreement, untied, out=np.full(len(counts), np.nan), where=untied > 0)


Interval = tuple[float, float]


def mean_interval(values: Sequence[float], *, confidence: float = 0.95) -> Interval | None:
    """The t-interval of the mean; None for fewer than two values.

    It takes the values for draws from a normal distribution, as seeds of one training about are.
    """
    if len(values) < 2:
        return None
    error = statistics.stdev(values) / math.sqrt(len(values))
    return _around(statistics.fmean(values), error, len(values) - 1, confidence)


def difference_interval(
    first: Sequence[float], second: Sequence[float], *, confidence: float = 0.95
) -> Interval | None:
    """Welch's interval of the first mean less the second; None where a side has one value only.

    The two sides may spread differently: seeds of one network, and different networks.

    Paper: Welch 1947, "The generalization of 'Student's' problem when several different population
    variances are involved", Biometrika 34.
    """
    if len(first) < 2 or len(second) < 2:
        return None
    sides = [(statistics.variance(values) / len(values), len(values)) for values in (first, second)]
    total = sum(share for share, _ in sides)
    difference = statistics.fmean(first) - statistics.fmean(second)
    if total == 0:
        return difference, difference
    freedom = total**2 / sum(share**2 / (count - 1) for share, count in sides)
    return _around(difference, math.sqrt(total), freedom, confidence)


def _around(middle: float, error: float, freedom: float, confidence: float) -> Interval:
    reach = t_quantile(0.5 + confidence / 2, freedom) * error
    return middle - reach, middle + reach


def t_quantile(probability: float, freedom: float) -> float:
    """The value that Student's t stays below with this probability.

    Args:
        probability: above 0.5 and below 1.
        freedom: degrees of freedom, at least 1; fractions are fine.

    Raises:
        ValueError: outside these ranges.
    """
    if not 0.5 < probability < 1 or not freedom >= 1:
        raise ValueError(
            f"probability must lie in (0.5, 1) and freedom be at least 1, got {probability}, "
            f"{freedom}"
        )
    if freedom > _MANY:
        return _near_normal(probability, freedom)
    tail = 2 * (1 - probability)  # both tails together are I_x(freedom / 2, 1 / 2)
    low, high = 0.0, 1.0
    for _ in range(200):  # x falls from 1 to 0 as t grows
        middle = (low + high) / 2
        if middle in (low, high):  # neighbours
            break
        if _incomplete_beta(middle, freedom / 2) < tail:
            low = middle
        else:
            high = middle
    x = (low + high) / 2
    return math.sqrt(freedom * (1 - x) / x)


def _near_normal(probability: float, freedom: float) -> float:
    """Student's quantile from the normal one, to nine digits where `freedom` is large.

    The series below would lose all of them there.
    """
    z = statistics.NormalDist().inv_cdf(probability)
    terms = (
        z,
        (z**3 + z) / 4,
        (5 * z**5 + 16 * z**3 + 3 * z) / 96,
        (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / 384,
    )
    return sum(term / freedom**power for power, term in enumerate(terms))


def _incomplete_beta(x: float, a: float) -> float:
    """The regularised I_x(a, 1/2), by its power series in x or, near 1, that of I_{1-x}(1/2, a)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > 0.5:
        return 1 - _series(1 - x, 0.5, a)
    return _series(x, a, 0.5)


def _series(x: float, a: float, b: float) -> float:
    """I_x(a, b) = x^a / (a B(a, b)) (1 + a Σ (1-b)(2-b)…(n-b) x^n / (n! (a+n)))."""
    logs = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    total, term, n = 1.0 / a, 1.0, 0
    while abs(term) > 1e-17 * abs(total) and n < 10_000:
        n += 1
        term *= (n - b) * x / n
        total += term / (a + n)
    return math.exp(a * math.log(x) + logs) * total
