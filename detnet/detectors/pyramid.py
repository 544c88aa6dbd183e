"""A backbone and its pyramid as the one network torchvision's detectors ask for."""

from torch import Tensor, nn

from detnet.backbones.base import Backbone
from detnet.backbones.blocks import scale_channels
from detnet.backbones.norm import NormKind
from detnet.detectors.fpn import FPN, Extra
from detnet.errors import InputError


class PyramidNet(nn.Module):
    """Maps a batch of images to pyramid levels.

    Args:
        backbone: where the features come from; it is used from level `finest` on.
        finest: number of the finest level, 2 for P2.
        coarsest: number of the coarsest level; those the backbone lacks are made by `extra`.
        extra: see `FPN`.
        norm: of the pyramid's convolutions, none by default.

    Raises:
        InputError: the backbone lacks level `finest` or one after it, or goes on after `coarsest`.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        finest: int,
        coarsest: int = 0,
        extra: Extra = "pool",
        norm: NormKind | None = None,
    ) -> None:
        super().__init__()
        self.backbone = backbone
        used = [info for info in backbone.feature_info if info.level >= finest]
        require_levels(backbone, "this detector's pyramid", finest, coarsest)
        self.out_channels = scale_channels(256, backbone.width)
        self.neck = FPN(
            used,
            out_channels=self.out_channels,
            num_levels=max(coarsest - finest + 1, len(used)),
            extra=extra,
            norm=norm,
        )
        self.levels = self.neck.in_names
        self.feature_info = self.neck.feature_info

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) to {name: (N, out_channels, H / stride, W / stride)}."""
        return self.neck(self.backbone(images))


def require_levels(backbone: Backbone, user: str, finest: int, coarsest: int = 0) -> None:
    """Refuses a backbone whose levels do not begin early enough, have gaps, or go on too far.

    Raises:
        InputError: naming the levels that there are.
    """
    numbers = [info.level for info in backbone.feature_info if info.level >= finest]
    wanted = list(range(finest, finest + max(1, len(numbers))))
    if numbers != wanted or (coarsest and numbers[-1] > coarsest):
        found = ", ".join(f"{info.name} ({info.level})" for info in backbone.feature_info)
        end = f" and none after {coarsest}" if coarsest else ""
        raise InputError(
            f"{user} takes the levels from number {finest} on, none left out{end}; the backbone "
            f"has {found}"
        )
