"""How a supernet's other choices begin from the weights of one network that has learnt already.

What a choice has in common with that network computes the same at first. What it has beyond it
listens from the beginning and is heard by nobody yet: values drawn on the way in, zeros on the way
out. So it learns from its first step on, and disturbs nothing before.
"""

import torch
from torch import Tensor, nn

RECTIFIED_MEAN = 0.683  # of the positive part of a normal variable, in its own deviations


@torch.no_grad()
def inherit(source: nn.Module, target: nn.Module) -> None:
    """Gives a module what it has in common with another of other widths, statistics included.

    The first channels of one are those of the other. A narrower one is cut. A wider one has further
    channels, which keep the filters they have, and which the first ones take no notice of.
    """
    if source is target:
        return
    given = source.state_dict()
    for name, values in target.state_dict().items():
        if name in given:
            _lay_corner(given[name], values)


def _lay_corner(source: Tensor, target: Tensor) -> None:
    """Lays (out, in, …) over (out, in, …), or (out,) over (out,), as far as there is room."""
    if not target.dim():  # a counter
        target.copy_(source)
        return
    rows = min(len(source), len(target))
    if target.dim() == 1:
        target[:rows] = source[:rows]
        return
    columns = min(source.shape[1], target.shape[1])
    target[:rows].zero_()
    target[:rows, :columns] = source[:rows, :columns]


@torch.no_grad()
def add_nothing(block: nn.Module) -> None:
    """Lets a bottleneck with a plain shortcut pass its input on, until its last norm has learnt."""
    for values in block.get_submodule("bn3").parameters():
        values.zero_()


@torch.no_grad()
def pass_on(projection: nn.Module) -> None:
    """Lets a 1×1 convolution and its norm pass channels on, which the norm gives a variance of 1.

    They were rectified, and keep the mean of what is.
    """
    state = projection.state_dict()
    weight = state["0.weight"]
    rows, columns = weight.shape[:2]
    kept = min(rows, columns)
    weight[:kept] = torch.eye(kept, columns, device=weight.device)[..., None, None]
    state["1.weight"][:kept] = 1
    state["1.bias"][:kept] = RECTIFIED_MEAN
