"""A backbone of one's own: plain convolutions, levels of other names, no stem."""

from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.stages import StrideIn, initialise, scale_channels


class Plain(Backbone):
    """Four levels, each two convolutions at half the size of the one before."""

    def __init__(
        self, *, width: float = 1.0, stride_in: StrideIn = "1x1", norm: NormKind = "batch"
    ) -> None:
        super().__init__()
        self.width = width
        before, info = 3, []
        rows = (("fine", 64, 4), ("middle", 128, 8), ("coarse", 256, 16), ("coarsest", 256, 32))
        for name, channels, stride in rows:
            channels = scale_channels(channels, width)
            steps = (2, 2) if name == "fine" else (2, 1)
            layers: list[nn.Module] = []
            for step in steps:
                layers += [nn.Conv2d(before, channels, 3, step, 1, bias=False)]
                layers += [make_norm(norm)(channels), nn.ReLU(inplace=True)]
                before = channels
            self.add_module(name, nn.Sequential(*layers))
            info.append(FeatureInfo(name, channels, stride))
        self.feature_info = tuple(info)
        initialise(self)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps images to the four levels."""
        return {name: (images := level(images)) for name, level in self.named_children()}


BACKBONES.register("plain", Plain)
