"""Anchors whose corners are exact, and which lie where their level's cells do."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.image_list import ImageList

from detnet.backbones.base import FeatureInfo
from detnet.errors import InputError

AnchorStrides = Literal["fixed", "torchvision"]


def require_sizes(anchor_sizes: Sequence[float]) -> None:
    """Refuses sides of anchors that are none.

    Raises:
        InputError: no side, or one below a pixel.
    """
    if not anchor_sizes or min(anchor_sizes) < 1:
        raise InputError(
            f"anchor_sizes must be one or more sides of 1 pixel or more, got {list(anchor_sizes)}"
        )


def one_size_a_level(sizes: Sequence[int], levels: Sequence[FeatureInfo]) -> list[list[int]]:
    """Deals the sides of anchors out to a pyramid's levels.

    Raises:
        InputError: they differ in number.
    """
    if len(sizes) != len(levels):
        names = ", ".join(level.name for level in levels)
        raise InputError(
            f"anchor_sizes must be {len(levels)} numbers, one for each of {names}, got "
            f"{list(sizes)}"
        )
    return [[size] for size in sizes]


class ExactAnchors(AnchorGenerator):
    """torchvision's anchors, in fp32 at least, and as far apart as the cells of their level.

    torchvision makes them in the features' type. In bf16, coordinates above 256 are then even
    numbers and above 512 multiples of four, and so are the objects that are matched to them: a
    thin object loses its width, and its regression target is infinite.

    It also takes the padded side over the number of cells, rounded down, for a level's stride.
    Where that side is no multiple of the stride the cells were counted up: an image of 800 pixels
    has 7 cells of 128, and their anchors then lie 114 pixels apart, up to 84 pixels from what the
    cells see, in other places for each size of image.

    Args:
        sizes: sides in pixels, of each level.
        aspect_ratios: height over width, of each level.
        levels: whose strides hold, fine to coarse; None for torchvision's rule.

    Raises:
        ValueError: levels and sizes differ in number.
    """

    def __init__(
        self,
        sizes: Sequence[Sequence[int]],
        aspect_ratios: Sequence[Sequence[float]],
        *,
        levels: Sequence[FeatureInfo] | None = None,
    ) -> None:
        super().__init__(tuple(map(tuple, sizes)), tuple(map(tuple, aspect_ratios)))
        if levels is not None and len(levels) != len(sizes):
            raise ValueError(f"{len(levels)} levels but anchors for {len(sizes)}")
        self.levels = None if levels is None else tuple(levels)

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """Takes fp32 where the features are of half precision."""
        half = dtype in (torch.bfloat16, torch.float16)
        super().set_cell_anchors(torch.float32 if half else dtype, device)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Gives each image's anchors, (A, 4) xyxy: by level, row, column, then shape."""
        if self.levels is None:
            return super().forward(image_list, feature_maps)
        self.set_cell_anchors(feature_maps[0].dtype, feature_maps[0].device)
        strides = [[info.stride] * 2 for info in self.levels]  # numbers: a copy would be waited for
        grids = [list(feature.shape[-2:]) for feature in feature_maps]
        anchors = torch.cat(self.grid_anchors(grids, strides))
        return [anchors] * len(image_list.image_sizes)

    def restride(self, strides: Mapping[str, int]) -> None:
        """Takes other strides for the levels of these names, as another path of a supernet has."""
        if self.levels is not None:
            self.levels = tuple(replace(i, stride=strides[i.name]) for i in self.levels)
