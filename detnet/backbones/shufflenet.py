"""Networks of ShuffleNetV2 and Xception blocks, one kind at each position of a space."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from detnet.backbones.base import StagedBackbone
from detnet.backbones.blocks import Norm, StrideIn, initialise
from detnet.backbones.depthwise import DepthwiseConv
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.spaces.shuffle_space import Choice, Position, ShuffleSpace, describe_path
from detnet.errors import InputError

_DROPOUT = 0.2  # of whole channels, before a classifier's pooling


class ShuffleBlock(nn.Module):
    """Half of the channels go through the main branch, and both halves are joined.

    At stride 1 the other half is passed on as it is; at stride 2 both branches see the whole input
    and the other one is a depthwise and a 1×1 convolution. Every second channel goes through the
    main branch, the odd ones: that is the channel shuffle of DetNAS's released networks (their
    supernet has another, whose weights do not fit).

    Args:
        position: its place, from which channels and stride come.
        choice: its kind.
        norm: makes a normalisation layer for a channel count.

    Paper: Ma et al. 2018, arXiv:1807.11164, Figure 3 (c, d).
    """

    def __init__(self, position: Position, choice: Choice, *, norm: Norm) -> None:
        super().__init__()
        in_channels, out_channels = position.in_channels, position.out_channels
        mid_channels = out_channels // 2
        self.side = None
        if position.stride > 1:
            kernel = choice.kernels[0]
            self.side = _unit(in_channels, in_channels, norm, kernel, position.stride)
            out_channels -= in_channels
        else:
            in_channels, out_channels = in_channels // 2, out_channels // 2
        units = []
        if choice.narrow:
            units.append(_unit(in_channels, mid_channels, norm))
            in_channels = mid_channels
        for number, kernel in enumerate(choice.kernels):
            last = number == len(choice.kernels) - 1
            width = out_channels if last else mid_channels
            units.append(_unit(in_channels, width, norm, kernel, 1 if number else position.stride))
            in_channels = width
        self.main = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        if self.side is not None:
            return torch.cat([self.side(x), self.main(x)], dim=1)
        kept, worked = x.unflatten(1, (-1, 2)).unbind(2)  # even and odd channels
        return torch.cat([kept, self.main(worked)], dim=1)


def _unit(
    in_channels: int, out_channels: int, norm: Norm, kernel: int = 0, stride: int = 1
) -> nn.Sequential:
    """A depthwise convolution if there is a `kernel`, then a 1×1; only the 1×1 is rectified."""
    unit = nn.Sequential()
    if kernel:
        unit.add_module("depthwise", DepthwiseConv(in_channels, kernel, stride=stride))
        unit.add_module("depthwise_bn", norm(in_channels))
    unit.add_module("pointwise", nn.Conv2d(in_channels, out_channels, 1, bias=False))
    unit.add_module("pointwise_bn", norm(out_channels))
    unit.add_module("relu", nn.ReLU(inplace=True))
    return unit


def conv_unit(
    in_channels: int, out_channels: int, norm: Norm, kernel: int, stride: int
) -> nn.Sequential:
    """A convolution with bias, norm and ReLU: the stem and the tail before a classifier."""
    unit = nn.Sequential()
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)
    unit.add_module("conv", conv)
    unit.add_module("bn", norm(out_channels))
    unit.add_module("relu", nn.ReLU(inplace=True))
    return unit


class ShuffleNet(StagedBackbone):
    """The network that a path picks from a space.

    Departs from the release: weights are drawn as in all networks here. The release draws depthwise
    filters with deviation 1, beside which the early steps change little.

    Args:
        space: the table.
        path: see `ShuffleSpace`.
        width: scales every channel count, see `ShuffleSpace.scaled`.
        stride_in: without meaning here, where depthwise convolutions carry the strides; taken so
            that all backbones are built alike.
        norm: see `make_norm`.

    Raises:
        InputError: an option outside its range, or a path that does not fit.
    """

    def __init__(
        self,
        space: ShuffleSpace,
        path: Sequence[int],
        *,
        width: float = 1.0,
        stride_in: StrideIn = "1x1",
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        if stride_in not in ("1x1", "3x3"):
            raise InputError(f"stride_in must be '1x1' or '3x3', got {stride_in!r}")
        self.space, self.path = space.scaled(width), tuple(path)
        self.width, self.stride_in, self.norm = width, stride_in, norm
        make = make_norm(norm)
        self.stem = conv_unit(3, self.space.stem_channels, make, kernel=3, stride=2)
        stages: dict[str, list[nn.Module]] = {row.name: [] for row in self.space.rows}
        for position, choice in self.space.chosen(self.path):
            stages[position.stage].append(ShuffleBlock(position, choice, norm=make))
        self.stages = nn.ModuleDict({name: nn.Sequential(*row) for name, row in stages.items()})
        self.feature_info = describe_path(self.space, self.path)
        initialise(self)

    def tail(self) -> tuple[nn.Module, int]:
        """A 1×1 convolution to `tail_channels`, and dropout of whole channels."""
        return shuffle_tail(self.space, make_norm(self.norm))


def shuffle_tail(space: ShuffleSpace, norm: Norm) -> tuple[nn.Module, int]:
    """What a classifier puts behind the last stage of a space's networks, and its width."""
    tail = conv_unit(space.rows[-1].channels, space.tail_channels, norm, 1, 1)
    initialise(tail)
    tail.add_module("dropout", nn.Dropout2d(_DROPOUT))
    return tail, space.tail_channels
