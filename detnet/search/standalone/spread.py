"""How far networks differ beside how far seeds do: what bounds how well anything can rank them."""

import math
from collections.abc import Sequence
from functools import cache

import numpy as np

from detnet.search.records import NetworkSpread
from detnet.text import percent

_DRAWS = 200_000  # of F, whose quantiles are then known to half a percent
_PURPOSE = 36  # keeps these draws apart from others of the same seed
GOOD_TAU = 0.6
MOST_SEEDS = 100


def measure_spread(
    values: Sequence[Sequence[float]], *, confidence: float = 0.95
) -> NetworkSpread | None:
    """Takes what networks reach apart into what is theirs and what is their seeds'.

    All networks are trained by the same seeds, which give them the same order of images: networks
    are crossed with seeds. What a seed gives all networks alike ranks nothing and falls out. The
    networks' own values are normal, and so is what is left about them, equally wide for all. Of the
    means over n seeds a share r = σ²networks / (σ²networks + σ²seeds / n) is the networks' own:
    their reliability. Its interval is exact, by F of k-1 and (k-1)(n-1) degrees of freedom.

    Args:
        values: for each network what it reached by each seed; the same seeds for all.
        confidence: of the interval.

    Returns:
        None for fewer than two networks or two seeds, or where no two values differ.

    Raises:
        ValueError: networks with different numbers of seeds.
    """
    table = [list(row) for row in values]
    if len({len(row) for row in table}) > 1:
        raise ValueError(f"equally many seeds are needed, got {[len(row) for row in table]}")
    if len(table) < 2 or len(table[0]) < 2:
        return None
    found = np.array(table)
    networks, seeds = found.shape
    apart = found - found.mean(axis=0)
    left = apart - apart.mean(axis=1, keepdims=True)
    within = float((left**2).sum() / (networks - 1) / (seeds - 1))
    means = float(found.mean(axis=1).var(ddof=1))  # σ²networks + σ²seeds / n
    if means == 0:
        return None
    share = within / seeds / means  # 1 / F
    low, high = _f_interval(networks - 1, (networks - 1) * (seeds - 1), confidence)
    return NetworkSpread(
        networks=networks,
        seeds=seeds,
        of_networks=math.sqrt(max(0.0, means - within / seeds)),
        of_seeds=math.sqrt(within),
        reliability=max(0.0, 1 - share),
        interval=(max(0.0, 1 - share * high), max(0.0, 1 - share * low)),
    )


@cache
def _f_interval(above: int, below: int, confidence: float) -> tuple[float, float]:
    """The middle part of F with these degrees of freedom."""
    rng = np.random.default_rng(np.random.SeedSequence((0, _PURPOSE)))
    drawn = [rng.chisquare(freedom, _DRAWS) / freedom for freedom in (above, below)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(drawn[0] / drawn[1], [tail, 1 - tail])
    return float(low), float(high)


def tau_ceiling(reliability: float) -> float:
    """Kendall's τ that a score has on average which knows what networks truly reach.

    What is measured of them holds the chance of seeds, so that not even the truth ranks it without
    fault: (2/π) arcsin √r, where both are normal.

    Args:
        reliability: of what is measured, 0 to 1.

    Raises:
        ValueError: outside that range.

    Paper: Kendall 1949, "Rank and product-moment correlation", Biometrika 36.
    """
    if not 0 <= reliability <= 1:
        raise ValueError(f"reliability must lie in [0, 1], got {reliability}")
    return 2 / math.pi * math.asin(math.sqrt(reliability))


def seeds_for(spread: NetworkSpread, tau: float = GOOD_TAU) -> int | None:
    """How many seeds of each network raise the ceiling of τ to a value.

    Returns:
        None where `MOST_SEEDS` would not.

    Raises:
        ValueError: τ outside (0, 1).
    """
    if not 0 < tau < 1:
        raise ValueError(f"tau must lie in (0, 1), got {tau}")
    needed = math.sin(math.pi / 2 * tau) ** 2
    own = spread.of_networks**2
    if own == 0:
        return None
    seeds = max(1, math.ceil(spread.of_seeds**2 / own * needed / (1 - needed)))
    return seeds if seeds <= MOST_SEEDS else None


def spread_lines(spread: NetworkSpread, confidence: float) -> list[str]:
    """What differs by how much, and what that allows, a sentence each."""
    low, high = (tau_ceiling(end) for end in spread.interval)
    needed = seeds_for(spread)
    more = (
        f"takes {needed} seed{'s' * (needed != 1)} of each network"
        if needed
        else f"would not be reached with {MOST_SEEDS} seeds of each network"
    )
    return [
        f"Networks differ by {percent(spread.of_networks, 2)} points of AP, trainings of one "
        f"network by {percent(spread.of_seeds, 2)}, beside what a seed gives all of them (standard "
        f"deviations; {spread.networks} networks, {spread.seeds} seeds)",
        f"With {spread.seeds} seeds no score is expected to rank them better than tau "
        f"{tau_ceiling(spread.reliability):.2f} ({low:.2f} to {high:.2f}, "
        f"{100 * confidence:g} % interval); a ceiling of {GOOD_TAU:g} {more}",
    ]
