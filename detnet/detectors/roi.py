"""Which pyramid level each RoI is pooled from, and the pooling."""

from collections.abc import Mapping, Sequence

import torchvision
from torch import Tensor
from torchvision.ops.poolers import LevelMapper

from detnet.detectors.roi_align import as_rois, pool_levels, sparse_product_fits


class LevelPooler(torchvision.ops.MultiScaleRoIAlign):
    """RoIAlign over a pyramid whose levels are counted, not derived from their strides.

    torchvision's own works out levels from feature shapes and strides, so with DetNet's P4, P5 and
    P6 all at stride 16 the last two silently never receive a RoI. Here strides only scale boxes.

    Args:
        featmap_names: names of the levels to pool from, fine to coarse.
        strides: stride of each of them, in pixels of the network's input.
        output_size: bins down and across.
        sampling_ratio: sampling points of a bin, down and across.
        finest: number of the first level, 2 for P2.
        canonical_size: side in pixels of the box that P4 serves.

    Raises:
        ValueError: not one stride for each level.

    Paper: Lin et al. 2017, arXiv:1612.03144, Eq. 1; Li et al. 2018, arXiv:1804.06215, Section 3.
    """

    def __init__(
        self,
        featmap_names: list[str],
        strides: Sequence[int],
        *,
        output_size: int,
        sampling_ratio: int = 2,
        finest: int = 2,
        canonical_size: int = 224,
    ) -> None:
        if len(featmap_names) != len(strides):
            raise ValueError(f"{len(featmap_names)} levels {featmap_names} but strides {strides}")
        super().__init__(featmap_names, output_size, sampling_ratio, canonical_scale=canonical_size)
        self.scales = [1 / stride for stride in strides]
        self.map_levels = LevelMapper(finest, finest + len(strides) - 1, canonical_size)

    def restride(self, strides: Mapping[str, int]) -> None:
        """Takes other strides for the levels of these names, as another path of a supernet has."""
        self.scales = [1 / strides[name] for name in self.featmap_names]

    def empty(self, features: dict[str, Tensor], count: int) -> Tensor:
        """Regions of the shape that pooling gives, (count, C, bins, bins), of no values."""
        level = features[self.featmap_names[0]]
        return level.new_empty(count, level.shape[1], *self.output_size)

    def forward(
        self, x: dict[str, Tensor], boxes: list[Tensor], image_shapes: list[tuple[int, int]]
    ) -> Tensor:
        """Pools the boxes of all images.

        Args:
            x: the pyramid, (N, C, H, W) each; levels that are not pooled from may be there too.
            boxes: (L, 4) xyxy for each image, pixels of the network's input; may be empty.
            image_shapes: not needed here, torchvision's heads hand it over.

        Returns:
            (R, C, output_size, output_size), in the order of the boxes, R over all images.
        """
        features = [x[name] for name in self.featmap_names]
        if not sparse_product_fits(features[0], self.sampling_ratio):
            levels = dict(zip(self.featmap_names, features, strict=True))
            return super().forward(levels, boxes, image_shapes)
        rois = as_rois(boxes)
        # A box that is NaN has no level; torchvision pools zeros from it, and so does level 0.
        levels = self.map_levels(boxes).clamp(0, len(features) - 1)
        return pool_levels(
            features, rois, levels, self.scales, self.output_size, self.sampling_ratio
        )
