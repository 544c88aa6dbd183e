"""A space of one's own, as a third party writes it: the kernel of each stage is open.

detnet search --space kernels --plugin tests.plugins.my_space …
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Any

from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo, StagedBackbone
from detnet.backbones.spaces.space import SPACES, Gene, Space, Supernet, renamed

KERNELS = ("3", "5", "7")
INFO = tuple(FeatureInfo(f"c{n}", 8 * n, 2**n) for n in (2, 3, 4, 5))


def fill(network: Any, stages: Iterable[nn.Module]) -> Any:
    network.stem = nn.Sequential(OrderedDict(conv=nn.Conv2d(3, 8, 3, 2, 1)))
    network.stages = nn.ModuleDict(zip((info.name for info in INFO), stages, strict=True))
    network.feature_info = INFO
    return network


def unit(stage: int, choice: int) -> nn.Module:
    channels, kernel = INFO[stage].channels, int(KERNELS[choice])
    conv = nn.Conv2d(channels - 8, channels, kernel, 2, kernel // 2)
    return nn.Sequential(conv, nn.BatchNorm2d(channels), nn.ReLU())


class KernelSpace(Space):
    genes = tuple(Gene(info.name, "kernel", KERNELS) for info in INFO)

    def network(self, path: Sequence[int], **_: Any) -> StagedBackbone:
        return fill(StagedBackbone(), (unit(*each) for each in enumerate(self.check(path))))

    def supernet(self, **_: Any) -> Supernet:
        choices = range(len(KERNELS))
        wide = (nn.ModuleList(unit(stage, each) for each in choices) for stage in range(len(INFO)))
        return fill(KernelSupernet(self), wide)

    def to_json(self) -> dict[str, Any]:
        return {"kind": "kernels"}


class KernelSupernet(Supernet):
    def forward(self, images: Tensor) -> dict[str, Tensor]:
        x, features = self.stem(images), {}
        for (name, choices), index in zip(self.stages.items(), self.path, strict=True):
            features[name] = x = choices[index](x)
        return features

    def weights_of(self, path: Sequence[int]) -> dict[str, Tensor]:
        chosen = zip(self.stages, self.space.check(path), strict=True)
        places = {f"stages.{name}.{index}": f"stages.{name}" for name, index in chosen}
        return renamed(self.state_dict(), {"stem": "stem", **places})


SPACES.register("kernels", KernelSpace())
