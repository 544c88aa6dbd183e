"""How well one score ranks networks that another score measures: Kendall's τ, and its interval."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

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
    if resamples < 1 or not 0 < confidence < 1:
        raise ValueError(
            f"resamples must be positive and confidence in (0, 1), got {resamples}, {confidence}"
        )
    signs = _signs(a, b)
    size = len(a)
    rng = np.random.default_rng(np.random.SeedSequence((seed, _PURPOSE)))
    drawn = rng.integers(size, size=(resamples, size))
    rows = np.arange(resamples)[:, None] * size
    counts = np.bincount((drawn + rows).ravel(), minlength=resamples * size)
    taus = _tau(signs, counts.reshape(resamples, size).astype(float))
    tail = (1 - confidence) / 2
    low, high = np.nanquantile(taus, [tail, 1 - tail])
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
