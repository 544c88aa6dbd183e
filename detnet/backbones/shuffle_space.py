"""Spaces of networks: a table of stages in which the kind of each block is left open."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from detnet.backbones.base import FeatureInfo
from detnet.backbones.blocks import scale_channels
from detnet.errors import InputError


@dataclass(frozen=True)
class Choice:
    """One kind of block.

    Args:
        name: the release's.
        kernels: sides of the depthwise convolutions in the main branch; the first has the stride,
            and the side branch of an opening block has one like it.
        narrow: whether a 1×1 to the inner width comes first, as in ShuffleNetV2.
    """

    name: str
    kernels: tuple[int, ...]
    narrow: bool = False


CHOICES = (
    Choice("shufflenet_3x3", kernels=(3,), narrow=True),
    Choice("shufflenet_5x5", kernels=(5,), narrow=True),
    Choice("shufflenet_7x7", kernels=(7,), narrow=True),
    Choice("xception_3x3", kernels=(3, 3, 3)),
)


@dataclass(frozen=True)
class Row:
    """One stage of a space: the level it puts out, its number of blocks, its output width."""

    name: str
    blocks: int
    channels: int


@dataclass(frozen=True)
class Position:
    """One block whose kind is to be chosen.

    Args:
        stage: name of the level it belongs to.
        index: within the stage, from 0.
        in_channels, out_channels: of the block.
        stride: 2 for the first of a stage.
    """

    stage: str
    index: int
    in_channels: int
    out_channels: int
    stride: int


@dataclass(frozen=True)
class ShuffleSpace:
    """A table of stages in which the kind of every block is left open.

    A network is a space and a path: for each position, input to output, an index into `choices`.

    Args:
        stem_channels: of the first convolution, which halves the resolution.
        rows: the stages; each halves it once more.
        tail_channels: of the 1×1 convolution between the last level and a classifier.
        choices: what a block may be.

    Paper: Chen et al. 2019, arXiv:1903.10979.
    """

    stem_channels: int
    rows: tuple[Row, ...]
    tail_channels: int = 1024
    choices: tuple[Choice, ...] = CHOICES

    def scaled(self, width: float) -> "ShuffleSpace":
        """Multiplies every channel count by `width`, rounded to multiples of 8.

        A stage stays at least 8 wider than its input, or its first block would have no main branch.
        At width 1 the table holds as it is, multiples of 8 or not.
        """
        if not 0 < width <= 8:
            raise InputError(f"width must lie in (0, 8], got {width}")
        if width == 1:
            return self
        channels = stem = scale_channels(self.stem_channels, width)
        rows = []
        for row in self.rows:
            channels = max(scale_channels(row.channels, width), channels + 8)
            rows.append(Row(row.name, row.blocks, channels))
        tail = scale_channels(self.tail_channels, width)
        return ShuffleSpace(stem, tuple(rows), tail, self.choices)

    def positions(self) -> Iterator[Position]:
        """Every block, input to output."""
        channels = self.stem_channels
        for row in self.rows:
            for index in range(row.blocks):
                yield Position(row.name, index, channels, row.channels, 1 if index else 2)
                channels = row.channels

    def chosen(self, path: Sequence[int]) -> Iterator[tuple[Position, Choice]]:
        """Pairs every position with its choice.

        Raises:
            InputError: `path` has another length, or an index beyond the choices.
        """
        positions = list(self.positions())
        if len(path) != len(positions):
            raise InputError(
                f"a path through this space has {len(positions)} entries, got {len(path)}"
            )
        for number, gene in enumerate(path):
            if not 0 <= gene < len(self.choices):
                raise InputError(
                    f"entry {number} of the path is {gene}; "
                    f"the choices are 0 to {len(self.choices) - 1}"
                )
        for position, gene in zip(positions, path, strict=True):
            yield position, self.choices[gene]


def parse_path(text: str) -> tuple[int, ...]:
    """Reads a path as the tables write it: one digit a block, blanks between stages."""
    return tuple(int(digit) for digit in text if digit != " ")


def describe_path(space: ShuffleSpace, path: Sequence[int]) -> tuple[FeatureInfo, ...]:
    """Derives each level's channels, stride and theoretical receptive field."""
    info: dict[str, FeatureInfo] = {}
    stride, field = 2, 3  # after the stem
    for position, choice in space.chosen(path):
        field += (choice.kernels[0] - 1) * stride
        stride *= position.stride
        field += sum(kernel - 1 for kernel in choice.kernels[1:]) * stride
        info[position.stage] = FeatureInfo(position.stage, position.out_channels, stride, field)
    return tuple(info.values())
