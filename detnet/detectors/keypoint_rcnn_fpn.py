"""Keypoint R-CNN on a feature pyramid: boxes, and where each object has its named points."""

from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor

from detnet.backbones.base import Backbone
from detnet.backbones.norm import NormKind
from detnet.backbones.stages import scale_channels
from detnet.detectors.base import keep_precise
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.detectors.heads import BoxOptions
from detnet.detectors.images import ImageOptions
from detnet.detectors.proposals import ProposalOptions
from detnet.detectors.roi import level_pooler
from detnet.errors import InputError

_CONVS = 8


class KeypointRCNNFPN(FasterRCNNFPN):
    """Keypoint R-CNN on a feature pyramid: boxes, and where each object has its named points.

    It is `faster_rcnn_fpn` with a keypoint branch: eight 3×3 convolutions, up-sampling, one
    heatmap of 56×56 a keypoint.

    In training a target holds `keypoints` (N, num_keypoints, 3) as well: x and y in pixels of the
    image, measured as boxes are, and the visibility, above 0 where the place is known; objects
    whose places are all unknown count as boxes only. Detections gain `keypoints` of that form,
    visibility always 1, and `keypoints_scores` (N, num_keypoints), the heatmaps' logits there.
    Regions are pooled from the levels that boxes are pooled from, chosen by size and order, so that
    DetNet's P4 and P5 of one stride stay apart.

    Args:
        backbone: with levels from `c2` on.
        num_classes: background counted; all classes share the heatmaps.
        images: what the network expects of its input.
        proposals: of the first stage.
        boxes: of the second stage.
        pyramid_norm: of the pyramid's convolutions.
        num_keypoints: how many heatmaps; training takes what the data set names.

    Raises:
        InputError: no keypoints.

    Paper: He et al. 2017, arXiv:1703.06870, Section 5; Li et al. 2018, arXiv:1804.06215, names the
    task and measures none of it.
    """

    targets = ("boxes", "keypoints")
    # Which keypoints there are is the categories' to say.
    class_layers = (*FasterRCNNFPN.class_layers, "roi_heads.keypoint_predictor.")

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        proposals: ProposalOptions,
        boxes: BoxOptions,
        pyramid_norm: NormKind | None = None,
        num_keypoints: int = 17,
    ) -> None:
        if num_keypoints < 1:
            raise InputError(f"num_keypoints must be 1 or more, got {num_keypoints}")
        super().__init__(
            backbone,
            num_classes,
            images=images,
            proposals=proposals,
            boxes=boxes,
            pyramid_norm=pyramid_norm,
        )
        heads, levels = self.roi_heads, self.head_levels[: boxes.roi_levels]
        channels = scale_channels(512, backbone.width)
        heads.keypoint_roi_pool = level_pooler(levels, output_size=14)
        heads.keypoint_head = KeypointRCNNHeads(self.backbone.out_channels, [channels] * _CONVS)
        heads.keypoint_predictor = KeypointRCNNPredictor(channels, num_keypoints)
        keep_precise(heads.keypoint_predictor.kps_score_lowres)
