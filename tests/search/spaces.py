"""Small spaces to search: one of shuffle blocks, and one in which networks have many spellings."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor, nn

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import Gene, Space, Supernet
from detnet.search.costs.constraints import Constraints, Costs, Limits

TINY = ShuffleSpace(
    stem_channels=8, rows=(ShuffleStage("c2", 1, 24), ShuffleStage("c3", 2, 48))
)  # 64 networks


class DepthNet(Backbone):
    """As many convolutions as asked for, at strides 4, and one level."""

    def __init__(self, kernels: Sequence[int]) -> None:
        super().__init__()
        self.width = 1.0
        self.stem = nn.Conv2d(3, 8, 3, 4, 1)
        self.stage = nn.Sequential(*(nn.Conv2d(8, 8, k, 1, k // 2) for k in kernels))
        self.feature_info = (FeatureInfo("c2", 8, 4),)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c2": self.stage(self.stem(images))}


class DepthSpace(Space):
    """One to three convolutions; the kernels of the second and third mean nothing without them."""

    def __init__(self) -> None:
        self.built: list[tuple[int, ...]] = []

    @property
    def genes(self) -> tuple[Gene, ...]:
        kernels = tuple(Gene("c2", f"kernel {n}", ("3", "5")) for n in (1, 2))
        return (Gene("c2", "depth", ("1", "2", "3")), *kernels)

    def check(self, path: Sequence[int]) -> tuple[int, ...]:
        path = super().check(path)
        return tuple(index if number <= path[0] else 0 for number, index in enumerate(path))

    def network(self, path: Sequence[int], **_: Any) -> Backbone:
        path = self.check(path)
        self.built.append(path)
        return DepthNet([3, *(3 + 2 * index for index in path[1 : path[0] + 1])])

    def supernet(self, **_: Any) -> Supernet:
        raise NotImplementedError

    def to_json(self) -> dict[str, Any]:
        return {"kind": "depth"}


def everything(
    space: Space,
    limits: Limits | None = None,
    latency: Callable[[tuple[int, ...]], float] | None = None,
    *,
    size: tuple[int, int] = (64, 96),
) -> Constraints:
    return Constraints(space, Costs(space, image_size=size), limits, latency)
