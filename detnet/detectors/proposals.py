"""The region proposal network, its proposals pooled over levels as DetNet's paper has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import boxes as box_ops

from detnet.backbones.base import FeatureInfo
from detnet.detectors.anchors import AnchorStrides, ExactAnchors, require_strides
from detnet.detectors.last_layers import keep_precise
from detnet.errors import InputError

ANCHOR_SIZES = (32, 64, 128, 256, 512)
ASPECT_RATIOS = (0.5, 1.0, 2.0)


@dataclass(frozen=True)
class ProposalOptions:
    """How many proposals an image gets, and how they are chosen.

    Args:
        proposals: "pooled" takes the best of all levels and suppresses across them (the paper's
            text), "per_level" takes the best of each level and suppresses within it (Detectron).
        pre_nms_train, pre_nms_test: before suppression, per image or per level.
        post_nms_train, post_nms_test: after it, per image.
        rpn_batch: anchors that an image's losses are taken over, half of them positive.
        anchor_strides: "fixed" lays anchors a level's stride apart (Detectron), "torchvision" its
            padded side over its cells, rounded down, which other sizes of images move.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.1.
    """

    proposals: Literal["pooled", "per_level"] = "pooled"
    pre_nms_train: int = 12000
    pre_nms_test: int = 6000
    post_nms_train: int = 2000
    post_nms_test: int = 1000
    rpn_batch: int = 256
    anchor_strides: AnchorStrides = "fixed"

    def __post_init__(self) -> None:
        if self.proposals not in ("pooled", "per_level"):
            raise InputError(f"proposals must be 'pooled' or 'per_level', got {self.proposals!r}")
        require_strides(self.anchor_strides)


class Float32RPNHead(RPNHead):
    """torchvision's head, whose last layers are fp32 under autocast."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__(channels, anchors)
        keep_precise(self.cls_logits, self.bbox_pred)


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's region proposal network with a choice of how proposals are pooled.

    Args:
        channels: of the pyramid.
        levels: of the pyramid; anchors of 32, 64 … pixels, one size a level.
        options: see `ProposalOptions`.
    """

    def __init__(
        self, channels: int, levels: Sequence[FeatureInfo], options: ProposalOptions
    ) -> None:
        anchors = ExactAnchors(
            [[size] for size in ANCHOR_SIZES[: len(levels)]],
            [ASPECT_RATIOS] * len(levels),
            levels=levels if options.anchor_strides == "fixed" else None,
        )
        super().__init__(
            anchors,
            Float32RPNHead(channels, len(ASPECT_RATIOS)),
            fg_iou_thresh=0.7,
            bg_iou_thresh=0.3,
            batch_size_per_image=options.rpn_batch,
            positive_fraction=0.5,
            pre_nms_top_n={"training": options.pre_nms_train, "testing": options.pre_nms_test},
            post_nms_top_n={"training": options.post_nms_train, "testing": options.post_nms_test},
            nms_thresh=0.7,
        )
        self.pooled = options.proposals == "pooled"

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gives labels 1, 0 and -1 and matched boxes, in the precision of the anchors."""
        # torchvision's labels are fp32, and cross-entropy then rounds fp64 logits to them.
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        dtype = anchors[0].dtype
        return [label.to(dtype) for label in labels], [box.to(dtype) for box in boxes]

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Keeps each image's best proposals: boxes (R, 4) xyxy and their probabilities (R,)."""
        if not self.pooled:
            return super().filter_proposals(
                proposals, objectness, image_shapes, num_anchors_per_level
            )
        scores = objectness.detach().reshape(proposals.shape[0], -1)
        top_scores, top = scores.topk(min(self.pre_nms_top_n(), scores.shape[1]), dim=1)
        kept_boxes, kept_scores = [], []
        for image, shape in enumerate(image_shapes):
            boxes = box_ops.clip_boxes_to_image(proposals[image, top[image]], shape)
            large = box_ops.remove_small_boxes(boxes, self.min_size)
            boxes, probabilities = boxes[large], torch.sigmoid(top_scores[image, large])
            keep = box_ops.nms(boxes, probabilities, self.nms_thresh)[: self.post_nms_top_n()]
            kept_boxes.append(boxes[keep])
            kept_scores.append(probabilities[keep])
        return kept_boxes, kept_scores
