"""What guides a search: how one network of a supernet is calibrated and measured on a task."""

import copy
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnet.backbones.base import Backbone
from detnet.backbones.spaces.space import find_supernet
from detnet.engine.machine import drawing_from
from detnet.search.config import BudgetName, SearchConfig
from detnet.search.scoring.cache import ImageMemory, Sample

# Purposes of the random streams that are drawn from a search's seed.
_ORDER, _MIRROR, _SAMPLING, _SUBSET, _PARTS = 11, 12, 13, 14, 15


class NonFinite(RuntimeError):
    """A network gave NaN or infinity: it has no score."""


@dataclass(frozen=True)
class ScoringBudget:
    """How thoroughly a candidate is measured.

    Args:
        recalibration_images: that its batch norms' statistics come from, in whole batches.
        batch: images of each of these batches.
        momentum: see `recalibrate`.
        score_images: of the search split, None for all of them.
        proposals: regions that a two-stage detector looks at in an image, None for as many as it
            was built with.
    """

    recalibration_images: int
    batch: int = 8
    momentum: float | None = 0.1
    score_images: int | None = None
    proposals: int | None = None

    @classmethod
    def of(cls, config: SearchConfig, name: BudgetName) -> "ScoringBudget":
        """One of a search's two budgets; the cheap one takes plain means over its batches.

        The full one's moving average forgets the variance of 1 that it begins with by a tenth per
        batch; below about 100 batches what is left of that spoils every score.
        """
        if name == "full":
            return cls(config.recalibration_images, config.recalibration_batch)
        return cls(
            config.cheap_recalibration_images,
            config.recalibration_batch,
            None,
            config.cheap_score_images,
            config.cheap_proposals,
        )


class Evaluator(ABC):
    """A supernet and the data by which its networks are measured, in one process.

    Args:
        model: the supernet's, or a detector's; its weights are never changed.
        train_images: how many there are to recalibrate on.
        search_images: how many there are to score on.
        device: where networks run.
        autocast: see `choose_precision`.
        memory: of images that are kept from candidate to candidate; see `ImageMemory` for what it
            is by default.

    Attributes:
        whole: whether recalibration puts the whole network in train mode, not its norms alone.
    """

    whole: ClassVar[bool] = True

    def __init__(
        self,
        model: nn.Module,
        train_images: int,
        search_images: int,
        device: torch.device,
        autocast: torch.dtype | None,
        memory: ImageMemory | None,
    ) -> None:
        self.model = model.to(device).to(memory_format=torch.channels_last)
        self.train_images, self.search_images = train_images, search_images
        self.device, self.autocast = device, autocast
        self.memory = memory or ImageMemory()

    @abstractmethod
    def candidate(self, path: Sequence[int], budget: ScoringBudget) -> nn.Module:
        """One network with statistics of its own; see `extract_network`."""

    def recalibrate(
        self,
        candidate: nn.Module,
        batches: Sequence[Sequence[tuple[int, bool]]],
        budget: ScoringBudget,
        check_stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Takes the statistics again from batches of training images, (index, mirrored) each.

        Args:
            check_stop: called after each batch; what it raises ends the recalibration.

        Raises:
            NonFinite: its batch norms have no finite statistics.
        """
        read = self.read_training([[index for index, _ in batch] for batch in batches])
        samples = (
            [self.mirrored(*sample) if flip else sample for sample, (_, flip) in pairs]
            for pairs in (zip(*both, strict=True) for both in zip(read, batches, strict=True))
        )

        def step(batch: Sequence[Sample]) -> None:
            self.step(candidate, batch)
            check_stop()

        recalibrate(candidate, samples, step, momentum=budget.momentum, whole=self.whole)
        if not finite_statistics(candidate):
            raise NonFinite("its batch norms have no finite statistics")

    @abstractmethod
    def read_training(self, rows: Sequence[Sequence[int]]) -> Iterator[list[Sample]]:
        """Yields the samples of each row of images to recalibrate on."""

    @abstractmethod
    def mirrored(self, image: Tensor, target: dict[str, Any]) -> Sample:
        """A sample, its image from right to left."""

    @abstractmethod
    def step(self, candidate: nn.Module, batch: Sequence[Sample]) -> None:
        """Runs a network on training images."""

    @abstractmethod
    def score(
        self, candidate: nn.Module, parts: Sequence[Sequence[int]], check_stop: Callable[[], None]
    ) -> float:
        """Measures a recalibrated network on images of the search split, part by part.

        Args:
            check_stop: called after each part; what it raises ends the score.

        Raises:
            NonFinite: on the way.
        """

    @abstractmethod
    def subset(self, count: int, seed: int) -> list[int]:
        """Chooses images of the search split that stand for all, by the seed alone."""


def recalibration_batches(
    images: int, budget: ScoringBudget, *, seed: int, flip: float
) -> list[list[tuple[int, bool]]]:
    """Chooses the images of a recalibration by the seed alone: all once before any again.

    Args:
        images: how many there are.
        flip: probability of a mirror image.
    """
    batches = max(1, budget.recalibration_images // budget.batch)
    wanted = min(budget.recalibration_images, batches * budget.batch)
    order: list[int] = []
    for epoch in range(-(-wanted // images)):
        order += generator(seed, _ORDER, epoch).permutation(images).tolist()
    mirrored = generator(seed, _MIRROR).random(wanted) < flip
    keys = list(zip(order[:wanted], mirrored.tolist(), strict=True))
    return [keys[first : first + budget.batch] for first in range(0, wanted, budget.batch)]


def generator(seed: int, *purpose: int) -> np.random.Generator:
    """The stream of random numbers for one purpose."""
    return np.random.default_rng(np.random.SeedSequence((seed, *purpose)))


def subset_generator(seed: int) -> np.random.Generator:
    """The stream by which a subset of the search split is chosen."""
    return generator(seed, _SUBSET)


def part_order(count: int, seed: int) -> list[int]:
    """The order in which images are scored."""
    order: list[int] = generator(seed, _PARTS).permutation(count).tolist()
    return order


@contextmanager
def own_randomness(seed: int, device: torch.device) -> Iterator[None]:
    """Lets torch's samplers draw the same numbers for every candidate, and leaves others theirs."""
    state = int(np.random.SeedSequence((seed, _SAMPLING)).generate_state(1)[0])
    with drawing_from(state, device):
        yield


def refuse_non_finite(module: nn.Module) -> None:
    """Lets a module raise `NonFinite` as soon as its output holds NaN or infinity."""

    def look(module: nn.Module, inputs: Any, output: Any) -> None:
        if not all(bool(tensor.isfinite().all()) for tensor in _tensors(output)):
            raise NonFinite(f"{type(module).__name__} gave NaN or infinity")

    module.register_forward_hook(look)


def _tensors(output: Any) -> Iterator[Tensor]:
    if isinstance(output, Tensor):
        yield output
    elif isinstance(output, dict):
        for value in output.values():
            yield from _tensors(value)
    elif isinstance(output, list | tuple):
        for value in output:
            yield from _tensors(value)


Model = TypeVar("Model", bound=nn.Module)
Batch = TypeVar("Batch")


def extract_network(model: Model, path: Sequence[int], **options: Any) -> Model:
    """Copies a model with one network in its supernet's place; only the buffers are copied.

    Parameters are shared with the model, so this costs neither time nor memory that grows with the
    space, and whatever happens to the copy's statistics leaves the supernet as it is.

    Args:
        model: a classifier or detector with a supernet in it.
        options: width, stride_in and norm, with which the supernet was built.

    Raises:
        InputError: the path does not fit the space.
        ValueError: the model has no supernet in it.
    """
    supernet = find_supernet(model)
    if supernet is None:
        raise ValueError(f"a {type(model).__name__} without a supernet has no paths")
    with torch.device("meta"):  # nothing is drawn for weights that are replaced at once
        network = supernet.space.network(path, **options)
    network.load_state_dict(supernet.weights_of(path), assign=True)
    for module in network.modules():
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.clone()
    network.freeze([name for name in supernet.frozen if name in network.parts()])
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, {**shared, id(supernet): supernet.levelled(network)})


@torch.no_grad()
def recalibrate(
    model: nn.Module,
    batches: Iterable[Batch],
    step: Callable[[Batch], Any],
    *,
    momentum: float | None = 0.1,
    whole: bool = True,
) -> None:
    """Replaces all batch norms' statistics by those of some batches; the model ends in eval mode.

    Args:
        step: runs the model on one batch.
        momentum: weight of a batch in the moving average, which begins at mean 0 and variance 1 as
            in DetNAS. None takes the plain mean over the batches, which owes nothing to a beginning
            and uses all of them alike.
        whole: the whole model is in train mode, not its batch norms alone.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.3.
    """
    model.train(whole)
    norms = batch_norms(model)
    before = [norm.momentum for norm in norms]
    for norm in norms:
        norm.train()
        norm.reset_running_stats()
        norm.momentum = momentum
    for batch in batches:
        step(batch)
    for norm, kept in zip(norms, before, strict=True):
        norm.momentum = kept
    model.eval()


def batch_norms(model: nn.Module) -> list[_BatchNorm]:
    """The batch norms whose statistics follow the batches: not frozen ones."""
    held = {id(module) for part in _held(model) for module in part.modules()}
    found = (module for module in model.modules() if isinstance(module, _BatchNorm))
    return [norm for norm in found if norm.track_running_stats and id(norm) not in held]


def finite_statistics(model: nn.Module) -> bool:
    """Whether all statistics are numbers; a network that has diverged has others."""
    buffers = [buffer for norm in batch_norms(model) for buffer in norm.buffers()]
    return all(bool(buffer.isfinite().all()) for buffer in buffers)


def _held(model: nn.Module) -> list[nn.Module]:
    """The parts that some backbone in the model holds still."""
    backbones = [module for module in model.modules() if isinstance(module, Backbone)]
    return [backbone.parts()[name] for backbone in backbones for name in backbone.frozen]
