import itertools

import numpy as np

from detnet.search.costs.extremes import descend, within_both
from tests.search.spaces import TINY


def test_descent_stops_where_no_single_gene_helps() -> None:
    found = descend(TINY, lambda path: abs(path[0] - 2) + abs(path[1] - path[2]), [(0, 1, 3)])
    assert found in {(2, i, i) for i in range(4)}
    # Two genes would have to change at once; from another start it succeeds.
    valley = {(0, 0, 0): 1.0, (3, 3, 0): 0.0}
    assert descend(TINY, lambda path: valley.get(path, 9.0), [(0, 0, 0)]) == (0, 0, 0)
    starts = [(0, 0, 0), (3, 0, 0)]
    assert descend(TINY, lambda path: valley.get(path, 9.0), starts) == (0, 0, 0)
    assert descend(TINY, lambda path: valley.get(path, 9.0), [(0, 0, 0), (3, 1, 0)]) == (3, 3, 0)


def test_enough_ends_a_descent() -> None:
    tried: list[tuple[int, ...]] = []

    def value(path: tuple[int, ...]) -> float:
        tried.append(path)
        return sum(path)

    assert sum(descend(TINY, value, [(3, 3, 3)], enough=6)) == 6
    assert len(tried) == 2
    assert descend(TINY, value, [(1, 1, 1), (0, 0, 0)], enough=3) == (1, 1, 1)
    assert (0, 0, 0) not in tried


def test_both_bounds_against_a_list_of_all() -> None:
    rng = np.random.default_rng(0)
    outcomes = set()
    for _ in range(60):
        rows = [[tuple(pair) for pair in row] for row in rng.integers(0, 30, (4, 3, 2)).tolist()]
        bounds = tuple(rng.integers(20, 60, 2).tolist())
        sums = [
            tuple(sum(row[i][c] for row, i in zip(rows, path, strict=True)) for c in (0, 1))
            for path in itertools.product(range(3), repeat=4)
        ]
        possible = any(a <= bounds[0] and b <= bounds[1] for a, b in sums)
        found = within_both(rows, bounds)
        outcomes.add(bool(found))
        assert bool(found) == possible
        if found:
            both = [sum(row[i][c] for row, i in zip(rows, found, strict=True)) for c in (0, 1)]
            assert both[0] <= bounds[0] and both[1] <= bounds[1]
    assert outcomes == {True, False}
