"""A model whose processes each take their share of a step, and average their gradients."""

import inspect
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.engine.distributed import Process


def in_parallel(
    model: nn.Module, process: Process, *, partial: bool, buffers_differ: bool
) -> nn.Module:
    """Gives the model as all processes train it together; of a single process, itself.

    Args:
        partial: whether a step uses a part of the model only.
        buffers_differ: whether each process's forward pass changes buffers in its own way; all
            then begin with those of the first.
    """
    if process.world_size == 1:
        return model
    # Its name from torch 2.15 on; before, the one that is deprecated there.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    options: dict[str, Any] = {name: buffers_differ, "find_unused_parameters": partial}
    if process.device.type == "cpu":
        model, options["find_unused_parameters"] = _Settled(model), True
    return DistributedDataParallel(model, **options)


class _Settled(nn.Module):
    """Has gradients travel in the same company from the first step to the last.

    By itself `DistributedDataParallel` deals them out anew after its first step, and gloo adds the
    processes' shares up in an order that depends on the place among the others: with more than two
    processes a resumed run, whose first step is a later one, would come to other bits. It does not
    where it is to look for unused parameters, and complains unless it finds some: here is one.
    """

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        self.unused = nn.Parameter(torch.zeros(()))

    def forward(self, *batch: Any) -> dict[str, Tensor]:
        losses: dict[str, Tensor] = self.model(*batch)
        return losses
