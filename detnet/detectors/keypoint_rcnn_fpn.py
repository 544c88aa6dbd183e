"""Keypoint R-CNN on a feature pyramid: boxes, and where each object has its named points."""

from typing import Any

from torchvision.models.detection.keypoint_rcnn import KeypointRCNNHeads, KeypointRCNNPredictor

from detnet.backbones.base import Backbone
from detnet.backbones.stages import scale_channels
from detnet.detectors.base import keep_precise
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.detectors.heads import BoxOptions
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
        num_keypoints: how many heatmaps; training takes what the data set names.
        others: what `FasterRCNNFPN` takes.

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
        num_keypoints: int = 17,
        **others: Any,
    ) -> None:
        if num_keypoints < 1:
            raise InputError(f"num_keypoints must be 1 or more, got {num_keypoints}")
        self.num_keypoints = num_keypoints
        super().__init__(backbone, num_classes, **others)

    def add_branches(self, num_classes: int, boxes: BoxOptions) -> None:
        """Adds the keypoint branch."""
        body, heads = self.backbone, self.roi_heads
        channels = scale_channels(512, body.backbone.width)
        heads.keypoint_roi_pool = level_pooler(body.feature_info, boxes, output_size=14)
        heads.keypoint_head = KeypointRCNNHeads(body.out_channels, [channels] * _CONVS)
        heads.keypoint_predictor = KeypointRCNNPredictor(channels, self.num_keypoints)
        keep_precise(heads.keypoint_predictor.kps_score_lowres)
