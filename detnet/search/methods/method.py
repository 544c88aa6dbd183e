"""What a way of searching is: generations of paths, each a pure function of what came before."""

import inspect
import itertools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from detnet.errors import InputError
from detnet.tables import NameTable

if TYPE_CHECKING:
    from detnet.search.costs.constraints import Constraints

SpacePath = tuple[int, ...]  # one choice for each gene of a space
_TRIES = 100  # per path that is wanted
_LISTED = 4096  # spellings up to which a space is listed when chance finds no more
_PURPOSE = 5  # sets these draws apart from all others of the same seed

METHODS = NameTable(
    "search method",
    {
        "evolution": "detnet.search.methods.method:Evolution",
        "random": "detnet.search.methods.method:RandomSearch",
        "nsga2": "detnet.search.methods.nsga2:Nsga2",
    },
)


@dataclass(frozen=True)
class Scored:
    """A candidate whose turn is over.

    Args:
        path: the canonical one.
        values: the score first, higher is better; None if the candidate failed.
        costs: "macs", "params", "latency_ms", as recorded.
    """

    path: SpacePath
    values: tuple[float, ...] | None
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The first value; None for a failed candidate, and for a score that is no number."""
        if self.values is None or not math.isfinite(self.values[0]):
            return None
        return self.values[0]


class CandidateSampler:
    """Chooses the paths of one generation, none of them twice and none seen before.

    A mutant or crossover that is not new or not legal is drawn again, up to 100 times as often as
    paths are wanted (DetNAS's release counts only its successes, and so may never end). Random
    ones fill what is missing.

    Args:
        constraints: says which paths may be scored, and of which space.
        rng: of this generation alone.
        seen: paths of earlier generations.
    """

    def __init__(
        self, constraints: "Constraints", rng: np.random.Generator, seen: Collection[SpacePath]
    ) -> None:
        self.constraints, self.rng = constraints, rng
        self.space = constraints.space
        self.chosen: list[SpacePath] = []
        self._seen = set(seen)
        self._counts = np.array([len(gene.choices) for gene in self.space.genes])

    def draw_random(self, count: int) -> None:
        """Chooses up to `count` paths, every spelling of a legal one equally likely.

        When chance does not find enough, a small space is listed, so that none of its paths is
        missed. In a large one, random paths are brought within the limits: gene by gene, in random
        order, they take the choices of a legal path until they are legal. Those paths are not
        uniform among the legal.
        """
        count -= self._collect(count, self._random)
        if count <= 0:
            return
        if math.prod(self._counts.tolist()) <= _LISTED:
            spellings = itertools.product(*(range(int(most)) for most in self._counts))
            paths = sorted({self.space.check(path) for path in spellings} - self._seen)
            order = iter(self.rng.permutation(len(paths)).tolist())
            self._collect(count, lambda: paths[next(order)], tries=len(paths))
        else:
            try:
                legal = self.constraints.require_possible()
            except InputError:  # which is said where a search starts; here there is no more
                return
            self._collect(count, lambda: self._repaired(legal))

    def mutate(self, pick: Callable[[], SpacePath], count: int, rate: float) -> None:
        """Chooses up to `count` mutants.

        Args:
            pick: draws a parent.
            count: how many.
            rate: chance of each gene to be redrawn among all of its choices, its own included.
        """

        def make() -> SpacePath:
            parent = pick()
            redrawn = self.rng.random(len(parent)) < rate
            return self._spelt(np.where(redrawn, self._uniform(), parent))

        self._collect(count, make)

    def cross(self, pick: Callable[[], SpacePath], count: int) -> None:
        """Chooses up to `count` paths that have each gene from one of two parents, evenly."""

        def make() -> SpacePath:
            one, other = pick(), pick()
            return self._spelt(np.where(self.rng.random(len(one)) < 0.5, one, other))

        self._collect(count, make)

    def _collect(
        self, count: int, make: Callable[[], SpacePath], *, tries: int | None = None
    ) -> int:
        """Takes what is new and legal of what is made, and tells how many that was."""
        before = len(self.chosen)
        for _ in range(_TRIES * count if tries is None else tries):
            if len(self.chosen) - before >= count:
                break
            path = make()
            if path not in self._seen and self.constraints.allows(path):
                self._seen.add(path)
                self.chosen.append(path)
        return len(self.chosen) - before

    def _uniform(self) -> np.ndarray:
        """One index for every gene: products of doubles are the same on every machine."""
        return (self.rng.random(len(self._counts)) * self._counts).astype(np.int64)

    def _random(self) -> SpacePath:
        return self._spelt(self._uniform())

    def _repaired(self, legal: SpacePath) -> SpacePath:
        path = self._random()
        for gene in self.rng.permutation(len(path)).tolist():
            if self.constraints.allows(path):
                break
            path = self.space.check((*path[:gene], legal[gene], *path[gene + 1 :]))
        return path

    def _spelt(self, genes: "np.ndarray | Sequence[int]") -> SpacePath:
        return self.space.check(np.asarray(genes).tolist())


class Method(ABC):
    """A way of searching.

    Args:
        constraints: says which paths may be scored.
        seed: of all draws.
        population: candidates in a generation.
        generations: how many.

    Raises:
        InputError: a size below 1.
    """

    def __init__(
        self,
        constraints: "Constraints",
        *,
        seed: int = 0,
        population: int = 50,
        generations: int = 20,
    ) -> None:
        require_sizes(population=population, generations=generations)
        self.constraints, self.seed = constraints, seed
        self.population, self.generations = population, generations

    def generation(self, index: int, history: Sequence[Scored]) -> list[SpacePath]:
        """Chooses the candidates of one generation.

        A pure function of seed, index and history, wherever and whenever it is asked. No path is
        chosen twice in a study, nor one over the limits. Where the space has no more that can be
        found, there are fewer, or none.

        Args:
            index: from 0.
            history: all candidates of earlier generations, ordered by generation and slot; none
                is missing, whether it succeeded or failed.
        """
        if not 0 <= index < self.generations:
            return []
        rng = np.random.default_rng(np.random.SeedSequence((self.seed, _PURPOSE, index)))
        sampler = CandidateSampler(self.constraints, rng, {one.path for one in history})
        self.choose(sampler, history)
        sampler.draw_random(self.population - len(sampler.chosen))
        return sampler.chosen

    @abstractmethod
    def choose(self, sampler: CandidateSampler, history: Sequence[Scored]) -> None:
        """Has `sampler` choose up to `population` paths; random ones will fill what is left."""


def make_method(name: str, constraints: "Constraints", **options: Any) -> Method:
    """Makes a search method by its name, leaving out the options that it does not have.

    Args:
        name: of `METHODS`.
        constraints: says which paths may be scored.
        options: seed, population, generations, and of `Evolution` and `Nsga2` their own; so that
            one set of settings serves all methods.

    Raises:
        InputError: an unknown name, or an option outside its range.
        TypeError: no search method has an option of that name.
    """
    kind = METHODS[name]
    taken = {other: inspect.signature(METHODS[other]).parameters for other in METHODS}
    unknown = set(options).difference(*taken.values())
    if unknown:
        raise TypeError(f"no search method has an option {', '.join(sorted(unknown))}")
    own = {option: value for option, value in options.items() if option in taken[name]}
    method: Method = kind(constraints, **own)
    return method


def require_sizes(**sizes: int) -> None:
    """Refuses sizes below 1.

    Raises:
        InputError: naming the first that is.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} must be at least 1, got {size}")


class RandomSearch(Method):
    """Draws every candidate at random, whatever the scores.

    Its first generation is that of `Evolution` and `Nsga2` with the same seed.

    Args:
        constraints, seed, population, generations: see `Method`; the budget is their product.
    """

    def choose(self, sampler: CandidateSampler, history: Sequence[Scored]) -> None:
        pass


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
