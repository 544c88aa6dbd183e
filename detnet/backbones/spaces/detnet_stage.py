"""One stage of DetNet's space: what its row leaves open, and all its forms in one module."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from detnet.backbones.spaces.inheritance import add_nothing, inherit, pass_on
from detnet.backbones.spaces.space import ROW_NAME
from detnet.backbones.stages import (
    Bottleneck,
    Norm,
    Stage,
    StrideIn,
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

    def inherit(self, taken: "WideStage", before: int, stage: Stage) -> None:
        """Takes over what a form has learnt, in whatever width; it keeps what it has learnt itself.

        A block beyond the form's last is a copy of that one, whose branch is not heard yet.

        Args:
            taken: the modules of the form's widths, perhaps these.
            before: channels of the stage before it, as in the table.
            stage: the form.
        """
        first = taken.opening[str(before)]
        for opening in self.opening.values():
            for name, layer in opening.named_children():
                if name == "downsample" and not stage.project:
                    pass_on(layer)
                else:
                    inherit(first.get_submodule(name), layer)
        learnt = stage.blocks - 1
        for one, block in zip(taken.blocks, list(self.blocks)[:learnt], strict=False):
            inherit(one, block)
        for block in list(self.blocks)[learnt:]:
            if learnt:
                inherit(self.blocks[learnt - 1], block)
            add_nothing(block)


def _set(conv: object, **values: int) -> None:
    for name, value in values.items():
        setattr(conv, name, (value, value))
