"""The region proposal network, its proposals pooled over levels as DetNet's paper has it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor
from torchvision.models.detection.rpn import RegionProposalNetwork, RPNHead
from torchvision.ops import boxes as box_ops

from detnet.backbones.base import FeatureInfo
from detnet.detectors.anchors import (
    AnchorStrides,
    ExactAnchors,
    one_size_a_level,
    require_sizes,
)
from detnet.detectors.base import keep_precise
from detnet.errors import InputError
from detnet.kinds import require_positive

ANCHOR_SIZES = (32, 64, 128, 256, 512)
ASPECT_RATIOS = (0.5, 1.0, 2.0)
_BEFORE_SUPPRESSION = 6  # boxes for each proposal that is left, as in DetNet's 6000 and 1000


@dataclass(frozen=True)
class ProposalOptions:
    """How many proposals an image gets, and how they are chosen.

    Args:
        proposals: "pooled" takes the best of all levels and suppresses across them (the paper's
            text), "per_level" takes the best of each level and suppresses within it (Detectron).
        pre_nms_train, pre_nms_test: before suppression, per image or per level.
        post_nms_train, post_nms_test: after it, per image.
        rpn_batch: anchors that an image's losses are taken over, half of them positive.
        anchor_sizes: sides in pixels of the square anchors, each with three aspect ratios; one a
            level on a pyramid, fine to coarse, and all of them on a single level.
        anchor_strides: "fixed" lays anchors a level's stride apart (Detectron), "torchvision" its
            padded side over its cells, rounded down, which other sizes of images move.
        rpn_straddle: pixels by which an anchor may reach over the image's border and still be
            learned from, Detectron's 0; None learns from all.
        post_nms_images: how many images of a process's batch share post_nms_train, their surest
            proposals together; Detectron's are the 2 of a device.

    Raises:
        InputError: a number is out of range.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.1.
    """

    proposals: Literal["pooled", "per_level"] = "pooled"
    pre_nms_train: int = 12000
    pre_nms_test: int = 6000
    post_nms_train: int = 2000
    post_nms_test: int = 1000
    rpn_batch: int = 256
    anchor_sizes: tuple[int, ...] = ANCHOR_SIZES
    anchor_strides: AnchorStrides = "fixed"
    rpn_straddle: float | None = None
    post_nms_images: int = 1

    def __post_init__(self) -> None:
        require_sizes(self.anchor_sizes)
        if self.rpn_straddle is not None and not self.rpn_straddle >= 0:
            raise InputError(f"rpn_straddle must be 0 pixels or more, got {self.rpn_straddle}")
        require_positive(self, "pre_nms_train", "pre_nms_test", "post_nms_train", "post_nms_test")
        require_positive(self, "rpn_batch", "post_nms_images")


class Float32RPNHead(RPNHead):
    """torchvision's head, whose last layers are fp32 under autocast."""

    def __init__(self, channels: int, anchors: int) -> None:
        super().__init__(channels, anchors)
        keep_precise(self.cls_logits, self.bbox_pred)


class ProposalNetwork(RegionProposalNetwork):
    """torchvision's region proposal network with a choice of how proposals are pooled.

    Args:
        channels: of the pyramid.
        levels: of the pyramid; one of the anchors' sizes a level.
        options: see `ProposalOptions`.

    Raises:
        InputError: levels and sizes differ in number.
    """

    def __init__(
        self, channels: int, levels: Sequence[FeatureInfo], options: ProposalOptions
    ) -> None:
        anchors = ExactAnchors(
            one_size_a_level(options.anchor_sizes, levels),
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
        self.straddle = options.rpn_straddle
        self.images_together = options.post_nms_images

    @property
    def regions(self) -> int:
        """Proposals of an image in evaluation."""
        return int(self._post_nms_top_n["testing"])

    def limit(self, count: int) -> None:
        """Gives at most so many proposals in evaluation; training is left as it is."""
        limits = (
            (self._pre_nms_top_n, count * _BEFORE_SUPPRESSION),
            (self._post_nms_top_n, count),
        )
        for numbers, limit in limits:
            numbers["testing"] = min(numbers["testing"], limit)

    def run_layers(self, features: dict[str, Tensor]) -> None:
        """Runs all layers, for their multiply-adds to be counted."""
        self.head(list(features.values()))

    def forward(
        self,
        images: Any,
        features: dict[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Gives each image's proposals (R, 4) xyxy, and in training the losses."""
        if targets is not None and self.straddle is not None:
            sizes = [torch.tensor(size) for size in images.image_sizes]
            pairs = zip(targets, sizes, strict=True)
            targets = [{**target, "image_size": size} for target, size in pairs]
        return super().forward(images, features, targets)

    def assign_targets_to_anchors(
        self, anchors: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Gives labels 1, 0 and -1 and matched boxes, in the precision of the anchors."""
        if self.straddle is None:
            labels, boxes = super().assign_targets_to_anchors(anchors, targets)
        else:
            found = [
                self._assign_within(own, target)
                for own, target in zip(anchors, targets, strict=True)
            ]
            labels, boxes = [label for label, _ in found], [box for _, box in found]
        # torchvision's labels are fp32, and cross-entropy then rounds fp64 logits to them.
        dtype = anchors[0].dtype
        return [label.to(dtype) for label in labels], [box.to(dtype) for box in boxes]

    def _assign_within(self, anchors: Tensor, target: dict[str, Tensor]) -> tuple[Tensor, Tensor]:
        """Labels one image's anchors: those over its border are -1, the others share the objects.

        Also the best anchor of an object, positive however small their overlap, is sought among
        those inside; one that does not touch the object at all stays background.
        """
        assert self.straddle is not None  # asked by the caller
        labels, boxes = anchors.new_full((len(anchors),), -1.0), anchors.clone()
        inside = _within(anchors, target["image_size"].tolist(), self.straddle)
        if len(inside):
            some = anchors[inside]
            (own,), (matched,) = super().assign_targets_to_anchors([some], [target])
            low = torch.maximum(some[:, :2], matched[:, :2])
            high = torch.minimum(some[:, 2:], matched[:, 2:])
            apart = (low >= high).any(dim=1)
            labels[inside] = own.masked_fill((own > 0) & apart, 0.0).to(labels)
            boxes[inside] = matched.to(boxes)
        return labels, boxes

    def compute_loss(
        self,
        objectness: Tensor,
        pred_bbox_deltas: Tensor,
        labels: list[Tensor],
        regression_targets: list[Tensor],
    ) -> tuple[Tensor, Tensor]:
        """Averages over the anchors that are drawn; without any inside an image it is zero."""
        if self.straddle is not None and not any(bool((own >= 0).any()) for own in labels):
            return objectness.sum() * 0, pred_bbox_deltas.sum() * 0
        return super().compute_loss(objectness, pred_bbox_deltas, labels, regression_targets)

    def filter_proposals(
        self,
        proposals: Tensor,
        objectness: Tensor,
        image_shapes: list[tuple[int, int]],
        num_anchors_per_level: list[int],
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Keeps each image's best proposals: boxes (R, 4) xyxy and their probabilities (R,)."""
        if self.pooled:
            boxes, scores = self._pooled(proposals, objectness, image_shapes)
        else:
            boxes, scores = super().filter_proposals(
                proposals, objectness, image_shapes, num_anchors_per_level
            )
        if self.training and self.images_together > 1:
            return _best_together(boxes, scores, self.images_together, self.post_nms_top_n())
        return boxes, scores

    def _pooled(
        self, proposals: Tensor, objectness: Tensor, image_shapes: list[tuple[int, int]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        scores = objectness.detach().reshape(proposals.shape[0], -1)
        top_scores, top = scores.topk(min(self.pre_nms_top_n(), scores.shape[1]), dim=1)
        kept_boxes, kept_scores = [], []
        for image, shape in enumerate(image_shapes):
            boxes = box_ops.clip_boxes_to_image(proposals[image, top[image]], shape)
            large = box_ops.remove_small_boxes(boxes, self.min_size)
            boxes, probabilities = boxes[large], torch.sigmoid(top_scores[image, large])
            keep = _suppress(boxes, probabilities, self.nms_thresh, self.post_nms_top_n())
            kept_boxes.append(boxes[keep])
            kept_scores.append(probabilities[keep])
        return kept_boxes, kept_scores


def _suppress(boxes: Tensor, scores: Tensor, overlap: float, count: int) -> Tensor:
    """Gives the first `count` indices that suppression leaves of boxes in falling order of score.

    Whether a box stays is decided by surer ones alone. A processor's time grows with those left
    times all, so it looks at the surest first, and at twice as many while too few of them are left.
    """
    looked = len(boxes) if boxes.device.type != "cpu" else 2 * count
    while True:
        keep = box_ops.nms(boxes[:looked], scores[:looked], overlap)
        if len(keep) >= count or looked >= len(boxes):
            return keep[:count]
        looked *= 2


def _within(anchors: Tensor, size: Sequence[int], straddle: float) -> Tensor:
    """Indices of the anchors that stay in an image of this height and width, or nearly."""
    height, width = size
    low = (anchors[:, :2] >= -straddle).all(dim=1)
    high = (anchors[:, 2] <= width + straddle) & (anchors[:, 3] <= height + straddle)
    return (low & high).nonzero().squeeze(1)


def _best_together(
    boxes: list[Tensor], scores: list[Tensor], images: int, count: int
) -> tuple[list[Tensor], list[Tensor]]:
    """Keeps the `count` surest proposals of every so many images together, in their order."""
    kept: list[Tensor] = []
    for first in range(0, len(scores), images):
        group = scores[first : first + images]
        together = torch.cat(group)
        best = torch.zeros_like(together, dtype=torch.bool)
        best[together.topk(min(count, len(together))).indices] = True
        kept += best.split([len(own) for own in group])
    return (
        [box[best] for box, best in zip(boxes, kept, strict=True)],
        [score[best] for score, best in zip(scores, kept, strict=True)],
    )
