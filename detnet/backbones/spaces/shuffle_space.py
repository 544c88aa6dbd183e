"""DetNAS's spaces: a table of stages in which the kind of each block is left open."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Unpack

from detnet.backbones.base import FeatureInfo
from detnet.backbones.blocks import scale_channels
from detnet.backbones.spaces.space import ROW_NAME, Gene, Space
from detnet.backbones.stages import FIRST_LEVEL, StagedOptions
from detnet.errors import InputError

if TYPE_CHECKING:
    from detnet.backbones.shufflenet import ShuffleNet
    from detnet.backbones.spaces.shuffle_supernet import ShuffleSupernet

_MOST_BLOCKS = 1000  # of a stage; a table from a file must not fill the memory


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
class ShuffleSpace(Space):
    """A table of stages in which the kind of every block is left open.

    A path has for each position, input to output, an index into `choices`.

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

    @cached_property
    def genes(self) -> tuple[Gene, ...]:
        """The kind of every block."""
        kinds = tuple(choice.name for choice in self.choices)
        return tuple(Gene(at.stage, f"block {at.index}", kinds) for at in self.positions())

    def chosen(self, path: Sequence[int]) -> Iterator[tuple[Position, Choice]]:
        """Pairs every position with its choice.

        Raises:
            InputError: `path` does not fit.
        """
        for position, index in zip(self.positions(), self.check(path), strict=True):
            yield position, self.choices[index]

    def network(self, path: Sequence[int], **options: Unpack[StagedOptions]) -> "ShuffleNet":
        from detnet.backbones.shufflenet import ShuffleNet

        return ShuffleNet(self, path, **options)

    def supernet(self, **options: Unpack[StagedOptions]) -> "ShuffleSupernet":
        from detnet.backbones.spaces.shuffle_supernet import ShuffleSupernet

        return ShuffleSupernet(self, **options)

    def to_json(self) -> dict[str, Any]:
        table = asdict(self)
        for choice in table["choices"]:
            choice["kernels"] = list(choice["kernels"])
        lists = {name: list(table[name]) for name in ("rows", "choices")}
        return {"kind": "shuffle", **table, **lists}

    @classmethod
    def from_json(cls, table: Mapping[str, Any]) -> "ShuffleSpace":
        """Reads what `to_json` wrote; without `choices` they are DetNAS's four."""
        values = dict(table)
        rows = tuple(Row(**row) for row in values.pop("rows"))
        if "choices" in values:
            values["choices"] = tuple(
                Choice(**{**choice, "kernels": tuple(choice["kernels"])})
                for choice in values["choices"]
            )
        space = cls(rows=rows, **values)
        space._require_buildable()
        return space

    def _require_buildable(self) -> None:
        if not self.rows or not self.choices:
            raise InputError("it has no rows or no choices")
        if len(self.choices) > 10:
            raise InputError(f"a block has at most 10 choices, got {len(self.choices)}")
        channels = self.stem_channels
        for row in self.rows:
            if not ROW_NAME.fullmatch(row.name):
                raise InputError(f"rows are named c2, c3 …, got {row.name!r}")
            if not 1 <= row.blocks <= _MOST_BLOCKS:
                raise InputError(f"{row.name}: 1 to {_MOST_BLOCKS} blocks, got {row.blocks}")
            if row.channels <= channels or row.channels % 2:
                raise InputError(
                    f"{row.name}: its channels must be even and more than the {channels} before "
                    f"it, got {row.channels}"
                )
            channels = row.channels
        for choice in self.choices:
            if not choice.kernels or any(k < 1 or k % 2 == 0 for k in choice.kernels):
                raise InputError(f"{choice.name}: kernels must be odd, got {choice.kernels}")


def describe_path(space: ShuffleSpace, path: Sequence[int]) -> tuple[FeatureInfo, ...]:
    """Derives each level's channels, stride and theoretical receptive field."""
    info: dict[str, FeatureInfo] = {}
    stride, field = 2, 3  # after the stem
    for position, choice in space.chosen(path):
        field += (choice.kernels[0] - 1) * stride
        stride *= position.stride
        field += sum(kernel - 1 for kernel in choice.kernels[1:]) * stride
        name, channels = position.stage, position.out_channels
        level = FIRST_LEVEL + list(dict.fromkeys([*info, name])).index(name)
        info[name] = FeatureInfo(name, channels, stride, field, level)
    return tuple(info.values())
