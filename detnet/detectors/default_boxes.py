"""SSD's default boxes on levels that are counted, never told apart by their strides."""

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detnet.backbones.base import FeatureInfo


class LevelBoxes(DefaultBoxGenerator):
    """torchvision's default boxes, the same for an image whatever it is batched with.

    torchvision takes the padded batch for the image: an image's boxes would grow with its
    neighbours. Here sizes are shares of the image itself, and centres are a level's stride apart.
    The coordinates are fp32 at least. The paper has the image's side over the cells in its place;
    its release has fixed steps, 8, 16, 32, 64 … pixels, and so have torchvision's published models.

    Args:
        aspect_ratios: of each level, besides 1; each stands for its inverse, too.
        scales: of each level, shares of the image's sides, and one for after the last.
        levels: whose strides hold, fine to coarse.
    """

    def __init__(
        self,
        aspect_ratios: Sequence[Sequence[int]],
        scales: Sequence[float],
        *,
        levels: Sequence[FeatureInfo],
    ) -> None:
        super().__init__([list(ratios) for ratios in aspect_ratios], scales=list(scales))
        self.levels = tuple(levels)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Gives each image's boxes, (A, 4) xyxy in pixels: by level, row, column, then shape."""
        first = feature_maps[0]
        half = first.dtype in (torch.bfloat16, torch.float16)
        like = first.new_empty(0, dtype=torch.float32 if half else first.dtype)
        centres, shapes = [], []
        for feature, info, pairs in zip(feature_maps, self.levels, self._wh_pairs, strict=True):
            rows, columns = feature.shape[-2:]
            y = (torch.arange(rows, dtype=like.dtype, device=like.device) + 0.5) * info.stride
            x = (torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5) * info.stride
            grid = torch.cartesian_prod(y, x).flip(1)
            centres.append(grid.repeat_interleave(len(pairs), dim=0))
            shapes.append(pairs.to(like).clamp(max=1).repeat(rows * columns, 1))
        centre, shape = torch.cat(centres), torch.cat(shapes)
        return [_boxes(centre, shape, size) for size in image_list.image_sizes]

    def restride(self, strides: Mapping[str, int]) -> None:
        """Takes other strides for the levels of these names, as another path of a supernet has."""
        self.levels = tuple(replace(info, stride=strides[info.name]) for info in self.levels)


def _boxes(centre: Tensor, shape: Tensor, size: tuple[int, int]) -> Tensor:
    half = shape * shape.new_tensor([size[1], size[0]]) / 2
    return torch.cat([centre - half, centre + half], dim=1)
