"""Faster R-CNN on a feature pyramid, the detector of DetNet's tables."""

from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor
from torchvision.models.detection.generalized_rcnn import GeneralizedRCNN

from detnet.backbones.base import Backbone
from detnet.backbones.norm import NormKind
from detnet.backbones.stages import scale_channels
from detnet.detectors.base import Detector, PostProcessor
from detnet.detectors.fpn import PyramidNet
from detnet.detectors.heads import BINS, BoxOptions, RegionHeads, box_head, region_heads
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.proposals import ProposalNetwork, ProposalOptions
from detnet.detectors.roi import LevelPooler, level_pooler
from detnet.errors import InputError


class RegionDetector(Detector, GeneralizedRCNN):
    """A two-stage detector in torchvision's form."""

    class_layers: ClassVar[tuple[str, ...]] = ("roi_heads.box_predictor.",)
    weight_options: ClassVar[tuple[str, ...]] = ("anchor_strides",)
    export_class: ClassVar[str] = "detnet.detectors.export.regions:RegionForm"

    rpn: Any
    roi_heads: Any

    @property
    def post_processor(self) -> PostProcessor:
        heads: PostProcessor = self.roi_heads
        return heads

    @property
    def regions(self) -> int:
        return int(self.rpn.regions)

    def limit_regions(self, count: int) -> None:
        self.rpn.limit(count)

    def run_layers(self, images: Tensor) -> None:
        features = self.backbone(images)
        self.rpn.run_layers(features)
        self.roi_heads.run_layers(features, self.regions)


class FasterRCNNFPN(RegionDetector):
    """Faster R-CNN on a feature pyramid, the detector of DetNet's tables.

    It stands on the pyramid P2 … P6, and on what a backbone has after that.

    DetNet's P2 … P6 are its five stages; a ResNet's P6 is pooled from P5. Anchors of 32 … 512
    pixels sit on P2 … P6, one size a level, also where levels have the same stride. The pyramid
    and the heads are scaled by the backbone's width.

    Attributes:
        heads_class: what judges regions; a subclass with a loss of its own overrides `box_losses`.

    Args:
        backbone: with levels from `c2` on.
        num_classes: background counted.
        images: what the network expects of its input.
        proposals: of the first stage.
        boxes: of the second stage.
        pyramid_norm: of the pyramid's convolutions; DetNAS synchronises it.
        neck: what makes the pyramid, see `detnet.detectors.fpn.NECKS`.

    Raises:
        InputError: regions are pooled from more levels than there are.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.1; Lin et al. 2017, arXiv:1612.03144.
    """

    heads_class: ClassVar[type[RegionHeads]] = RegionHeads

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        proposals: ProposalOptions,
        boxes: BoxOptions,
        pyramid_norm: NormKind | None = None,
        neck: str = "fpn",
    ) -> None:
        body = PyramidNet(backbone, finest=2, coarsest=6, norm=pyramid_norm, neck=neck)
        levels = body.feature_info
        if boxes.roi_levels > len(levels):
            raise InputError(
                f"roi_levels must lie in 1 … {len(levels)}, {levels[0].name} to {levels[-1].name}, "
                f"got {boxes.roi_levels}"
            )
        heads = self.box_heads(
            boxes,
            num_classes,
            pooler=level_pooler(levels, boxes, output_size=BINS),
            channels=(body.out_channels, scale_channels(1024, backbone.width)),
        )
        rpn = ProposalNetwork(body.out_channels, body.feature_info, proposals)
        super().__init__(body, rpn, heads, ImageTransform(images))
        self.add_branches(num_classes, boxes)

    def box_heads(
        self,
        boxes: BoxOptions,
        num_classes: int,
        *,
        pooler: LevelPooler,
        channels: tuple[int, int],
    ) -> RegionHeads:
        """Makes what judges regions.

        Args:
            pooler: of regions from the pyramid.
            channels: of the pyramid, and of what a box head puts out.
        """
        return region_heads(
            self.heads_class,
            boxes,
            pooler=pooler,
            head=box_head(boxes, *channels),
            channels=channels[1],
            num_classes=num_classes,
            init=boxes.head_init,
        )

    def count_by_level(self, sizes: Tensor) -> dict[str, int]:
        """Counts the regions of these sizes that are pooled from each level."""
        pooler = self.roi_heads.box_roi_pool
        counts = pooler.map_levels([F.pad(sizes, (2, 0))]).bincount(minlength=len(pooler.scales))
        return dict(zip(pooler.featmap_names, counts.tolist(), strict=True))

    def add_branches(self, num_classes: int, boxes: BoxOptions) -> None:
        """Adds what the region heads find besides boxes; here nothing."""
