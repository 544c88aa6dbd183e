"""Intervals of means of a few trainings, by Student's t."""

import math
import statistics
from collections.abc import Sequence

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
    tail = 2 * (1 - probability)  # both tails together are I_x(freedom / 2, 1 / 2)
    low, high = 0.0, 1.0
    for _ in range(200):  # x falls from 1 to 0 as t grows
        middle = (low + high) / 2
        if _incomplete_beta(middle, freedom / 2) < tail:
            low = middle
        else:
            high = middle
    x = (low + high) / 2
    return math.sqrt(freedom * (1 - x) / x)


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
