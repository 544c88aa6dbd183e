"""DetNAS's spaces: tables of stages in which the kind of each block is left open."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any, Unpack

from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo, StagedBackbone
from detnet.backbones.norm import make_norm
from detnet.backbones.shuffle_block import (
    BLOCK_KINDS,
    BlockKind,
    Position,
    ShuffleBlock,
    conv_unit,
    copy_block,
    shuffle_tail,
)
from detnet.backbones.spaces.space import (
    ROW_NAME,
    Gene,
    Space,
    Supernet,
    renamed,
    require_keys,
    require_kinds,
    rows_of,
)
from detnet.backbones.stages import (
    FIRST_LEVEL,
    Norm,
    StagedOptions,
    initialise,
    scale_channels,
    staged_settings,
)
from detnet.errors import InputError
from detnet.kinds import require_positive

_MOST_BLOCKS = 1000  # of a stage; a table from a file must not fill the memory


@dataclass(frozen=True)
class ShuffleStage:
    """One stage of a space: the level it puts out, its number of blocks, its output width."""

    name: str
    blocks: int
    channels: int


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
    rows: tuple[ShuffleStage, ...]
    tail_channels: int = 1024
    choices: tuple[BlockKind, ...] = BLOCK_KINDS

    def scaled(self, width: float) -> "ShuffleSpace":
        """Multiplies every channel count by `width`, rounded to multiples of 8.

        A stage stays at least 8 wider than its input, or its first block would have no main branch.
        At width 1 the table holds as it is, multiples of 8 or not.

        Raises:
            InputError: the width does not lie in (0, 8].
        """
        if not 0 < width <= 8:
            raise InputError(f"width must lie in (0, 8], got {width}")
        if width == 1:
            return self
        channels = stem = scale_channels(self.stem_channels, width)
        rows = []
        for row in self.rows:
            channels = max(scale_channels(row.channels, width), channels + 8)
            rows.append(ShuffleStage(row.name, row.blocks, channels))
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

    def chosen(self, path: Sequence[int]) -> Iterator[tuple[Position, BlockKind]]:
        """Pairs every position with its choice.

        Raises:
            InputError: `path` does not fit.
        """
        for position, index in zip(self.positions(), self.check(path), strict=True):
            yield position, self.choices[index]

    def network(self, path: Sequence[int], **options: Unpack[StagedOptions]) -> "ShuffleNet":
        return ShuffleNet(self, path, **options)

    def supernet(self, **options: Unpack[StagedOptions]) -> "ShuffleSupernet":
        return ShuffleSupernet(self, **options)

    def tail(self, norm: Norm) -> tuple[nn.Module, int]:
        """What a classifier puts behind the last stage, and its width."""
        return shuffle_tail(self.rows[-1].channels, self.tail_channels, norm), self.tail_channels

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
        rows = tuple(ShuffleStage(**row) for row in rows_of(values.pop("rows", None), ShuffleStage))
        require_keys(cls, values, "a shuffle space")
        for choice in values.get("choices", ()):
            require_keys(BlockKind, choice, "a choice")
        if "choices" in values:
            values["choices"] = tuple(
                BlockKind(**{**choice, "kernels": tuple(choice["kernels"])})
                for choice in values["choices"]
            )
        space = cls(rows=rows, **values)
        require_kinds(space)  # first: texts cannot be compared with numbers
        space._require_buildable()
        return space

    def _require_buildable(self) -> None:
        if not self.rows or not self.choices:
            raise InputError("it has no rows or no choices")
        if len(self.choices) > 10:
            raise InputError(f"a block has at most 10 choices, got {len(self.choices)}")
        require_positive(self, "stem_channels", "tail_channels")
        names = [row.name for row in self.rows]
        if len({*names}) < len(names):
            raise InputError(f"two rows have one name: {', '.join(names)}")
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


class ShuffleNet(StagedBackbone):
    """The network that a path picks from a space.

    Departs from the release: weights are drawn as in all networks here. The release draws depthwise
    filters with deviation 1, beside which the early steps change little.

    Args:
        space: the table.
        path: see `ShuffleSpace`.
        options: see `StagedOptions` and `ShuffleSpace.scaled`; `stride_in` is without meaning here,
            where depthwise convolutions carry the strides; taken so that all backbones are built
            alike.

    Raises:
        InputError: an option outside its range, or a path that does not fit.
    """

    def __init__(
        self,
        space: ShuffleSpace,
        path: Sequence[int],
        **options: Unpack[StagedOptions],
    ) -> None:
        super().__init__()
        settings = staged_settings(options)
        self.width, self.stride_in = settings.width, settings.stride_in
        self.norm = settings.norm
        self.space, self.path = space.scaled(self.width), tuple(path)
        make = make_norm(self.norm)
        self.stem = conv_unit(3, self.space.stem_channels, make, kernel=3, stride=2)
        stages: dict[str, list[nn.Module]] = {row.name: [] for row in self.space.rows}
        for position, choice in self.space.chosen(self.path):
            stages[position.stage].append(ShuffleBlock(position, choice, norm=make))
        self.stages = nn.ModuleDict({name: nn.Sequential(*row) for name, row in stages.items()})
        self.feature_info = describe_path(self.space, self.path)
        initialise(self)

    def tail(self) -> tuple[nn.Module, int]:
        """A 1×1 convolution to `tail_channels`, and dropout of whole channels."""
        return self.space.tail(make_norm(self.norm))


class ShuffleSupernet(Supernet):
    """All networks of a shuffle space in one.

    Args:
        space: the table.
        options: as `ShuffleNet` takes them.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.
    """

    space: ShuffleSpace

    def __init__(self, space: ShuffleSpace, **options: Unpack[StagedOptions]) -> None:
        super().__init__(space)
        settings = staged_settings(options)
        self.width, self.stride_in = settings.width, settings.stride_in
        self.norm = settings.norm
        self.scaled = space.scaled(self.width)
        make = make_norm(self.norm)
        self.stem = conv_unit(3, self.scaled.stem_channels, make, kernel=3, stride=2)
        self.stages = nn.ModuleDict({row.name: nn.ModuleList() for row in self.scaled.rows})
        for position in self.scaled.positions():
            kinds = [ShuffleBlock(position, choice, norm=make) for choice in self.scaled.choices]
            self._stage(position.stage).append(nn.ModuleList(kinds))
        largest = describe_path(self.scaled, self._largest_fields())
        self.feature_info: tuple[FeatureInfo, ...] = largest
        initialise(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps images to levels by the blocks of `path` alone."""
        x, features = self.stem(images), {}
        kinds = iter(self.path)
        for name in self.stages:
            for block in self._stage(name):
                x = block[next(kinds)](x)  # type: ignore[index]
            features[name] = x
        return features

    def parts(self) -> dict[str, nn.Module]:
        return {"stem": self.stem, **self.stages}

    def tail(self) -> tuple[nn.Module, int]:
        """The same as its networks'."""
        return self.scaled.tail(make_norm(self.norm))

    def weights_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        places = {"stem": "stem"}
        kinds = iter(self.space.check(path))
        for name in self.stages:
            for index in range(len(self._stage(name))):
                places[f"stages.{name}.{index}.{next(kinds)}"] = f"stages.{name}.{index}"
        return renamed(self.state_dict(), places)

    def spread(self) -> None:
        """Smaller kernels stand in the middle of larger ones, and what is left over is Dirac's."""
        kinds = iter(self.path)
        for name in self.stages:
            for block in self._stage(name):
                assert isinstance(block, nn.ModuleList)
                taken = block[next(kinds)]
                for other in block:
                    if other is not taken:
                        copy_block(taken, other)  # type: ignore[arg-type]

    def _stage(self, name: str) -> nn.ModuleList:
        stage = self.stages[name]
        assert isinstance(stage, nn.ModuleList)
        return stage

    def _largest_fields(self) -> list[int]:
        """The path that sees most, whose receptive fields the levels are described by."""
        spans = [sum(kernel - 1 for kernel in kind.kernels) for kind in self.scaled.choices]
        return [spans.index(max(spans))] * len(self.scaled.genes)
