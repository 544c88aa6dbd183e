"""DetNAS's evolution: the best of all so far are mutated and crossed."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from detnet.errors import InputError
from detnet.search.methods.method import CandidateSampler, Method, Scored, SpacePath, require_sizes

if TYPE_CHECKING:
    from detnet.search.costs.constraints import Constraints


class Evolution(Method):
    """DetNAS's search.

    The first generation is random. In every later one the parents are the best by score of all
    candidates so far, of equal ones the earlier; then come mutants of random parents, crossovers
    of two random parents, and random paths up to the population.

    Departs from the release: no path comes twice in a generation either, where the release marks a
    path as visited only after it is scored.

    Args:
        constraints, seed, population, generations: see `Method`.
        parents: how many of the best.
        mutations: how many mutants in a generation.
        crossovers: how many crossovers in a generation.
        mutation_rate: chance of each gene of a mutant to be redrawn.

    Raises:
        InputError: a number outside its range.

    Paper: Chen et al. 2019, arXiv:1903.10979; sizes and rate are the authors' release's.
    """

    OPTIONS: ClassVar = frozenset(
        {
            *("seed", "population", "generations"),
            *("parents", "mutations", "crossovers", "mutation_rate"),
        }
    )

    def __init__(
        self,
        constraints: "Constraints",
        *,
        seed: int = 0,
        population: int = 50,
        generations: int = 20,
        parents: int = 10,
        mutations: int = 20,
        crossovers: int = 20,
        mutation_rate: float = 0.1,
    ) -> None:
        super().__init__(constraints, seed=seed, population=population, generations=generations)
        require_sizes(parents=parents)
        require_children(population, mutations, crossovers, mutation_rate)
        self.parents, self.mutations, self.crossovers = parents, mutations, crossovers
        self.mutation_rate = mutation_rate

    def choose(self, sampler: CandidateSampler, history: Sequence[Scored]) -> None:
        best = self.best(history)
        if not best:
            return

        def pick() -> SpacePath:
            return best[int(sampler.rng.random() * len(best))]

        sampler.mutate(pick, self.mutations, self.mutation_rate)
        sampler.cross(pick, self.crossovers)

    def best(self, history: Sequence[Scored]) -> list[SpacePath]:
        """The parents: the best first; failed candidates are never among them."""
        scored = [(-one.score, one.path) for one in history if one.score is not None]
        return [path for _, path in sorted(scored, key=lambda pair: pair[0])][: self.parents]


def require_children(population: int, mutations: int, crossovers: int, rate: float) -> None:
    """Refuses numbers of children that do not fit a generation.

    Raises:
        InputError: naming the number and its range.
    """
    for name, count in (("mutations", mutations), ("crossovers", crossovers)):
        if count < 0:
            raise InputError(f"{name} must not be negative, got {count}")
    if mutations + crossovers > population:
        raise InputError(
            f"{mutations} mutations and {crossovers} crossovers do not fit a population of "
            f"{population}"
        )
    if not 0 <= rate <= 1:
        raise InputError(f"mutation_rate must lie in [0, 1], got {rate}")
