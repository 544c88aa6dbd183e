"""Batch norm statistics of one network of a supernet, taken anew: its weights were never alone."""

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from detnet.backbones.base import Backbone
from detnet.backbones.spaces.space import find_supernet

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
    network.freeze(supernet.frozen)
    shared: dict[int, Any] = {id(parameter): parameter for parameter in model.parameters()}
    return copy.deepcopy(model, {**shared, id(supernet): network})


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
