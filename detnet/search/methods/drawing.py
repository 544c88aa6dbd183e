"""Draws paths that are new and within the limits."""

import itertools
import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

import numpy as np

from detnet.errors import InputError

if TYPE_CHECKING:
    from detnet.search.costs.limits import Legality

Path = tuple[int, ...]
_TRIES = 100  # per path that is wanted
_LISTED = 4096  # spellings up to which a space is listed when chance finds no more


class Drawer:
    """Chooses the paths of one generation, none of them twice and none seen before.

    A mutant or crossover that is not new or not legal is drawn anew, up to 100 times as often as
    paths are wanted (DetNAS's release counts only its successes, and so may never end). Random
    ones fill what is missing.

    Args:
        legality: says which paths may be scored, and of which space.
        rng: of this generation alone.
        seen: paths of earlier generations.
    """

    def __init__(
        self, legality: "Legality", rng: np.random.Generator, seen: Collection[Path]
    ) -> None:
        self.legality, self.rng = legality, rng
        self.space = legality.space
        self.chosen: list[Path] = []
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
                legal = self.legality.require_possible()
            except InputError:  # which is said where a search starts; here there is no more
                return
            self._collect(count, lambda: self._repaired(legal))

    def mutate(self, pick: Callable[[], Path], count: int, rate: float) -> None:
        """Chooses up to `count` mutants.

        Args:
            pick: draws a parent.
            count: how many.
            rate: chance of each gene to be redrawn among all of its choices, its own included.
        """

        def make() -> Path:
            parent = pick()
            redrawn = self.rng.random(len(parent)) < rate
            return self._spelt(np.where(redrawn, self._uniform(), parent))

        self._collect(count, make)

    def cross(self, pick: Callable[[], Path], count: int) -> None:
        """Chooses up to `count` paths that have each gene from one of two parents, evenly."""

        def make() -> Path:
            one, other = pick(), pick()
            return self._spelt(np.where(self.rng.random(len(one)) < 0.5, one, other))

        self._collect(count, make)

    def _collect(self, count: int, make: Callable[[], Path], *, tries: int | None = None) -> int:
        """Takes what is new and legal of what is made, and tells how many that was."""
        before = len(self.chosen)
        for _ in range(_TRIES * count if tries is None else tries):
            if len(self.chosen) - before >= count:
                break
            path = make()
            if path not in self._seen and self.legality.allows(path):
                self._seen.add(path)
                self.chosen.append(path)
        return len(self.chosen) - before

    def _uniform(self) -> np.ndarray:
        """One index for every gene: products of doubles are the same on every machine."""
        return (self.rng.random(len(self._counts)) * self._counts).astype(np.int64)

    def _random(self) -> Path:
        return self._spelt(self._uniform())

    def _repaired(self, legal: Path) -> Path:
        path = self._random()
        for gene in self.rng.permutation(len(path)).tolist():
            if self.legality.allows(path):
                break
            path = self.space.check((*path[:gene], legal[gene], *path[gene + 1 :]))
        return path

    def _spelt(self, genes: "np.ndarray | Sequence[int]") -> Path:
        return self.space.check(np.asarray(genes).tolist())
