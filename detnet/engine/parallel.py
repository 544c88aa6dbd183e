"""A model whose processes each take their share of a step, and average their gradients."""

import inspect
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.engine.distributed import Process
from detnet.errors import InputError

_SINGLE = re.compile(r"Expected more than 1 value per channel .*\[([\d, ]+)\]")


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

    By itself `DistributedDataParallel` deals them out again after its first step, and gloo adds the
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


@contextmanager
def explaining_single_values(process: Process, batch_size: int) -> Iterator[None]:
    """Turns torch's refusal to normalise a single value into one line.

    Args:
        batch_size: images of a step, of all processes.

    Raises:
        InputError: a batch norm was given one value of each channel.
    """
    try:
        yield
    except ValueError as error:
        found = _SINGLE.search(str(error))
        if found is None:
            raise
        count = process.world_size
        each, over = "the process has", ""
        if count > 1:
            each = f"each of {count} processes has"
            over = "--norm sync normalises over all of them; "
        raise InputError(
            f"batch norm cannot normalise a single value of each channel: of the {batch_size} "
            f"images of a step {each} 1 at once, whose features are of size {found[1]}; {over}"
            f"--batch-size {2 * batch_size} gives it 2 at once, larger images have more features"
        ) from error
