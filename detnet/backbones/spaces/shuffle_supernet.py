"""DetNAS's supernet: every position of a shuffle space has all its kinds of block."""

from collections.abc import Sequence

from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo
from detnet.backbones.blocks import StrideIn, initialise
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.shufflenet import ShuffleBlock, conv_unit, shuffle_tail
from detnet.backbones.spaces.shuffle_copy import copy_block
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, describe_path
from detnet.backbones.spaces.supernet import Supernet, renamed


class ShuffleSupernet(Supernet):
    """All networks of a shuffle space in one.

    Args:
        space: the table.
        width: scales every channel count, see `ShuffleSpace.scaled`.
        stride_in: without meaning here, as in `ShuffleNet`.
        norm: see `make_norm`.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.
    """

    space: ShuffleSpace

    def __init__(
        self,
        space: ShuffleSpace,
        *,
        width: float = 1.0,
        stride_in: StrideIn = "1x1",
        norm: NormKind = "batch",
    ) -> None:
        super().__init__(space)
        self.width, self.stride_in, self.norm = width, stride_in, norm
        self.scaled = space.scaled(width)
        make = make_norm(norm)
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
        return shuffle_tail(self.scaled, make_norm(self.norm))

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
