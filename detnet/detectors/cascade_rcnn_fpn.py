"""Cascade R-CNN on a feature pyramid: three box stages, each with a higher overlap than before."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection._utils import BoxCoder, Matcher
from torchvision.ops import box_iou, clip_boxes_to_image

from detnet.backbones.base import Backbone
from detnet.detectors.base import Detection, keep_precise
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.detectors.heads import (
    BoxOptions,
    RegionHeads,
    RegionOptions,
    Sizes,
    Targets,
    box_head,
    box_losses,
    draw_as_detectron,
)
from detnet.detectors.roi import LevelPooler
from detnet.errors import InputError

# What offsets are multiplied with in the first stage; a later one, whose boxes are nearer, takes
# twice and three times that.
_BOX_WEIGHTS = (10.0, 10.0, 5.0, 5.0)


class AgnosticPredictor(nn.Module):
    """Two linear layers: scores of all classes, and four offsets that the classes share.

    Args:
        channels: of the input.
        num_classes: background counted.
    """

    def __init__(self, channels: int, num_classes: int) -> None:
        super().__init__()
        self.cls_score = nn.Linear(channels, num_classes)
        self.bbox_pred = nn.Linear(channels, 4)
        keep_precise(self.cls_score, self.bbox_pred)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (R, channels) to logits (R, K), background first, and offsets (R, 4), in fp32."""
        return self.cls_score(x), self.bbox_pred(x)


class CascadeHeads(RegionHeads):
    """Stages that match, classify and move boxes in turn.

    Regions are sampled once, before the first stage; every later one takes all of them as the
    stage before has moved them. In evaluation the scores are the average of all stages' on the last
    stage's regions, the boxes are the last stage's.

    Args:
        heads: one for each stage, (R, C, H, W) -> (R, channels).
        predictors: one for each stage, see `AgnosticPredictor`.
        ious: for each stage, what a box must overlap an object with to be one.
        loss_weights: factors on each stage's losses.
        options, parts: what `RegionHeads` takes.

    Paper: Cai & Vasconcelos 2017, arXiv:1712.00726, Section 4 and Table 2.
    """

    def __init__(
        self,
        heads: Sequence[nn.Module],
        predictors: Sequence[nn.Module],
        *,
        ious: Sequence[float],
        loss_weights: Sequence[float],
        options: RegionOptions,
        **parts: Any,
    ) -> None:
        weights = [[value * (stage + 1) for value in _BOX_WEIGHTS] for stage in range(len(ious))]
        super().__init__(
            options,
            box_head=nn.ModuleList(heads),
            box_predictor=nn.ModuleList(predictors),
            fg_iou_thresh=ious[0],
            bg_iou_thresh=ious[0],
            bbox_reg_weights=tuple(weights[-1]),  # of the boxes that are given out
            **parts,
        )
        self.matchers = [Matcher(iou, iou, allow_low_quality_matches=False) for iou in ious]
        self.coders = [BoxCoder(tuple(each)) for each in weights]
        self.loss_weights = tuple(loss_weights)

    def losses(
        self, features: dict[str, Tensor], proposals: list[Tensor], shapes: Sizes, targets: Targets
    ) -> dict[str, Tensor]:
        """Gives every stage's losses, `_1` … at the end of their names."""
        boxes = self.select_training_samples(proposals, targets)[0]
        losses: dict[str, Tensor] = {}
        for stage, weight in enumerate(self.loss_weights):
            labels, aims = self.match(stage, boxes, targets)
            pooled = self.box_roi_pool(features, boxes, shapes)
            logits, deltas = self.predict(stage, pooled)
            # The loss picks a class's offsets: here they are the same for all.
            every_class = deltas.repeat(1, logits.shape[1])
            found = box_losses(logits, every_class, labels, aims, beta=self.box_loss_beta)
            losses |= {f"{name}_{stage + 1}": loss * weight for name, loss in found.items()}
            boxes = self.move(stage, deltas, boxes, shapes)
        return losses

    def predict(self, stage: int, pooled: Tensor) -> tuple[Tensor, Tensor]:
        """Gives a stage's logits (R, K) and offsets (R, 4) of pooled regions."""
        return self.box_predictor[stage](self.box_head[stage](pooled))

    def run_box_layers(self, features: dict[str, Tensor], regions: int) -> None:
        pooled = self.box_roi_pool.empty(features, regions)
        stages = range(len(self.loss_weights))
        for stage in (*stages[:-1], *stages):  # once to move the boxes, once to score the last
            self.predict(stage, pooled)

    def match(
        self, stage: int, boxes: list[Tensor], targets: list[dict[str, Tensor]]
    ) -> tuple[list[Tensor], list[Tensor]]:
        """Labels boxes by a stage's overlap, and encodes the way to the objects.

        Returns:
            For each image (L,) labels, 0 for background, and (L, 4) offsets, which mean nothing for
            background.
        """
        labels, objects = [], []
        for own, target in zip(boxes, targets, strict=True):
            if not len(target["boxes"]):
                labels.append(torch.zeros(len(own), dtype=torch.int64, device=own.device))
                objects.append(own)
                continue
            real = target["boxes"].to(own.dtype)
            found = self.matchers[stage](box_iou(real, own))
            nearest = found.clamp(min=0)
            labels.append(torch.where(found >= 0, target["labels"][nearest], 0))
            objects.append(real[nearest])
        return labels, list(self.coders[stage].encode(objects, boxes))

    def move(self, stage: int, deltas: Tensor, boxes: list[Tensor], shapes: Sizes) -> list[Tensor]:
        """Applies a stage's offsets, and keeps the boxes within their images."""
        moved = self.coders[stage].decode(deltas.detach(), boxes).reshape(-1, 4)
        parts = moved.split([len(own) for own in boxes])
        return [clip_boxes_to_image(p, shape) for p, shape in zip(parts, shapes, strict=True)]

    def detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], shapes: Sizes
    ) -> list[Detection]:
        """Gives what is found in each image; see `forward`."""
        last = len(self.loss_weights) - 1
        regions = proposals
        for stage in range(last):
            _, deltas = self.predict(stage, self.box_roi_pool(features, regions, shapes))
            regions = self.move(stage, deltas, regions, shapes)
        pooled = self.box_roi_pool(features, regions, shapes)
        predicted_by_stage = [self.predict(stage, pooled) for stage in range(last + 1)]
        average = torch.stack([logits.softmax(1) for logits, _ in predicted_by_stage]).mean(0)
        # The softmax of what follows undoes the logarithm.
        return self.detections(average.log(), predicted_by_stage[last][1], regions, shapes)


@dataclass(frozen=True)
class CascadeOptions:
    """The stages of the cascade.

    Args:
        stage_ious: for each stage, what a box must overlap an object with to be one.
        stage_loss_weights: factors on each stage's losses; the authors' release's.

    Raises:
        InputError: overlaps that do not rise, or another number of weights.
    """

    stage_ious: tuple[float, ...] = (0.5, 0.6, 0.7)
    stage_loss_weights: tuple[float, ...] = (1.0, 0.5, 0.25)

    def __post_init__(self) -> None:
        ious = list(self.stage_ious)
        if not ious or ious != sorted(ious) or not 0 < ious[0] <= ious[-1] < 1:
            raise InputError(f"stage_ious must rise within 0 … 1, got {ious}")
        if len(self.stage_loss_weights) != len(ious) or min(self.stage_loss_weights) <= 0:
            raise InputError(
                f"stage_loss_weights must be {len(ious)} positive numbers, one a stage, got "
                f"{list(self.stage_loss_weights)}"
            )


class CascadeRCNNFPN(FasterRCNNFPN):
    """Cascade R-CNN on a feature pyramid: three box stages, each with a higher overlap than before.

    It is `faster_rcnn_fpn` with a cascade of box stages instead of one.

    Every stage pools its regions again, from the level that the box has grown or shrunk to; offsets
    are the same for all classes. The pyramid is the same as there, DetNet's P2 … P6 too.

    Args:
        backbone: with levels from `c2` on.
        num_classes: background counted.
        cascade: what differs between the box stages.
        others: what `FasterRCNNFPN` takes; `boxes` is of every box stage.

    Paper: Cai & Vasconcelos 2017, arXiv:1712.00726; Li et al. 2018, arXiv:1804.06215, Section 4.1.
    """

    export_class = "detnet.detectors.export.regions:CascadeForm"

    def __init__(
        self, backbone: Backbone, num_classes: int, *, cascade: CascadeOptions, **others: Any
    ) -> None:
        self.cascade = cascade
        super().__init__(backbone, num_classes, **others)

    def box_heads(
        self,
        boxes: BoxOptions,
        num_classes: int,
        *,
        pooler: LevelPooler,
        channels: tuple[int, int],
    ) -> CascadeHeads:
        """Makes the stages that judge regions."""
        stages = range(len(self.cascade.stage_ious))
        heads = CascadeHeads(
            [box_head(boxes, *channels) for _ in stages],
            [AgnosticPredictor(channels[1], num_classes) for _ in stages],
            ious=self.cascade.stage_ious,
            loss_weights=self.cascade.stage_loss_weights,
            options=boxes,
            box_roi_pool=pooler,
        )
        if boxes.head_init == "detectron":
            for head, predictor in zip(heads.box_head, heads.box_predictor, strict=True):
                draw_as_detectron(head, predictor)
        return heads
