"""Builds a residual network from its table of stages."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypedDict

from torch import nn

from detnet.backbones.base import FeatureInfo, StagedBackbone
from detnet.backbones.blocks import Bottleneck, StrideIn, initialise, scale_channels
from detnet.backbones.norm import NormKind, make_norm
from detnet.errors import InputError

_EXPANSION = 4  # a bottleneck's output is four times as wide as its 3×3
_STEM_STRIDE = 4
FIRST_LEVEL = 2  # the number of the level that the first stage after a stem puts out
_STEM_RECEPTIVE_FIELD = 11  # 7×7 at stride 2, then 3×3 pooling at stride 2


@dataclass(frozen=True)
class Stage:
    """One row of an architecture table.

    Args:
        name: of the level that the stage puts out.
        blocks: how many bottlenecks.
        channels: the stage's output width; the 3×3s inside are a quarter of it.
        stride: of the first block.
        dilation: of every 3×3 in the stage.
        project: whether the first block's shortcut is a 1×1 convolution.
        inner: width of the 3×3s; 0 is a quarter of `channels`.
    """

    name: str
    blocks: int
    channels: int
    stride: int = 1
    dilation: int = 1
    project: bool = True
    inner: int = 0


class StagedOptions(TypedDict, total=False):
    """What every network made of stages can be asked for.

    `width` scales all channel counts (to multiples of 8). `stride_in` says which convolution of a
    block carries its stride: "1x1" by the papers, "3x3" for torchvision's weights. `norm` is
    "frozen", "batch" or "sync".
    """

    width: float
    stride_in: StrideIn
    norm: NormKind


class StagedNet(StagedBackbone):
    """A stem and a row of stages, each a level.

    Args:
        table: the architecture, input to output.
        width: scales every channel count, rounded to multiples of 8.
        stride_in: see `Bottleneck`.
        norm: see `make_norm`.

    Raises:
        InputError: an option outside its range.
    """

    def __init__(
        self,
        table: Sequence[Stage],
        *,
        width: float = 1.0,
        stride_in: StrideIn = "1x1",
        norm: NormKind = "batch",
    ) -> None:
        super().__init__()
        if not 0 < width <= 8:
            raise InputError(f"width must lie in (0, 8], got {width}")
        if stride_in not in ("1x1", "3x3"):
            raise InputError(f"stride_in must be '1x1' or '3x3', got {stride_in!r}")
        self.table, self.width = tuple(table), width
        self.stride_in, self.norm = stride_in, norm
        channels = scale_channels(64, width)
        norm_layer = make_norm(norm)
        self.stem = nn.Sequential()
        self.stem.add_module("conv", nn.Conv2d(3, channels, 7, 2, 3, bias=False))
        self.stem.add_module("bn", norm_layer(channels))
        self.stem.add_module("relu", nn.ReLU(inplace=True))
        self.stem.add_module("pool", nn.MaxPool2d(3, 2, 1))
        self.stages = nn.ModuleDict()
        for row in self.table:
            out_channels = scale_channels(row.channels, width)
            blocks = []
            for index in range(row.blocks):
                first = index == 0
                blocks.append(
                    Bottleneck(
                        channels,
                        scale_channels(row.inner or row.channels // _EXPANSION, width),
                        out_channels,
                        norm=norm_layer,
                        stride=row.stride if first else 1,
                        dilation=row.dilation,
                        project=first and row.project,
                        stride_in=stride_in,
                    )
                )
                channels = out_channels
            self.stages[row.name] = nn.Sequential(*blocks)
        self.feature_info = _describe(self.table, width, stride_in)
        initialise(self)

    def requires(self, name: str, *, relative: bool) -> bool:
        """Of a relative, the stem and the first three stages: the paper's stages 1 to 4.

        A projection that an identity could stand for may be missing, as in DetNet-59's variant.
        """
        if relative:
            common = ("stem", *(f"stages.{row.name}" for row in self.table[:3]))
            return name.startswith(tuple(f"{part}." for part in common))
        rows = zip(self.table, self.table[1:], strict=False)
        same = (
            row.name for before, row in rows if (row.channels, row.stride) == (before.channels, 1)
        )
        return not name.startswith(tuple(f"stages.{row}.0.downsample." for row in same))


def _describe(table: Sequence[Stage], width: float, stride_in: str) -> tuple[FeatureInfo, ...]:
    """Derives each level's channels, stride and theoretical receptive field from the table."""
    info, stride, field = [], _STEM_STRIDE, _STEM_RECEPTIVE_FIELD
    for level, row in enumerate(table, FIRST_LEVEL):
        for index in range(row.blocks):
            step = stride  # of the 3×3's input: after the block's stride when that sits in the 1×1
            if index == 0:
                stride *= row.stride
                step = stride if stride_in == "1x1" else step
            field += 2 * row.dilation * step
        channels = scale_channels(row.channels, width)
        info.append(FeatureInfo(row.name, channels, stride, field, level))
    return tuple(info)
