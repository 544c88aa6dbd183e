"""DetNet's own design questions as a space: how deep, wide, dilated and fine each stage is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo
from detnet.backbones.norm import make_norm
from detnet.backbones.spaces.space import ROW_NAME, Gene, Space, Supernet, renamed
from detnet.backbones.stages import (
    FIRST_LEVEL,
    Bottleneck,
    Norm,
    Stage,
    StagedNet,
    StagedOptions,
    StrideIn,
    initialise,
    scale_channels,
)
from detnet.errors import InputError

# What a row may leave open: its field, the gene's name.
QUESTIONS = {
    "depths": "depth",
    "channels": "width",
    "strides": "resolution",
    "dilations": "dilation",
    "project": "shortcut",
    "inner": "inner width",
}


@dataclass(frozen=True)
class StageChoices:
    """One stage of a space, and what it may be; one value alone is no question.

    Args:
        name: of the level that the stage puts out, c2, c3 …
        depths: numbers of bottlenecks; 0 in the last row is a network without that stage.
        channels: output widths.
        strides: of the first block, 1 to hold the resolution, 2 to halve it.
        dilations: of every 3×3 in the stage.
        project: whether the first block's shortcut is a 1×1 convolution. Where the block changes
            the shape it is, whatever is chosen here.
        inner: widths of the 3×3s inside; 0 is a quarter of the output width.
    """

    name: str
    depths: tuple[int, ...]
    channels: tuple[int, ...]
    strides: tuple[int, ...] = (1,)
    dilations: tuple[int, ...] = (1,)
    project: tuple[bool, ...] = (True,)
    inner: tuple[int, ...] = (0,)

    def options(self) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """Every question's name with its answers, those with a single one too."""
        for field, question in QUESTIONS.items():
            yield question, getattr(self, field)


def spell(question: str, answer: Any) -> str:
    """Writes an answer to one of a row's questions as a gene's choices are named."""
    words: dict[str, dict[Any, str]] = {
        "resolution": {1: "hold", 2: "halve"},
        "shortcut": {True: "projection", False: "identity"},
        "inner width": {0: "a quarter"},
    }
    return words.get(question, {}).get(answer, str(answer))


def answers_of(row: StageChoices, stage: Stage) -> Iterator[int]:
    """The index of every open question's answer; zeros after the depth of an absent stage.

    Raises:
        InputError: the stage has an answer that the space does not offer.
    """
    quarter = stage.channels // 4
    # A quarter may be written as 0 or as what it is.
    inner = quarter if quarter in row.inner and not stage.inner else stage.inner
    values = (stage.blocks, stage.channels, stage.stride, stage.dilation, stage.project, inner)
    for (question, answers), value in zip(row.options(), values, strict=True):
        if not stage.blocks and question != "depth":
            value = answers[0]
        if value not in answers:
            offered = ", ".join(spell(question, answer) for answer in answers)
            raise InputError(
                f"{row.name}: the {question} is {spell(question, value)}, this space has {offered}"
            )
        if len(answers) > 1:
            yield answers.index(value)


def require_answers(row: StageChoices) -> None:
    """Refuses choices of a question that cannot be searched.

    Raises:
        InputError: no choices, too many, one twice, or of another kind.
    """
    for question, answers in row.options():
        if not 1 <= len(answers) <= 10:
            raise InputError(f"{row.name}: a {question} has 1 to 10 choices, got {len(answers)}")
        if len(set(answers)) < len(answers):
            raise InputError(f"{row.name}: a {question} is there twice: {answers}")
        kind = bool if question == "shortcut" else int
        if any(type(answer) is not kind for answer in answers):
            raise InputError(f"{row.name}: a {question} is {kind.__name__}, got {answers}")


def require_row(row: StageChoices, *, last: bool) -> None:
    """Refuses a row that no stage can be made of.

    Raises:
        InputError: a name, number of blocks, channels, stride or dilation that cannot be built.
    """
    if not ROW_NAME.fullmatch(row.name):
        raise InputError(f"rows are named c2, c3 …, got {row.name!r}")
    lowest = 0 if last else 1
    if min(row.depths) < lowest or row.depths == (0,):
        raise InputError(
            f"{row.name}: at least {lowest} blocks, got {row.depths}; only the last of several "
            "rows may be absent, and not always"
        )
    if min(row.channels) < 4 or any(count % 4 for count in row.channels):
        raise InputError(f"{row.name}: channels must be multiples of 4, got {row.channels}")
    if min(row.inner) < 0:
        raise InputError(f"{row.name}: inner widths must not be negative, got {row.inner}")
    if not set(row.strides) <= {1, 2}:
        raise InputError(f"{row.name}: strides are 1 (hold) or 2 (halve), got {row.strides}")
    if min(row.dilations) < 1:
        raise InputError(f"{row.name}: dilations must be 1 or more, got {row.dilations}")


def require_projection(row: StageChoices, *, can_change: bool) -> None:
    """Refuses a row whose shortcut cannot be an identity.

    Raises:
        InputError: an identity in a first block that may change the shape.
    """
    if (can_change or 2 in row.strides) and True not in row.project:
        raise InputError(
            f"{row.name}: its first block can change the shape, which an identity cannot: add true "
            "to its project"
        )


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
        row: StageChoices,
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


_STEM_CHANNELS = 64  # in the widths' scale, before `width`
_STEM_STRIDE = 4


@dataclass(frozen=True)
class DetNetSpace(Space):
    """Tables of stages that differ in what their rows leave open.

    A path has for each row, input to output, an index for every question with several answers:
    depth, width, resolution, dilation, shortcut, inner width. Some answers have no meaning beside
    others: an identity where the shape changes is a projection, and of an absent stage nothing else
    counts; `check` spells all of those in one way.

    Args:
        rows: the stages; the first has a stem of stride 4 before it.

    Raises:
        InputError: rows that do not hold together.

    Paper: Li et al. 2018, arXiv:1804.06215, Sections 3 and 4, whose networks and ablations are
    points of `DETNET`. The paper compares them; it does not search.
    """

    rows: tuple[StageChoices, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError("a space has at least one row")
        for row in self.rows:
            require_answers(row)
            require_row(row, last=row is self.rows[-1] and len(self.rows) > 1)
        if len({row.name for row in self.rows}) < len(self.rows):
            raise InputError(f"two rows have one name: {', '.join(row.name for row in self.rows)}")
        for before, row in pairwise(self.rows):
            changes = set(before.channels) | set(row.channels)
            require_projection(row, can_change=len(changes) > 1)
        require_projection(self.rows[0], can_change=True)

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """Every question that has several answers."""
        return tuple(
            Gene(row.name, question, tuple(spell(question, answer) for answer in answers))
            for row in self.rows
            for question, answers in row.options()
            if len(answers) > 1
        )

    def table(self, path: Sequence[int]) -> tuple[Stage, ...]:
        """The stages that a path picks, without an absent one.

        Raises:
            InputError: `path` does not fit.
        """
        indices = iter(super().check(path))
        stages: list[Stage] = []
        channels = 0
        for row in self.rows:
            answers = [
                answers[next(indices)] if len(answers) > 1 else answers[0]
                for _, answers in row.options()
            ]
            stage = Stage(row.name, *answers)
            if stage.blocks:
                changes = stage.channels != channels or stage.stride != 1
                inner = 0 if stage.inner * 4 == stage.channels else stage.inner
                stages.append(replace(stage, project=stage.project or changes, inner=inner))
            channels = stage.channels
        return tuple(stages)

    def path_of(self, table: Sequence[Stage]) -> tuple[int, ...]:
        """Finds the path that picks a table, the inverse of `table`.

        Raises:
            InputError: the space has no such network.
        """
        names = [row.name for row in self.rows]
        given = [stage.name for stage in table]
        absent = Stage(names[-1], blocks=0, channels=self.rows[-1].channels[0])
        if given == names[:-1] and 0 in self.rows[-1].depths:
            table = (*table, absent)
        elif given != names:
            raise InputError(f"this space has the stages {', '.join(names)}, got {given}")
        path: list[int] = []
        for row, stage in zip(self.rows, table, strict=True):
            path += answers_of(row, stage)
        return tuple(path)

    def check(self, path: Sequence[int]) -> tuple[int, ...]:
        """Gives the one spelling of a path, so that equal networks have equal paths."""
        return self.path_of(self.table(path))

    def network(self, path: Sequence[int], **options: Unpack[StagedOptions]) -> StagedNet:
        return StagedNet(self.table(path), **options)

    def supernet(self, **options: Unpack[StagedOptions]) -> "DetNetSupernet":
        return DetNetSupernet(self, **options)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"name": row.name, **{field: list(getattr(row, field)) for field in QUESTIONS}}
            for row in self.rows
        ]
        return {"kind": "detnet", "rows": rows}

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "DetNetSpace":
        """Reads what `to_json` wrote; a question that a row leaves out has its usual answer."""
        values = dict(table)
        rows = []
        for given in values.pop("rows"):
            row: dict[str, Any] = {
                key: value if key == "name" else tuple(value) for key, value in given.items()
            }
            rows.append(StageChoices(**row))
        return cls(rows=tuple(rows), **values)


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
        options: see `StagedOptions`.
    """

    space: DetNetSpace

    def __init__(self, space: DetNetSpace, **options: Unpack[StagedOptions]) -> None:
        super().__init__(space)
        stemmed = StagedNet((), **options)  # the stem is every network's
        self.stem = stemmed.stem
        self.width, self.stride_in, self.norm = stemmed.width, stemmed.stride_in, stemmed.norm
        width, stride_in, make = self.width, self.stride_in, make_norm(self.norm)
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


DETNET = DetNetSpace(
    rows=(
        StageChoices("c2", depths=(3, 2), channels=(256,)),
        StageChoices("c3", depths=(4, 3), channels=(512,), strides=(2,)),
        StageChoices("c4", depths=(6, 5, 4), channels=(1024,), strides=(2,), dilations=(1, 2, 3)),
        StageChoices(
            "c5",
            depths=(3, 2, 4),
            channels=(1024, 2048),
            strides=(1, 2),
            dilations=(2, 1, 3),
            project=(True, False),
            inner=(256, 512),
        ),
        StageChoices(
            "c6",
            depths=(3, 2, 0),
            channels=(1024, 2048),
            strides=(1, 2),
            dilations=(2, 1, 3),
            project=(True, False),
            inner=(256, 512),
        ),
    )
)
"""DetNet's questions around its own answers: the path of zeros is DetNet-59.

ResNet-50, its dilated form and DetNet-59 without stage 6's projection are in it, too.
"""
