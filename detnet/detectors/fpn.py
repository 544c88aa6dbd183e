"""Feature pyramids built from what a backbone says of itself."""

from collections.abc import Sequence
from typing import Literal

import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.stages import scale_channels
from detnet.errors import InputError
from detnet.tables import NameTable

NECKS = NameTable(
    "neck", {"fpn": "detnet.detectors.fpn:FPN"}
)  # called, and saying of itself, as FPN
Extra = Literal["pool", "conv_from_c", "conv_from_p"]


class FPN(nn.Module):
    """A top-down path with lateral connections over any row of levels.

    Where two neighbours have the same size they are plainly summed, which is all that DetNet's
    pyramid changes (its P4, P5 and P6); otherwise the coarser one is up-sampled by its nearest
    cell. Levels that the backbone lacks at the coarse end are added by `extra`: ResNet's P6 is
    made so, DetNet's is a real stage. A level keeps its number: that of number 4 becomes `p4`.

    Args:
        feature_info: the backbone's levels to use, fine to coarse, numbered without gaps.
        out_channels: of every pyramid level.
        num_levels: how many levels to give; the missing ones are added at the coarse end.
        extra: how a missing level is made at half the size: "pool" takes every second cell,
            "conv_from_c" is a 3×3 convolution at stride 2 on the last backbone level and, after a
            ReLU, on the level so made, "conv_from_p" begins on the last pyramid level instead.
        norm: of the pyramid's convolutions; without it they have a bias (DetNAS normalises, no one
            else).

    Raises:
        InputError: more levels in the backbone than asked for.

    Paper: Lin et al. 2017, arXiv:1612.03144, Section 3; Li et al. 2018, arXiv:1804.06215, Section
    3.2; Lin et al. 2017, arXiv:1708.02002, footnote 2 for the convolved levels.
    """

    def __init__(
        self,
        feature_info: Sequence[FeatureInfo],
        *,
        out_channels: int = 256,
        num_levels: int = 5,
        extra: Extra = "pool",
        norm: NormKind | None = None,
    ) -> None:
        super().__init__()
        if len(feature_info) > num_levels:
            raise InputError(
                f"the backbone has {len(feature_info)} levels, the pyramid room for {num_levels}"
            )
        self.in_names = tuple(info.name for info in feature_info)
        self.extra = extra
        self.lateral = nn.ModuleDict()
        self.output = nn.ModuleDict()
        self.extra_convs = nn.ModuleDict()
        levels = []
        for info in feature_info:
            name = f"p{info.level}"
            self.lateral[name] = _conv(info.channels, out_channels, 1, norm)
            self.output[name] = _conv(out_channels, out_channels, 3, norm)
            levels.append(FeatureInfo(name, out_channels, info.stride, level=info.level))
        for index in range(len(feature_info), num_levels):
            last = levels[-1]
            name = f"p{last.level + 1}"
            if extra != "pool":
                first = index == len(feature_info)
                from_c = first and extra == "conv_from_c"
                source = feature_info[-1].channels if from_c else out_channels
                self.extra_convs[name] = nn.Conv2d(source, out_channels, 3, 2, 1)
            levels.append(FeatureInfo(name, out_channels, last.stride * 2, level=last.level + 1))
        self.feature_info = tuple(levels)
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_uniform_(layer.weight, a=1)  # Xavier, as Detectron draws it
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        """Maps {c2: (N, C2, H2, W2), …} to {p2: (N, out_channels, H2, W2), …}, fine to coarse."""
        merged: Tensor | None = None
        pyramid: dict[str, Tensor] = {}
        for name, source in reversed(list(zip(self.lateral, self.in_names, strict=True))):
            lateral = self.lateral[name](features[source])
            if merged is None:
                merged = lateral
            elif merged.shape[-2:] == lateral.shape[-2:]:
                merged = lateral + merged
            else:
                merged = lateral + F.interpolate(merged, size=lateral.shape[-2:], mode="nearest")
            pyramid[name] = self.output[name](merged)
        pyramid = dict(reversed(pyramid.items()))
        self._add_levels(pyramid, features[self.in_names[-1]])
        return pyramid

    def _add_levels(self, pyramid: dict[str, Tensor], coarsest: Tensor) -> None:
        last = list(pyramid.values())[-1]
        made = [info.name for info in self.feature_info[len(self.in_names) :]]
        for index, name in enumerate(made):
            if self.extra == "pool":
                last = last[:, :, ::2, ::2]
            else:
                source = coarsest if index == 0 and self.extra == "conv_from_c" else last
                last = self.extra_convs[name](F.relu(source) if index else source)
            pyramid[name] = last


def _conv(in_channels: int, out_channels: int, size: int, norm: NormKind | None) -> nn.Module:
    if norm is None:
        return nn.Conv2d(in_channels, out_channels, size, padding=size // 2)
    return nn.Sequential(
        nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False),
        make_norm(norm)(out_channels),
    )


class PyramidNet(nn.Module):
    """Maps a batch of images to pyramid levels.

    Args:
        backbone: where the features come from; it is used from level `finest` on.
        finest: number of the finest level, 2 for P2.
        coarsest: number of a level up to which those the backbone lacks are made by `extra`; one
            that goes on has all its levels in the pyramid.
        extra: see `FPN`.
        norm: of the pyramid's convolutions, none by default.
        neck: of `NECKS`.

    Raises:
        InputError: the backbone lacks level `finest` or one after it, or there is no such neck.
    """

    def __init__(
        self,
        backbone: Backbone,
        *,
        finest: int,
        coarsest: int = 0,
        extra: Extra = "pool",
        norm: NormKind | None = None,
        neck: str = "fpn",
    ) -> None:
        super().__init__()
        self.backbone = backbone
        used = [info for info in backbone.feature_info if info.level >= finest]
        require_levels(backbone, "this detector's pyramid", finest)
        self.out_channels = scale_channels(256, backbone.width)
        self.neck = NECKS[neck](
            used,
            out_channels=self.out_channels,
            num_levels=max(coarsest - finest + 1, len(used)),
            extra=extra,
            norm=norm,
        )
        self.neck_name = neck
        self.levels = self.neck.in_names
        self.feature_info = self.neck.feature_info

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) to {name: (N, out_channels, H / stride, W / stride)}.

        Raises:
            InputError: a neck that gives other levels than it says.
        """
        pyramid: dict[str, Tensor] = self.neck(self.backbone(images))
        if [*pyramid] != (wanted := [info.name for info in self.feature_info]):
            raise InputError(
                f"neck {self.neck_name!r} gives the levels {', '.join(pyramid)}, its feature_info "
                f"has {', '.join(wanted)}"
            )
        return pyramid


def require_levels(backbone: Backbone, user: str, finest: int) -> None:
    """Refuses a backbone whose levels do not begin early enough, or have gaps.

    Raises:
        InputError: naming the levels that there are.
    """
    numbers = [info.level for info in backbone.feature_info if info.level >= finest]
    wanted = list(range(finest, finest + max(1, len(numbers))))
    if numbers != wanted:
        found = ", ".join(f"{info.name} ({info.level})" for info in backbone.feature_info)
        alike = len(set(numbers)) < len(numbers)
        remedy = "; where strides are equal say the number, FeatureInfo(…, level=5)"
        raise InputError(
            f"{user} takes the levels from number {finest} on, none left out; the backbone has "
            f"{found}{remedy if alike else ''}"
        )
