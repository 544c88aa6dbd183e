"""What a way of searching is: generations of paths, each a pure function of what came before."""

import math
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from detnet.errors import InputError
from detnet.search.methods.drawing import Drawer
from detnet.tables import NameTable

if TYPE_CHECKING:
    from detnet.search.costs.limits import Legality

Path = tuple[int, ...]
_PURPOSE = 5  # sets these draws apart from all others of the same seed

METHODS = NameTable(
    "search method",
    {
        "evolution": "detnet.search.methods.evolution:Evolution",
        "random": "detnet.search.methods.random_search:RandomSearch",
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

    path: Path
    values: tuple[float, ...] | None
    costs: dict[str, float] = field(default_factory=dict)

    @property
    def score(self) -> float | None:
        """The first value; None for a failed candidate, and for a score that is no number."""
        if self.values is None or not math.isfinite(self.values[0]):
            return None
        return self.values[0]


class Method(ABC):
    """A way of searching.

    Args:
        legality: says which paths may be scored.
        seed: of all draws.
        population: candidates in a generation.
        generations: how many.

    Raises:
        InputError: a size below 1.
    """

    def __init__(
        self, legality: "Legality", *, seed: int = 0, population: int = 50, generations: int = 20
    ) -> None:
        require_sizes(population=population, generations=generations)
        self.legality, self.seed = legality, seed
        self.population, self.generations = population, generations

    def generation(self, index: int, history: Sequence[Scored]) -> list[Path]:
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
        drawer = Drawer(self.legality, rng, {one.path for one in history})
        self.choose(drawer, history)
        drawer.draw_random(self.population - len(drawer.chosen))
        return drawer.chosen

    @abstractmethod
    def choose(self, drawer: Drawer, history: Sequence[Scored]) -> None:
        """Has `drawer` choose up to `population` paths; random ones will fill what is left."""


def make_method(name: str, legality: "Legality", **options: Any) -> Method:
    """Makes a search method by its name, leaving out the options that it does not have.

    Args:
        name: of `METHODS`.
        legality: says which paths may be scored.
        options: seed, population, generations, and of `Evolution` and `Nsga2` their own; so that
            one set of settings serves all methods.

    Raises:
        InputError: an unknown name, or an option outside its range.
    """
    kind = METHODS[name]
    unknown = set(options) - {option for other in METHODS for option in METHODS[other].OPTIONS}
    if unknown:
        raise TypeError(f"no search method has an option {', '.join(sorted(unknown))}")
    method: Method = kind(legality, **{k: v for k, v in options.items() if k in kind.OPTIONS})
    return method


def require_sizes(**sizes: int) -> None:
    """Refuses sizes below 1.

    Raises:
        InputError: naming the first that is.
    """
    for name, size in sizes.items():
        if size < 1:
            raise InputError(f"{name} must be at least 1, got {size}")
