"""Made-up scores, and a search over them without a study."""

from collections.abc import Callable

import numpy as np

from detnet.backbones.spaces.space import Space
from detnet.search.methods.method import Method, Scored, SpacePath


def additive(space: Space, seed: int) -> Callable[[SpacePath], float]:
    """A score to which every gene's choice adds a value of its own."""
    rng = np.random.default_rng(seed)
    worth = [rng.normal(size=len(gene.choices)) for gene in space.genes]
    return lambda path: float(sum(row[index] for row, index in zip(worth, path, strict=True)))


def run(method: Method, score: Callable[[SpacePath], float]) -> list[Scored]:
    """All candidates of a search."""
    history: list[Scored] = []
    for index in range(method.generations):
        paths = method.generation(index, history)
        history += [Scored(p, (score(p),), method.constraints.costs_of(p)) for p in paths]
    return history
