"""DetNet's own design questions as a space: how deep, wide, dilated and fine each stage is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, Unpack

import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.norm import make_norm
from detnet.backbones.spaces.detnet_stage import (
    QUESTIONS,
    StageChoices,
    WideStage,
    answers_of,
    require_answers,
    require_projection,
    require_row,
    spell,
)
from detnet.backbones.spaces.space import (
    Gene,
    Space,
    Supernet,
    renamed,
    require_keys,
    rows_of,
)
from detnet.backbones.stages import (
    FIRST_LEVEL,
    Stage,
    StagedNet,
    StagedOptions,
    initialise,
    scale_channels,
)
from detnet.errors import InputError

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
        for given in rows_of(values.pop("rows", None), StageChoices):
            row: dict[str, Any] = {
                key: value if key == "name" else tuple(value) for key, value in given.items()
            }
            rows.append(StageChoices(**row))
        require_keys(cls, values, "a detnet space")
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
        strides, stride = [], _STEM_STRIDE
        for before, stage, form in self._forms(self._table):
            form.shape(before, stage)
            strides.append(stride := stride * stage.stride)
        self.feature_info = _level_info(self._widest, strides)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps images to levels by the blocks of `path` alone."""
        x, features = self.stem(images), {}
        for before, stage, form in self._forms(self._table):
            for block in form.chosen(before, stage):
                x = block(x)
            features[stage.name] = x
        return _fill_levels(features, self._widest)

    def levelled(self, network: Backbone) -> Backbone:
        return LevelledNet(network, self._widest)

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

    def spread(self) -> None:
        """Other widths begin as parts or extensions of the path's, further blocks as identities.

        The first channels of a wider or deeper form compute what the path's do. Of a last stage
        that the path leaves out there is nothing to take over.
        """
        for before, stage, taken in self._forms(self._table):
            for form in self.stages[stage.name].values():  # type: ignore[operator]
                form.inherit(taken, before, stage)

    def _forms(self, table: Sequence[Stage]) -> Iterator[tuple[int, Stage, WideStage]]:
        """Every stage of a table with the width before it and the modules of its own width."""
        before = _STEM_CHANNELS
        for stage in table:
            form = self.stages[stage.name][_widths(stage)]  # type: ignore[index]
            yield before, stage, form
            before = stage.channels


class LevelledNet(Backbone):
    """A network with all levels of the supernet that it comes from, as wide as there.

    Args:
        network: of the supernet's space.
        widest: channels of each level.
    """

    def __init__(self, network: Backbone, widest: Mapping[str, int]) -> None:
        super().__init__()
        self.network, self.width, self._widest = network, network.width, dict(widest)
        self.feature_info = _level_info(widest, [info.stride for info in network.feature_info])

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return _fill_levels(self.network(images), self._widest)


def _level_info(widest: Mapping[str, int], strides: Sequence[int]) -> tuple[FeatureInfo, ...]:
    """Describes a supernet's levels; those after the last stride each halve it once more."""
    info, stride = [], 0
    for index, (name, channels) in enumerate(widest.items()):
        stride = strides[index] if index < len(strides) else stride * 2
        info.append(FeatureInfo(name, channels, stride, level=FIRST_LEVEL + index))
    return tuple(info)


def _fill_levels(features: Mapping[str, Tensor], widest: Mapping[str, int]) -> dict[str, Tensor]:
    """Adds zero channels to narrow levels, and absent ones, the cells of the one before by twos."""
    filled: dict[str, Tensor] = {}
    level = Tensor()
    for name, channels in widest.items():
        level = features[name] if name in features else F.max_pool2d(level, 1, 2)
        filled[name] = _filled(level, channels)
    return filled


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
