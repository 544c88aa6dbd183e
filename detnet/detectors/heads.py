"""What is done to each region: box heads, predictors, and their losses."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import (
    FastRCNNConvFCHead,
    FastRCNNPredictor,
    TwoMLPHead,
)
from torchvision.models.detection.roi_heads import (
    RoIHeads,
    keypointrcnn_inference,
    keypointrcnn_loss,
    maskrcnn_inference,
    maskrcnn_loss,
)

from detnet.backbones.norm import NormKind, make_norm
from detnet.detectors.base import Detection, PostProcessor, keep_precise
from detnet.detectors.roi import CANONICAL_SIZE
from detnet.kinds import require_not_negative, require_positive, require_shares

BINS = 7  # across a region, as box heads see it
Sizes = list[tuple[int, int]]  # height and width of each image
Targets = list[dict[str, Tensor]]  # of each image


@dataclass(frozen=True)
class RegionOptions:
    """How many regions are learned from, and what is given out; Detectron's numbers.

    Args:
        roi_batch: regions that an image's losses are taken over, a quarter of them positive.
        box_loss_beta: where the smooth L1 loss turns linear; Detectron's 1, torchvision's 1/9.
        score_threshold, nms_threshold, max_detections: of the detections given out, per image.

    Raises:
        InputError: a number is out of range.
    """

    roi_batch: int = 512
    box_loss_beta: float = 1.0
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100

    def __post_init__(self) -> None:
        require_positive(self, "roi_batch", "max_detections")
        require_not_negative(self, "box_loss_beta")
        require_shares(self, "score_threshold", "nms_threshold")


@dataclass(frozen=True)
class BoxOptions(RegionOptions):
    """How regions of a pyramid are judged; the paper leaves it unsaid.

    Args:
        box_head: "2fc", or "4conv1fc" as DetNAS has it.
        head_norm: of the 4conv1fc head; DetNAS synchronises it.
        roi_levels: how many pyramid levels regions are pooled from, 4 for P2-P5 or 5 for P2-P6.
        roi_canonical_size: side in pixels of the square from which on a region is pooled from P4;
            FPN's 224 is for images of 800 pixels, smaller ones want it smaller.
        head_init: how linear layers are drawn, "torch" as torch does, or "detectron", see
            `draw_as_detectron`.

    Raises:
        InputError: a number is out of range.
    """

    box_head: Literal["2fc", "4conv1fc"] = "2fc"
    head_norm: NormKind = "sync"
    roi_levels: int = 4
    roi_canonical_size: int = CANONICAL_SIZE
    head_init: Literal["torch", "detectron"] = "torch"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "roi_levels", "roi_canonical_size")


def box_head(
    options: Any, channels: int, head_channels: int, *, conv_channels: int | None = None
) -> nn.Module:
    """Makes the network that maps (R, channels, BINS, BINS) regions to (R, head_channels).

    Args:
        options: `box_head`, "2fc" or "4conv1fc", and `head_norm`.
        conv_channels: of the convolutions, `channels` by default.

    Paper: Lin et al. 2017, arXiv:1612.03144, Section 4.2 ("2fc"); Wu & He 2018, arXiv:1803.08494,
    Section 4.2 ("4conv1fc").
    """
    if options.box_head == "2fc":
        return TwoMLPHead(channels * BINS**2, head_channels)
    size, convs = (channels, BINS, BINS), [conv_channels or channels] * 4
    return FastRCNNConvFCHead(size, convs, [head_channels], make_norm(options.head_norm))


def draw_as_detectron(head: nn.Module, predictor: nn.Module) -> None:
    """Draws a box head's linear layers as Detectron does: small first outputs, biases of zero.

    Hidden layers are uniform with a variance of one over their inputs ("Xavier"), which is three
    times torch's; scores are normal with deviation 0.01, offsets with 0.001, so that at first
    all classes are alike and regions stay where they are. Convolutions are left alone.

    Args:
        head: see `box_head`.
        predictor: with linear layers `cls_score` and `bbox_pred`.
    """
    for layer in head.modules():
        if isinstance(layer, nn.Linear):
            nn.init.kaiming_uniform_(layer.weight, a=1)
            nn.init.zeros_(layer.bias)
    for name, deviation in (("cls_score", 0.01), ("bbox_pred", 0.001)):
        output = predictor.get_submodule(name)
        assert isinstance(output, nn.Linear)
        nn.init.normal_(output.weight, std=deviation)
        nn.init.zeros_(output.bias)


class Float32Predictor(FastRCNNPredictor):
    """torchvision's two linear layers, fp32 under autocast."""

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__(channels, num_classes)
        keep_precise(self.cls_score, self.bbox_pred)


class RegionHeads(PostProcessor, RoIHeads):
    """torchvision's region heads, matched and sampled as Detectron does.

    The losses are computed in fp32 whatever the features' precision, and touch every parameter even
    where no image has an object, as distributed training needs.

    Args:
        options: see `RegionOptions`.
        parts: what else torchvision's `RoIHeads` takes.
    """

    def __init__(self, options: RegionOptions, **parts: Any) -> None:
        usual = {
            "fg_iou_thresh": 0.5,
            "bg_iou_thresh": 0.5,
            "batch_size_per_image": options.roi_batch,
            "positive_fraction": 0.25,
            "bbox_reg_weights": None,
            "score_thresh": options.score_threshold,
            "nms_thresh": options.nms_threshold,
            "detections_per_img": options.max_detections,
        }
        super().__init__(**{**usual, **parts})
        self.box_loss_beta = options.box_loss_beta

    def forward(
        self,
        features: dict[str, Tensor],
        proposals: list[Tensor],
        image_shapes: Sizes,
        targets: Targets | None = None,
    ) -> tuple[list[Detection], dict[str, Tensor]]:
        """Gives (detections, {}) in eval mode and ([], losses) in train mode."""
        if not self.training:
            return self.detect(features, proposals, image_shapes), {}
        assert targets is not None  # the detector has refused None
        return [], self.losses(features, proposals, image_shapes, targets)

    def losses(
        self, features: dict[str, Tensor], proposals: list[Tensor], shapes: Sizes, targets: Targets
    ) -> dict[str, Tensor]:
        """Gives the losses of regions drawn among the proposals; see `forward`."""
        proposals, matches, labels, deltas = self.select_training_samples(proposals, targets)
        logits, predicted = self._judged(features, proposals, shapes)
        losses = self.box_losses(logits, predicted, labels, deltas, proposals)
        if self.has_mask():
            boxes, matched = _positive(proposals, matches, labels)
            masks, kinds = [t["masks"] for t in targets], [t["labels"] for t in targets]
            logits = self._mask_logits(features, boxes, shapes)
            losses["loss_mask"] = maskrcnn_loss(logits, boxes, masks, kinds, matched)
        if self.has_keypoint():
            boxes, matched = _positive(proposals, matches, labels)
            points = [t["keypoints"] for t in targets]
            logits = self._keypoint_logits(features, boxes, shapes)
            losses["loss_keypoint"] = keypointrcnn_loss(logits, boxes, points, matched)
        return losses

    def box_losses(
        self,
        logits: Tensor,
        deltas: Tensor,
        labels: list[Tensor],
        targets: list[Tensor],
        proposals: list[Tensor],
    ) -> dict[str, Tensor]:
        """Gives the losses of boxes and their classes, for subclasses to take others.

        Args:
            logits, deltas, labels, targets: see the function `box_losses`.
            proposals: per image, (R_i, 4) xyxy, which `box_coder` moves by offsets.
        """
        return box_losses(logits, deltas, labels, targets, beta=self.box_loss_beta)

    def detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], shapes: Sizes
    ) -> list[Detection]:
        """Gives what is found in each image; see `forward`."""
        found = self.detections(*self._judged(features, proposals, shapes), proposals, shapes)
        boxes = [each["boxes"] for each in found]
        if self.has_mask():
            logits = self._mask_logits(features, boxes, shapes)
            masks = maskrcnn_inference(logits, [each["labels"] for each in found])
            found = [{**each, "masks": m} for each, m in zip(found, masks, strict=True)]
        if self.has_keypoint():
            logits = self._keypoint_logits(features, boxes, shapes)
            points = zip(found, *keypointrcnn_inference(logits, boxes), strict=True)
            found = [{**each, "keypoints": p, "keypoints_scores": s} for each, p, s in points]
        return found

    def postprocess_detections(
        self,
        class_logits: Tensor,
        box_regression: Tensor,
        proposals: list[Tensor],
        image_shapes: list[tuple[int, int]],
    ) -> tuple[list[Tensor], list[Tensor], list[Tensor]]:
        """Gives the kept boxes, scores and labels of each image."""
        boxes, scores, labels = super().postprocess_detections(
            class_logits, box_regression, proposals, image_shapes
        )
        if self.suppress is None:
            return boxes, scores, labels
        found = [self.suppressed(*each) for each in zip(boxes, scores, labels, strict=True)]
        return (
            [each["boxes"] for each in found],
            [each["scores"] for each in found],
            [each["labels"] for each in found],
        )

    def run_layers(self, features: dict[str, Tensor], regions: int) -> None:
        """Runs all layers on so many regions, masks and keypoints on the most detections."""
        self.run_box_layers(features, regions)
        found = self.detections_per_img
        if self.has_mask():
            self.mask_predictor(self.mask_head(self.mask_roi_pool.empty(features, found)))
        if self.has_keypoint():
            pooled = self.keypoint_roi_pool.empty(features, found)
            self.keypoint_predictor(self.keypoint_head(pooled))

    def run_box_layers(self, features: dict[str, Tensor], regions: int) -> None:
        """Runs the layers that judge so many regions."""
        self.box_predictor(self.box_head(self.box_roi_pool.empty(features, regions)))

    def detections(
        self,
        logits: Tensor,
        deltas: Tensor,
        proposals: list[Tensor],
        shapes: Sizes,
    ) -> list[Detection]:
        """Gives the kept `boxes`, `labels` and `scores` of each image.

        Args:
            logits: (R, K) of all images' regions, background first.
            deltas: (R, 4 K), or (R, 4) where the classes share them.
            proposals: (R_i, 4) xyxy of each image.
            shapes: height and width of each image.
        """
        every_class = deltas.repeat(1, logits.shape[1] * 4 // deltas.shape[1])
        boxes, scores, labels = self.postprocess_detections(logits, every_class, proposals, shapes)
        return [
            {"boxes": b, "labels": k, "scores": s}
            for b, k, s in zip(boxes, labels, scores, strict=True)
        ]

    def _judged(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: Sizes
    ) -> tuple[Tensor, Tensor]:
        logits, deltas = self.box_predictor(
            self.box_head(self.box_roi_pool(features, boxes, shapes))
        )
        return logits, deltas

    def _mask_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: Sizes
    ) -> Tensor:
        pooled = self.mask_roi_pool(features, boxes, shapes)
        logits: Tensor = self.mask_predictor(self.mask_head(pooled))
        return logits

    def _keypoint_logits(
        self, features: dict[str, Tensor], boxes: list[Tensor], shapes: Sizes
    ) -> Tensor:
        pooled = self.keypoint_roi_pool(features, boxes, shapes)
        # torchvision's loss takes a view of what channels_last does not lay out side by side.
        logits: Tensor = self.keypoint_predictor(self.keypoint_head(pooled))
        return logits.contiguous()


def region_heads(
    kind: type[RegionHeads],
    options: RegionOptions,
    *,
    pooler: nn.Module,
    head: nn.Module,
    channels: int,
    num_classes: int,
    init: str,
) -> RegionHeads:
    """Makes region heads of one box head.

    Args:
        kind: of heads.
        pooler: of regions.
        head: see `box_head`.
        channels: of what it puts out.
        num_classes: background counted.
        init: how linear layers are drawn, see `BoxOptions`.
    """
    predictor = Float32Predictor(channels, num_classes)
    if init == "detectron":
        draw_as_detectron(head, predictor)
    return kind(options, box_roi_pool=pooler, box_head=head, box_predictor=predictor)


def _positive(
    proposals: list[Tensor], matches: list[Tensor], labels: list[Tensor]
) -> tuple[list[Tensor], list[Tensor]]:
    """The regions on an object, and which of its image's objects each is on."""
    positive = [(kinds > 0).nonzero().squeeze(1) for kinds in labels]
    boxes = [b[index] for b, index in zip(proposals, positive, strict=True)]
    return boxes, [m[index] for m, index in zip(matches, positive, strict=True)]


def box_losses(
    logits: Tensor, deltas: Tensor, labels: list[Tensor], targets: list[Tensor], *, beta: float
) -> dict[str, Tensor]:
    """Averages cross-entropy and smooth L1 over all sampled regions.

    Args:
        logits: (R, K), background first.
        deltas: (R, 4 K), dx, dy, dw, dh for each class in turn.
        labels: per image, (R_i,), 0 for background.
        targets: per image, (R_i, 4), offsets to the matched object.
        beta: below it the box loss is quadratic.

    Returns:
        `loss_classifier` and `loss_box_reg`, scalars; the latter is divided by R, not by the
        objects.

    Paper: Girshick 2015, arXiv:1504.08083, Equations 1-3.
    """
    label, target = torch.cat(labels), torch.cat(targets)
    positive = (label > 0).nonzero().squeeze(1)
    chosen = deltas.view(len(label), deltas.shape[1] // 4, 4)[positive, label[positive]]
    box_loss = F.smooth_l1_loss(chosen, target[positive], beta=beta, reduction="sum")
    return {
        # Summed and divided here: the mean over no regions at all would be NaN.
        "loss_classifier": F.cross_entropy(logits, label, reduction="sum") / max(1, len(label)),
        "loss_box_reg": box_loss / max(1, len(label)),
    }
