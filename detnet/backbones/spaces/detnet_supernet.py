"""The supernet of DetNet's space: widths have weights of their own, all else shares them."""

from collections.abc import Iterator, Sequence

import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo
from detnet.backbones.blocks import Bottleneck, Norm, StrideIn, initialise, scale_channels
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.spaces.detnet_space import DetNetSpace, Row
from detnet.backbones.spaces.supernet import Supernet, renamed
from detnet.backbones.stages import FIRST_LEVEL, Stage, StagedNet

_STEM_CHANNELS = 64  # in the widths' scale, before `width`
_STEM_STRIDE = 4


class Projection(nn.Sequential):
    """The 1×1 convolution and norm of a shortcut, which a path may leave out.

    Its place in a bottleneck and the names of its parameters are the plain block's.
    """

    skipped = False

    def forward(self, input: Tensor) -> Tensor:
        return input if self.skipped else super().forward(input)


class WideStage(nn.Module):
    """All forms of one stage that have the same widths.

    Args:
        row: the stage.
        in_widths: what the stages before may put out, channels as in the table.
        channels: what this one puts out, likewise.
        inner: of its 3×3s, likewise.
        width: scales all three.
        norm: makes a normalisation layer for a channel count.
        stride_in: see `Bottleneck`.
    """

    def __init__(
        self,
        row: Row,
        in_widths: Sequence[int],
        channels: int,
        inner: int,
        *,
        width: float,
        norm: Norm,
        stride_in: StrideIn,
    ) -> None:
        super().__init__()
        self.stride_in = stride_in
        out_channels = scale_channels(channels, width)
        mid_channels = scale_channels(inner, width)

        def make(in_channels: int, project: bool) -> Bottleneck:
            return Bottleneck(in_channels, mid_channels, out_channels, norm=norm, project=project)

        self.opening = nn.ModuleDict()
        for before in in_widths:
            changes = before != channels or 2 in row.strides
            block = make(scale_channels(before, width), changes or True in row.project)
            if block.downsample is not None:
                block.downsample = Projection(*block.downsample)
            self.opening[str(before)] = block
        self.blocks = nn.ModuleList(make(out_channels, False) for _ in range(max(row.depths) - 1))

    def chosen(self, before: int, stage: Stage) -> Iterator[nn.Module]:
        """The blocks of one form, input to output.

        Args:
            before: channels of the stage before, as in the table.
            stage: the form.
        """
        yield self.opening[str(before)]
        yield from list(self.blocks)[: stage.blocks - 1]

    def shape(self, before: int, stage: Stage) -> None:
        """Gives the convolutions the stride and dilation of a form; no weight is touched."""
        opening = self.opening[str(before)]
        stride_1x1, stride_3x3 = (stage.stride, 1) if self.stride_in == "1x1" else (1, stage.stride)
        _set(opening.conv1, stride=stride_1x1)
        _set(opening.conv2, stride=stride_3x3)
        if isinstance(opening.downsample, Projection):
            opening.downsample.skipped = not stage.project
            _set(opening.downsample[0], stride=stage.stride)
        for block in self.chosen(before, stage):
            _set(block.conv2, dilation=stage.dilation, padding=stage.dilation)


def _set(conv: object, **values: int) -> None:
    for name, value in values.items():
        setattr(conv, name, (value, value))


class DetNetSupernet(Supernet):
    """All networks of a `DetNetSpace` in one.

    Depths share their first blocks, and strides and dilations all weights, norms included: these
    are arguments of the convolutions, set when a path is taken. Each width has blocks of its own,
    and so has an opening block for each width before it; a projection is used where it is chosen.

    A pyramid is built once, so the levels have the same names and channels whatever the path: one
    that is narrower than its widest choice is filled up with zero channels, and an absent last
    stage is given as the level before it, every second cell, as a pyramid's added level is made.
    That is the supernet's stand-in; the network by itself has no such level. `feature_info` has
    the strides of the present path; its receptive fields are not known.

    Args:
        space: the table.
        width: scales every channel count, as in `StagedNet`.
        stride_in: see `Bottleneck`.
        norm: see `make_norm`.
    """

    space: DetNetSpace

    def __init__(
        self,
        space: DetNetSpace,
        *,
        width: float = 1.0,
        stride_in: StrideIn = "1x1",
        norm: NormKind = "batch",
    ) -> None:
        super().__init__(space)
        make = make_norm(norm)
        # The stem is every network's; its options are checked there, too.
        self.stem = StagedNet((), width=width, stride_in=stride_in, norm=norm).stem
        self.width, self.stride_in, self.norm = width, stride_in, norm
        self.stages = nn.ModuleDict()
        self._widest: dict[str, int] = {}
        before: tuple[int, ...] = (_STEM_CHANNELS,)
        for row in space.rows:
            forms = {
                f"{channels}x{inner}": WideStage(
                    row, before, channels, inner, width=width, norm=make, stride_in=stride_in
                )
                for channels in row.channels
                for inner in sorted({inner or channels // 4 for inner in row.inner})
            }
            self.stages[row.name] = nn.ModuleDict(forms)
            stand_in = before if 0 in row.depths else ()
            self._widest[row.name] = scale_channels(max(row.channels + stand_in), width)
            before = row.channels
        initialise(self)
        self.take(self.path)

    def take(self, path: Sequence[int]) -> None:
        super().take(path)
        self._table = self.space.table(self.path)
        info, stride = [], _STEM_STRIDE
        for before, stage, form in self._forms(self._table):
            form.shape(before, stage)
            stride *= stage.stride
            info.append(self._describe(stage.name, stride))
        for name in list(self._widest)[len(info) :]:
            info.append(self._describe(name, stride := stride * 2))
        self.feature_info = tuple(info)

    def _describe(self, name: str, stride: int) -> FeatureInfo:
        level = FIRST_LEVEL + list(self._widest).index(name)
        return FeatureInfo(name, self._widest[name], stride, level=level)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps images to levels by the blocks of `path` alone."""
        x, features = self.stem(images), {}
        for before, stage, form in self._forms(self._table):
            for block in form.chosen(before, stage):
                x = block(x)
            features[stage.name] = _filled(x, self._widest[stage.name])
        for name in list(self._widest)[len(features) :]:
            features[name] = _filled(F.max_pool2d(x, 1, 2), self._widest[name])
        return features

    def parts(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, **self.stages}

    def weights_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        places = {"stem": "stem"}
        left_out = []
        for before, stage, _ in self._forms(self.space.table(path)):
            here = f"stages.{stage.name}.{_widths(stage)}"
            places[f"{here}.opening.{before}"] = f"stages.{stage.name}.0"
            for index in range(stage.blocks - 1):
                places[f"{here}.blocks.{index}"] = f"stages.{stage.name}.{index + 1}"
            if not stage.project:
                left_out.append(f"stages.{stage.name}.0.downsample.")
        found = renamed(self.state_dict(), places)
        return {
            name: value for name, value in found.items() if not name.startswith(tuple(left_out))
        }

    def _forms(self, table: Sequence[Stage]) -> Iterator[tuple[int, Stage, WideStage]]:
        """Every stage of a table with the width before it and the modules of its own width."""
        before = _STEM_CHANNELS
        for stage in table:
            form = self.stages[stage.name][_widths(stage)]  # type: ignore[index]
            yield before, stage, form
            before = stage.channels


def _widths(stage: Stage) -> str:
    return f"{stage.channels}x{stage.inner or stage.channels // 4}"


def _filled(level: Tensor, channels: int) -> Tensor:
    """Adds channels of zeros behind those of a (N, C, H, W) level."""
    missing = channels - level.shape[1]
    return F.pad(level, (0, 0, 0, 0, 0, missing)) if missing else level
