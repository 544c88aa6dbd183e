"""NSGA-II: evolution towards the front of score against costs."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from detnet.errors import InputError
from detnet.search.costs import COSTS
from detnet.search.methods.method import (
    CandidateSampler,
    Method,
    Scored,
    SpacePath,
    require_children,
)

if TYPE_CHECKING:
    from detnet.search.costs.constraints import Constraints


class Nsga2(Method):
    """Searches the networks for which no other has a higher score at no higher cost.

    The first generation is random. In every later one the survivors are the `population` best of
    all successful candidates so far, by front and, within the last front that fits, by crowding
    distance. Parents are drawn among them by binary tournament; mutants and crossovers are made as
    in `Evolution`, and random paths fill the generation.

    Departs from the paper: survivors come from all of the history, not from the last generation's
    survivors and their children alone; a child is a mutant or a crossover, not both.

    Args:
        constraints, seed, population, generations: see `Method`.
        objectives: costs to make small, of "macs", "params", "latency_ms"; the score, to make
            large, always comes with them, named or not.
        mutations, crossovers, mutation_rate: see `Evolution`.

    Raises:
        InputError: a number outside its range, an unknown objective, or latency where it cannot
            be measured.

    Paper: Deb et al. 2002, "A fast and elitist multiobjective genetic algorithm: NSGA-II".
    """

    def __init__(
        self,
        constraints: "Constraints",
        objectives: Sequence[str] = ("macs",),
        *,
        seed: int = 0,
        population: int = 50,
        generations: int = 20,
        mutations: int = 20,
        crossovers: int = 20,
        mutation_rate: float = 0.1,
    ) -> None:
        super().__init__(constraints, seed=seed, population=population, generations=generations)
        require_children(population, mutations, crossovers, mutation_rate)
        self.objectives = _costs(objectives)
        if "latency_ms" in self.objectives and constraints.latency is None:
            raise InputError("the objective latency_ms needs a way to measure it")
        self.mutations, self.crossovers = mutations, crossovers
        self.mutation_rate = mutation_rate

    def choose(self, sampler: CandidateSampler, history: Sequence[Scored]) -> None:
        survivors = self.survivors(history)
        if not survivors:
            return

        def pick() -> SpacePath:  # survivors are ordered, so the smaller place wins a tournament
            places = (sampler.rng.random(2) * len(survivors)).astype(int)
            return survivors[int(places.min())]

        sampler.mutate(pick, self.mutations, self.mutation_rate)
        sampler.cross(pick, self.crossovers)

    def survivors(self, history: Sequence[Scored]) -> list[SpacePath]:
        """The candidates that may be parents: best front first, least crowded first within it.

        Raises:
            InputError: a candidate has no recorded cost.
        """
        indices, points = _points(history, self.objectives)
        rank, distance = ranks(points), np.zeros(len(points))
        for front_number in np.unique(rank):
            members = rank == front_number
            distance[members] = crowding(points[members])
        order = np.lexsort((np.arange(len(points)), -distance, rank))
        return [history[indices[place]].path for place in order[: self.population].tolist()]


def front(scored: Sequence[Scored], objectives: Sequence[str]) -> list[int]:
    """Finds the candidates that no other beats.

    Args:
        scored: failed ones are left out.
        objectives: costs to make small, see `Nsga2`.

    Returns:
        Indices into `scored`, ascending; of candidates equal in everything all are there.

    Raises:
        InputError: no objective, an unknown one, one twice, or a candidate without its cost.
    """
    indices, points = _points(scored, _costs(objectives))
    return [index for index, rank in zip(indices, ranks(points), strict=True) if rank == 0]


def ranks(points: np.ndarray) -> np.ndarray:
    """Sorts points into fronts: 0 for those that none dominates, 1 for those next, …

    Args:
        points: (n, m), smaller is better in every column.

    Returns:
        (n,) int64.

    Paper: Deb et al. 2002, Section III-A.
    """
    before = points[:, None, :]
    dominates = np.all(before <= points, axis=2) & np.any(before < points, axis=2)
    found = np.full(len(points), -1)
    for number in range(len(points)):
        left = found < 0
        if not left.any():
            break
        found[left & ~dominates[left].any(0)] = number
    return found


def crowding(points: np.ndarray) -> np.ndarray:
    """Tells how far the neighbours of each point of one front are apart.

    Args:
        points: (n, m) of one front.

    Returns:
        (n,): sum over the columns of the distance between the two neighbours, in units of the
        column's range; infinite for the first and last of every column.

    Paper: Deb et al. 2002, Section III-B.
    """
    total = np.zeros(len(points))
    for column in points.T:
        order = np.argsort(column, kind="stable")
        values = column[order]
        total[order[[0, -1]]] = np.inf
        if values[-1] > values[0]:
            total[order[1:-1]] += (values[2:] - values[:-2]) / (values[-1] - values[0])
    return total


def _costs(objectives: Sequence[str]) -> tuple[str, ...]:
    costs = tuple(name for name in objectives if name != "score")
    if not costs or len(set(costs)) < len(costs) or not set(costs) <= set(COSTS):
        raise InputError(
            f"objectives must be one or more of {', '.join(COSTS)}, each once; "
            f"got {', '.join(objectives) or 'none'}"
        )
    return costs


def _points(scored: Sequence[Scored], costs: Sequence[str]) -> tuple[list[int], np.ndarray]:
    """The successful candidates' indices, and (n, 1 + costs) of them, smaller being better."""
    indices, rows = [], []
    for index, one in enumerate(scored):
        if one.score is None:
            continue
        missing = [name for name in costs if name not in one.costs]
        if missing:
            raise InputError(f"candidate {index} has no recorded {missing[0]}")
        indices.append(index)
        rows.append([-one.score, *(one.costs[name] for name in costs)])
    return indices, np.array(rows, dtype=float).reshape(len(rows), 1 + len(costs))
