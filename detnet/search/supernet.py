"""Trains a supernet, as a classifier and then under a detector: one path a step."""

from collections.abc import Callable, Collection
from dataclasses import dataclass, replace

import numpy as np
from torch import nn

from detnet.backbones.spaces.space import Space, find_supernet, take_path
from detnet.coco.annotations import FlatBytes
from detnet.data.classification.image_folder import ImageFolder
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.train import PretrainTask, Split
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import DetectionTask

_PURPOSE = 11  # keeps these draws apart from others of the same seed
_TRIES = 500  # the release's


@dataclass(frozen=True)
class MacBins:
    """Ranges of multiply-adds, of which each step takes one and draws a path within it.

    A path drawn gene by gene has nearly always a middling cost; by ranges, cheap and dear networks
    are trained as often. The release's are 290 to 360 million in tens, tail and classifier counted.

    Args:
        low: of the first range.
        high: of the last one.
        width: of each.
        macs: multiply-adds of a path.

    Raises:
        InputError: no range.
    """

    low: float
    high: float
    width: float
    macs: Callable[[tuple[int, ...]], float]

    def __post_init__(self) -> None:
        if not 0 < self.width <= self.high - self.low:
            raise InputError(
                f"bins of {self.width:g} multiply-adds do not fit between {self.low:g} and "
                f"{self.high:g}"
            )

    @property
    def count(self) -> int:
        return int((self.high - self.low) / self.width + 0.5)


@dataclass(frozen=True)
class PathSampler:
    """Draws the path of each step from the seed and the step's number alone.

    So all processes take the same one, and a resumed run goes on as if it had never stopped.

    Args:
        space: of the supernet.
        seed: of the run.
        bins: by ranges of cost, as DetNAS pre-trains; None draws every gene uniformly, as it
            fine-tunes.
        fair: in as many steps as a gene has choices each of them has its turn once, in an order
            drawn anew, so that none is ahead of the others by chance. Only where all genes have
            equally many. As FairNAS, but that weights move after every step, not after each round.
        single: the first steps, all of which take the first choices, after which those give their
            weights to all others. Not in the paper: where steps are few, 20 open blocks learn
            nothing together before each has learnt something (LOG.md has the measurement).

    Raises:
        InputError: fair, by ranges of cost, or in a space whose genes have different numbers of
            choices.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3; the ranges are the release's. Fairness:
    Chu et al. 2019, arXiv:1907.01845, Section 3.2.
    """

    space: Space
    seed: int
    bins: MacBins | None = None
    single: int = 0
    fair: bool = False

    def __post_init__(self) -> None:
        if not self.fair:
            return
        if self.bins is not None:
            raise InputError("paths are drawn fairly or by ranges of cost, not both")
        counts = sorted({len(gene.choices) for gene in self.space.genes})
        if len(counts) > 1:
            raise InputError(
                "fair sampling needs equally many choices of each gene, but this space has "
                f"{' and '.join(map(str, counts))}; choose uniform"
            )

    def path(self, iteration: int) -> tuple[int, ...]:
        """The path of the step after `iteration` others.

        Where 500 draws miss the range, which happens at the ends of a space, the nearest is taken.
        """
        if iteration < self.single:
            return self.space.check([0] * len(self.space.genes))
        if self.fair:
            return self._in_turn(iteration - self.single)
        rng = self._rng(iteration)
        if self.bins is None:
            return self._draw(rng)
        low = self.bins.low + int(rng.integers(self.bins.count)) * self.bins.width
        middle = low + self.bins.width / 2
        nearest, distance = self._draw(rng), float("inf")
        for _ in range(_TRIES):
            path = self._draw(rng)
            off = abs(self.bins.macs(path) - middle)
            if off < distance:
                nearest, distance = path, off
            if off <= self.bins.width / 2:
                break
        return nearest

    def _in_turn(self, step: int) -> tuple[int, ...]:
        genes = self.space.genes
        turn, place = divmod(step, len(genes[0].choices))
        rng = self._rng(turn)
        return self.space.check([int(rng.permutation(len(g.choices))[place]) for g in genes])

    def _rng(self, number: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, _PURPOSE, number)))

    def _draw(self, rng: np.random.Generator) -> tuple[int, ...]:
        counts = [len(gene.choices) for gene in self.space.genes]
        return self.space.check(rng.integers(counts).tolist())


class SupernetPretraining(PretrainTask):
    """A supernet's training on classes of images.

    Args:
        config: an ordinary classification run's, its backbone "supernet".
        left_out: indices of images in the folder's listing that it does not see.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.1, step 1.
    """

    partial = True

    def __init__(
        self, config: PretrainConfig, sampler: PathSampler, left_out: Collection[int] = ()
    ) -> None:
        super().__init__(config)
        self._sampler, self._left_out = sampler, left_out

    def read_folders(self) -> tuple[Split, Split | None]:
        train, val = super().read_folders()
        return _without(train, self._left_out) if self._left_out else train, val

    def before_step(self, model: nn.Module, iteration: int) -> None:
        _walk(model, self._sampler, iteration)


class SupernetFinetuning(DetectionTask):
    """A supernet's training under a detector.

    Args:
        config: an ordinary detection run's, its backbone "supernet".

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.1, step 2.
    """

    partial = True

    def __init__(self, config: TrainConfig, sampler: PathSampler) -> None:
        super().__init__(config)
        self._sampler = sampler

    def before_step(self, model: nn.Module, iteration: int) -> None:
        _walk(model, self._sampler, iteration)


def _walk(model: nn.Module, sampler: PathSampler, iteration: int) -> None:
    if sampler.single and iteration == sampler.single:
        supernet = find_supernet(model)
        assert supernet is not None  # or there was no path to take until now
        supernet.spread()
    take_path(model, sampler.path(iteration))


def _without(images: Split, left_out: Collection[int]) -> Split:
    """The same listing but for some of its images."""
    kept = np.setdiff1d(np.arange(len(images)), np.array(sorted(left_out), dtype=np.int64))
    names = FlatBytes.of(images.names[int(index)] for index in kept)
    if isinstance(images, ImageFolder):
        return replace(images, labels=images.labels[kept], names=names)
    columns = {name: getattr(images, name)[kept] for name in ("shard_of", "offsets", "sizes")}
    return replace(images, labels=images.labels[kept], names=names, **columns)
