"""Multiply-adds and parameters of every network of a space, without building the networks."""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from detnet.backbones.base import Classifier
from detnet.backbones.cost import Cost, count, on_meta
from detnet.backbones.norm import make_norm
from detnet.backbones.shuffle_block import ShuffleBlock, conv_unit
from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.backbones.spaces.space import Space
from detnet.errors import InputError

CostName = Literal["macs", "params"]
SpacePath = tuple[int, ...]  # one choice for each gene of a space


class Costs:
    """Multiply-adds and parameters of the networks of a space.

    Both are of the body, which is what a detector takes and what DetNAS's limit means: no tail, no
    classifier. Batch 1. They equal what `count_macs` and `count_params` say of the built network.
    In a shuffle space they are sums over the blocks, each kind measured once, and `smallest` and
    `largest` are exact. In other spaces each network is built on torch's meta device when it is
    first asked for, and `smallest` and `largest` change one gene at a time from two starts, the
    first and the last choice of every gene.

    Args:
        space: the table.
        width: of the networks.
        image_size: height and width, pixels.

    Raises:
        InputError: the image is smaller than the coarsest stride.

    Paper: Chen et al. 2019, arXiv:1903.10979.
    """

    def __init__(
        self, space: Space, *, width: float = 1.0, image_size: tuple[int, int] = (224, 224)
    ) -> None:
        self.space, self.width, self.image_size = space, width, image_size
        self._require_large_enough()
        self._known: dict[SpacePath, Cost] = {}
        self._tails: dict[tuple[SpacePath, int], int] = {}
        self._table = _measure(space, width, image_size) if type(space) is ShuffleSpace else None

    def macs(self, path: Sequence[int]) -> int:
        """Multiply-adds of the body, the definition of DetNAS's limit."""
        return self._of(path).macs

    def params(self, path: Sequence[int]) -> int:
        """Parameters of the body."""
        return self._of(path).params

    def total_macs(self, path: Sequence[int], *, num_classes: int = 1000) -> int:
        """Multiply-adds with tail and classifier, by which DetNAS's pre-training draws paths."""
        path = self.space.check(path)
        # What follows the last level is the same for every path of a shuffle space.
        key = (() if self._table is not None else path, num_classes)
        if key not in self._tails:
            with on_meta():
                model = Classifier(self.space.network(path, width=self.width), num_classes)
            total, _ = count(model, self._images())
            self._tails[key] = total.macs - self.macs(path)
        return self.macs(path) + self._tails[key]

    def smallest(self, cost: CostName = "macs", *, enough: float = -math.inf) -> SpacePath:
        """Finds the path of least cost.

        Args:
            cost: which.
            enough: outside shuffle spaces the search ends at the first path of at most this cost.
        """
        if self._table is not None:
            return self.space.check(self._table.best(cost, min))
        value = self.macs if cost == "macs" else self.params
        return descend(self.space, value, self._ends(), enough=enough)

    def largest(self, cost: CostName = "macs") -> SpacePath:
        """Finds the path of most cost."""
        if self._table is not None:
            return self.space.check(self._table.best(cost, max))
        value = self.macs if cost == "macs" else self.params
        return descend(self.space, lambda path: -value(path), self._ends())

    def within(self, macs: float, params: float) -> SpacePath | None:
        """Finds a path of at most so many multiply-adds and parameters, None if there is none.

        Exact in a shuffle space; in others None means that none was found.
        """
        if self._table is not None:
            bounds = (macs - self._table.stem.macs, params - self._table.stem.params)
            return within_both(self._table.rows, bounds) or None

        def excess(path: SpacePath) -> float:
            return max(self.macs(path) / macs, self.params(path) / params)

        # A network is built for each path that is tried: what is enough is enough.
        limits: dict[CostName, float] = {"macs": macs, "params": params}
        for cost, limit in limits.items():
            if excess(path := self.smallest(cost, enough=limit)) <= 1:
                return path
        starts = [self.smallest("macs"), self.smallest("params")]
        path = descend(self.space, excess, starts, enough=1.0)
        return path if excess(path) <= 1 else None

    def _of(self, path: Sequence[int]) -> Cost:
        path = self.space.check(path)
        if self._table is not None:
            return self._table.total(path)
        if path not in self._known:
            with on_meta():
                network = self.space.network(path, width=self.width)
            self._known[path], _ = count(network, self._images())
        return self._known[path]

    def _images(self) -> Tensor:
        return torch.empty(1, 3, *self.image_size, device="meta")

    def _ends(self) -> list[SpacePath]:
        genes = self.space.genes
        return [(0,) * len(genes), tuple(len(gene.choices) - 1 for gene in genes)]

    def _require_large_enough(self) -> None:
        with on_meta():
            network = self.space.network(self._ends()[0], width=self.width)
        coarsest = max(info.stride for info in network.feature_info)
        if min(self.image_size) < coarsest:
            height, width = self.image_size
            raise InputError(
                f"costs cannot be counted at {height}×{width}: the space's coarsest stride is "
                f"{coarsest}"
            )


@dataclass(frozen=True)
class _BlockCosts:
    """Multiply-adds and parameters: of the stem, and of each choice of each block."""

    stem: Cost
    rows: tuple[tuple[Cost, ...], ...]

    def total(self, path: SpacePath) -> Cost:
        parts = [self.stem, *(row[index] for row, index in zip(self.rows, path, strict=True))]
        return Cost(sum(part.macs for part in parts), sum(part.params for part in parts))

    def best(self, cost: CostName, better: Callable[[Sequence[int]], int]) -> SpacePath:
        columns = [[int(getattr(part, cost)) for part in row] for row in self.rows]
        return tuple(values.index(better(values)) for values in columns)


def _measure(space: ShuffleSpace, width: float, image_size: tuple[int, int]) -> _BlockCosts:
    space, norm = space.scaled(width), make_norm("batch")
    known: dict[tuple[int, ...], tuple[Cost, ...]] = {}
    rows = []
    with on_meta():
        features = torch.empty(1, 3, *image_size)
        stem, features = count(conv_unit(3, space.stem_channels, norm, 3, 2), features)
        for at in space.positions():
            key = (at.in_channels, at.out_channels, at.stride)
            if key not in known:  # a stage's blocks are alike after the first
                blocks = [ShuffleBlock(at, choice, norm=norm) for choice in space.choices]
                runs = [count(block, features) for block in blocks]
                known[key] = tuple(cost for cost, _ in runs)
                features = runs[0][1]
            rows.append(known[key])
    return _BlockCosts(stem, tuple(rows))


def descend(
    space: Space,
    value: Callable[[SpacePath], float],
    starts: Iterable[Sequence[int]],
    *,
    enough: float = -math.inf,
    sweeps: int = 20,
) -> SpacePath:
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
    best: tuple[float, SpacePath] | None = None
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
    value: Callable[[SpacePath], float],
    best: tuple[float, SpacePath],
    enough: float,
    sweeps: int,
) -> tuple[float, SpacePath]:
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


def within_both(
    rows: Sequence[Sequence[tuple[int, int]]], bounds: tuple[float, float]
) -> SpacePath:
    """Finds one choice of every row so that both sums of its pairs are at most the bounds.

    Exact: after each row the sums that are beaten in both numbers are dropped, which leaves a few
    hundred of a shuffle space's 4²⁰.

    Args:
        rows: for every choice of a gene, what it adds to the two sums.
        bounds: of the two sums.

    Returns:
        The choices, or () when there are none.
    """
    front: list[tuple[int, int, SpacePath]] = [(0, 0, ())]
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
