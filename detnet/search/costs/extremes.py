"""Paths of least cost: found gene by gene, or exactly where costs add up."""

import math
from collections.abc import Callable, Iterable, Sequence

from detnet.backbones.spaces.space import Space

Path = tuple[int, ...]


def descend(
    space: Space,
    value: Callable[[Path], float],
    starts: Iterable[Sequence[int]],
    *,
    enough: float = -math.inf,
    sweeps: int = 20,
) -> Path:
    """Looks for the path of least value by changing one gene at a time.

    From every start each gene in turn takes its best choice, until a whole sweep changes nothing.
    The result cannot be bettered by any one gene; where genes depend on one another, changing two
    at once might.

    Args:
        space: whose paths.
        value: what shall be small.
        starts: paths to begin at, of which there is at least one.
        enough: a path of at most this value is returned as soon as it is met.
        sweeps: of a start, at most.
    """
    best: tuple[float, Path] | None = None
    for start in starts:
        path = space.check(start)
        found = _descend_from(space, value, (value(path), path), enough, sweeps)
        best = found if best is None else min(best, found)
        if best[0] <= enough:
            break
    assert best is not None
    return best[1]


def _descend_from(
    space: Space,
    value: Callable[[Path], float],
    best: tuple[float, Path],
    enough: float,
    sweeps: int,
) -> tuple[float, Path]:
    for _ in range(sweeps):
        before = best
        for number, gene in enumerate(space.genes):
            for choice in range(len(gene.choices)):
                if best[0] <= enough:
                    return best
                path = space.check((*best[1][:number], choice, *best[1][number + 1 :]))
                if path != best[1] and (now := value(path)) < best[0]:
                    best = (now, path)
        if best == before:
            break
    return best


def within_both(rows: Sequence[Sequence[tuple[int, int]]], bounds: tuple[float, float]) -> Path:
    """Finds one choice of every row so that both sums of its pairs are at most the bounds.

    Exact: after each row the sums that are beaten in both numbers are dropped, which leaves a few
    hundred of a shuffle space's 4²⁰.

    Args:
        rows: for every choice of a gene, what it adds to the two sums.
        bounds: of the two sums.

    Returns:
        The choices, or () when there are none.
    """
    front: list[tuple[int, int, Path]] = [(0, 0, ())]
    for row in rows:
        sums = sorted(
            (first + more[0], second + more[1], (*path, index))
            for first, second, path in front
            for index, more in enumerate(row)
        )
        front, least = [], math.inf
        for entry in sums:
            if entry[1] < least:
                front.append(entry)
                least = entry[1]
    fitting = (path for *sums_, path in front if sums_[0] <= bounds[0] and sums_[1] <= bounds[1])
    return next(fitting, ())
