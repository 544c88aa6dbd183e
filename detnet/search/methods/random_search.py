"""Random search: the baseline that a search must beat on the same budget."""

from collections.abc import Sequence
from typing import ClassVar

from detnet.search.methods.drawing import Drawer
from detnet.search.methods.method import Method, Scored


class RandomSearch(Method):
    """Draws every candidate at random, whatever the scores.

    Its first generation is that of `Evolution` and `Nsga2` with the same seed.

    Args:
        legality, seed, population, generations: see `Method`; the budget is their product.
    """

    OPTIONS: ClassVar = frozenset({"seed", "population", "generations"})

    def choose(self, drawer: Drawer, history: Sequence[Scored]) -> None:
        pass
