"""Builds a residual network from its table of stages."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypedDict, Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo, StagedBackbone
from detnet.backbones.norm import NormKind, make_norm
from detnet.errors import InputError
from detnet.kinds import require_choice
from detnet.tables import require_known

Norm = Callable[[int], nn.Module]
StrideIn = Literal["1x1", "3x3"]


def scale_channels(channels: int, width: float) -> int:
    """Scales a channel count, rounded to the nearest multiple of 8, at least 8."""
    return max(8, int(channels * width / 8 + 0.5) * 8)


class Bottleneck(nn.Module):
    """1×1 narrows, 3×3 works, 1×1 widens, and the input is added before the last ReLU.

    With `dilation` 2 this is DetNet's type A block; with `project` as well, its type B. Parameter
    names are torchvision's, so that weights carry over by renaming the stages alone.

    Args:
        in_channels: of the input.
        mid_channels: inside, the width of the 3×3.
        out_channels: of the output.
        norm: makes a normalisation layer for a channel count.
        stride: of the block.
        dilation: of the 3×3.
        project: whether the shortcut is a 1×1 convolution; without it shapes must agree.
        stride_in: which convolution carries the stride, "1x1" (MSRA, Caffe, both papers) or "3x3"
            (torchvision).

    Raises:
        ValueError: an identity shortcut between unequal shapes.

    Paper: Li et al. 2018, arXiv:1804.06215, Figure 2 and Section 3.2.
    """

    def __init__(
        self,
        in_channels: int,
        mid_channels: int,
        out_channels: int,
        *,
        norm: Norm,
        stride: int = 1,
        dilation: int = 1,
        project: bool = False,
        stride_in: StrideIn = "1x1",
    ) -> None:
        super().__init__()
        if not project and (in_channels != out_channels or stride != 1):
            raise ValueError(
                f"an identity shortcut needs equal shapes, got {in_channels} -> {out_channels} "
                f"channels at stride {stride}"
            )
        stride_1x1, stride_3x3 = (stride, 1) if stride_in == "1x1" else (1, stride)
        self.conv1 = nn.Conv2d(in_channels, mid_channels, 1, stride_1x1, bias=False)
        self.bn1 = norm(mid_channels)
        self.conv2 = nn.Conv2d(
            mid_channels, mid_channels, 3, stride_3x3, dilation, dilation, bias=False
        )
        self.bn2 = norm(mid_channels)
        self.conv3 = nn.Conv2d(mid_channels, out_channels, 1, bias=False)
        self.bn3 = norm(out_channels)
        self.downsample = (
            nn.Sequential(
                nn.Conv2d(in_channels, out_channels, 1, stride, bias=False), norm(out_channels)
            )
            if project
            else None
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        out = F.relu(self.bn1(self.conv1(x)), inplace=True)
        out = F.relu(self.bn2(self.conv2(out)), inplace=True)
        out = self.bn3(self.conv3(out))
        shortcut = x if self.downsample is None else self.downsample(x)
        return F.relu(out.add_(shortcut), inplace=True)


def initialise(module: nn.Module) -> None:
    """Draws convolutions by He's rule (fan-out) and sets norms to the identity."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight, mode="fan_out", nonlinearity="relu")
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.ones_(layer.weight)
            nn.init.zeros_(layer.bias)


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


@dataclass(frozen=True)
class StagedSettings:
    """`StagedOptions` in full, with their defaults.

    Raises:
        InputError: an option outside its range.
    """

    width: float = 1.0
    stride_in: StrideIn = "1x1"
    norm: NormKind = "batch"

    def __post_init__(self) -> None:
        if not 0 < self.width <= 8:
            raise InputError(f"width must lie in (0, 8], got {self.width}")
        require_choice("stride_in", self.stride_in, ("1x1", "3x3"))


def staged_settings(options: Mapping[str, Any]) -> StagedSettings:
    """Gives `StagedOptions` in full.

    Raises:
        InputError: an option that is none of them, or outside its range.
    """
    require_known("option", options, StagedOptions.__annotations__)
    return StagedSettings(**options)


class StagedNet(StagedBackbone):
    """A stem and a row of stages, each a level.

    Args:
        table: the architecture, input to output.
        options: see `StagedOptions`.

    Raises:
        InputError: an option outside its range.
    """

    def __init__(self, table: Sequence[Stage], **options: Unpack[StagedOptions]) -> None:
        super().__init__()
        settings = staged_settings(options)
        width, stride_in = settings.width, settings.stride_in
        self.table, self.width = tuple(table), width
        self.stride_in, self.norm = stride_in, settings.norm
        channels = scale_channels(64, width)
        norm_layer = make_norm(settings.norm)
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
