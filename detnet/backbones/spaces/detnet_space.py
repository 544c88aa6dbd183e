"""DetNet's own design questions as a space: how deep, wide, dilated and fine each stage is."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Unpack

from detnet.backbones.spaces.space import ROW_NAME, Gene, Space
from detnet.backbones.stages import Stage, StagedNet, StagedOptions
from detnet.errors import InputError

if TYPE_CHECKING:
    from detnet.backbones.spaces.detnet_supernet import DetNetSupernet

# What a row may leave open: its field, the gene's name.
_QUESTIONS = {
    "depths": "depth",
    "channels": "width",
    "strides": "resolution",
    "dilations": "dilation",
    "project": "shortcut",
    "inner": "inner width",
}


@dataclass(frozen=True)
class Row:
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
        for field, question in _QUESTIONS.items():
            yield question, getattr(self, field)


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

    rows: tuple[Row, ...]

    def __post_init__(self) -> None:
        if not self.rows:
            raise InputError("a space has at least one row")
        for row in self.rows:
            _require_answers(row)
            _require_row(row, last=row is self.rows[-1] and len(self.rows) > 1)
        if len({row.name for row in self.rows}) < len(self.rows):
            raise InputError(f"two rows have one name: {', '.join(row.name for row in self.rows)}")
        for before, row in pairwise(self.rows):
            changes = set(before.channels) | set(row.channels)
            _require_projection(row, can_change=len(changes) > 1)
        _require_projection(self.rows[0], can_change=True)

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
            path += _indices(row, stage)
        return tuple(path)

    def check(self, path: Sequence[int]) -> tuple[int, ...]:
        """Gives the one spelling of a path, so that equal networks have equal paths."""
        return self.path_of(self.table(path))

    def network(self, path: Sequence[int], **options: Unpack[StagedOptions]) -> StagedNet:
        return StagedNet(self.table(path), **options)

    def supernet(self, **options: Unpack[StagedOptions]) -> "DetNetSupernet":
        from detnet.backbones.spaces.detnet_supernet import DetNetSupernet

        return DetNetSupernet(self, **options)

    def to_json(self) -> dict[str, Any]:
        rows = [
            {"name": row.name, **{field: list(getattr(row, field)) for field in _QUESTIONS}}
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
            rows.append(Row(**row))
        return cls(rows=tuple(rows), **values)


def spell(question: str, answer: Any) -> str:
    """Writes an answer to one of a row's questions as a gene's choices are named."""
    words: dict[str, dict[Any, str]] = {
        "resolution": {1: "hold", 2: "halve"},
        "shortcut": {True: "projection", False: "identity"},
        "inner width": {0: "a quarter"},
    }
    return words.get(question, {}).get(answer, str(answer))


def _indices(row: Row, stage: Stage) -> Iterator[int]:
    """The index of every open question's answer; zeros after the depth of an absent stage."""
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


def _require_answers(row: Row) -> None:
    for question, answers in row.options():
        if not 1 <= len(answers) <= 10:
            raise InputError(f"{row.name}: a {question} has 1 to 10 choices, got {len(answers)}")
        if len(set(answers)) < len(answers):
            raise InputError(f"{row.name}: a {question} is there twice: {answers}")
        kind = bool if question == "shortcut" else int
        if any(type(answer) is not kind for answer in answers):
            raise InputError(f"{row.name}: a {question} is {kind.__name__}, got {answers}")


def _require_row(row: Row, *, last: bool) -> None:
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


def _require_projection(row: Row, *, can_change: bool) -> None:
    if (can_change or 2 in row.strides) and True not in row.project:
        raise InputError(
            f"{row.name}: its first block can change the shape, which an identity cannot: add true "
            "to its project"
        )


DETNET = DetNetSpace(
    rows=(
        Row("c2", depths=(3, 2), channels=(256,)),
        Row("c3", depths=(4, 3), channels=(512,), strides=(2,)),
        Row("c4", depths=(6, 5, 4), channels=(1024,), strides=(2,), dilations=(1, 2, 3)),
        Row(
            "c5",
            depths=(3, 2, 4),
            channels=(1024, 2048),
            strides=(1, 2),
            dilations=(2, 1, 3),
            project=(True, False),
            inner=(256, 512),
        ),
        Row(
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
