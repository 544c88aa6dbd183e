"""FCOS: one stage without anchors, every cell of P3 … P7 looks for the object that it lies in."""

import math
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torchvision.models.detection import fcos as torchvision_fcos
from torchvision.models.detection._utils import BoxLinearCoder
from torchvision.models.detection.fcos import (
    FCOSClassificationHead,
    FCOSHead,
    FCOSRegressionHead,
)

from detnet.backbones.base import Backbone
from detnet.backbones.norm import NormKind
from detnet.backbones.sync import share_of_count
from detnet.detectors.anchors import ExactAnchors
from detnet.detectors.base import Detection, OneStageDetector, keep_precise
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.retinanet import DenseOptions
from detnet.kinds import require_positive

# Pixels to the farthest side of the objects that the first level finds, and pixels that its offsets
# are told in; twice that on each next level.
FIRST_RANGE = 64.0
_UNIT = 8
_CHUNK = 256  # objects compared with all cells at once, which bounds the memory


@dataclass(frozen=True)
class FCOSOptions(DenseOptions):
    """As `DenseOptions`, with torchvision's numbers and what else FCOS knows.

    Scores are the square root of class score times centre-ness.

    Args:
        coarse_from: as there; the paper's is "p".
        score_threshold, nms_threshold: as there.
        threshold_on: what `score_threshold` is laid on, "class" for the class score alone, before
            centre-ness is multiplied in (the authors' release, at 0.05), or "score" for the square
            root of both (torchvision, at 0.2).
        center_radius: cells up to this many strides from an object's centre learn it.

    Raises:
        InputError: a number is out of range.
    """

    coarse_from: Literal["c", "p"] = "p"
    score_threshold: float = 0.05
    nms_threshold: float = 0.6
    center_radius: float = 1.5
    threshold_on: Literal["class", "score"] = "class"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "center_radius")


class Float32FCOSHead(FCOSHead):
    """torchvision's head at any width, whose last layers are fp32 under autocast.

    Args:
        channels: of the pyramid.
        classes: without background.
    """

    def __init__(self, channels: int, classes: int) -> None:
        nn.Module.__init__(self)
        # 32 groups at full width. Of two channels or more: torch refuses to normalise one value.
        norm = partial(nn.GroupNorm, math.gcd(32, channels // 2))
        self.box_coder = BoxLinearCoder(normalize_by_size=True)
        self.classification_head = FCOSClassificationHead(channels, 1, classes, norm_layer=norm)
        self.regression_head = FCOSRegressionHead(channels, 1, norm_layer=norm)
        boxes = self.regression_head
        keep_precise(self.classification_head.cls_logits, boxes.bbox_reg, boxes.bbox_ctrness)


class FCOS(OneStageDetector, torchvision_fcos.FCOS):
    """FCOS: one stage without anchors, every cell of P3 … P7 looks for the object that it lies in.

    It stands on P3 … P7, the same levels as `retinanet`.

    The five levels find objects whose farthest side is up to 64, 128, 256, 512 and any number of
    pixels away, in their order, also where they have the same stride (DetNet's P4, P5 and P6), and
    tell the four sides in units of 8, 16, 32, 64 and 128 pixels, so that the one head they share
    sees the same numbers on each. A backbone that goes on after C7 has further levels, the last of
    which finds any size. Centre sampling reaches 1.5 of the level's own strides: the number of
    cells that learn an object does not depend on its level, as on a ResNet. With a ResNet all three
    are torchvision's.

    Args:
        backbone: with levels from `c3` on.
        num_classes: background counted.
        images: what the network expects of its input.
        points: see `FCOSOptions`.
        pyramid_norm: of the pyramid's convolutions.

    Paper: Tian et al. 2019, arXiv:1904.01355. Departs from it as torchvision does: with the paper's
    later improvements (Table 3), a ReLU instead of the exponential, and points at the corners of
    cells.
    """

    weight_options = ("anchor_strides", "threshold_on")
    export_class = "detnet.detectors.export.dense:FCOSForm"

    class_thresh: float
    center_sampling_radius: float

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        points: FCOSOptions,
        pyramid_norm: NormKind | None = None,
    ) -> None:
        body = points.pyramid(backbone, pyramid_norm)
        sizes = tuple((_UNIT * 2**level,) for level in range(len(body.feature_info)))
        super().__init__(
            body,
            num_classes - 1,
            anchor_generator=ExactAnchors(
                sizes,
                ((1.0,),) * len(sizes),
                levels=body.feature_info if points.anchor_strides == "fixed" else None,
            ),
            head=Float32FCOSHead(body.out_channels, num_classes - 1),
            center_sampling_radius=points.center_radius,
            score_thresh=points.score_threshold if points.threshold_on == "score" else 0.0,
            nms_thresh=points.nms_threshold,
            detections_per_img=points.max_detections,
            topk_candidates=points.max_candidates,
        )
        by_class = points.threshold_on == "class"
        self.class_thresh = points.score_threshold if by_class else 0.0
        self.transform = ImageTransform(images)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        num_anchors_per_level: list[int],
    ) -> dict[str, Tensor]:
        """Gives `loss_classifier`, `loss_box_reg` and `loss_centerness`, per matched cell.

        Of several processes, per cell that any of them matched, as the authors' release has it.
        """
        matches = [
            self.match_cells(target["boxes"], points, num_anchors_per_level)
            for target, points in zip(targets, anchors, strict=True)
        ]
        losses = self.head.compute_loss(self.as_channels(targets), head_outputs, anchors, matches)
        count = torch.cat(matches).ge(0).sum()  # which torchvision has divided by
        factor = count.clamp(min=1) / share_of_count(count)
        return self.named({name: loss * factor for name, loss in losses.items()})

    def postprocess_detections(
        self, head_outputs: dict[str, list[Tensor]], *others: Any
    ) -> list[Detection]:
        """Gives the kept `boxes`, `scores` and `labels` 1 … K of each image."""
        if self.class_thresh > 0:
            # A score of exactly 0 passes no threshold.
            logits = [
                level.masked_fill(level.sigmoid() <= self.class_thresh, -math.inf)
                for level in head_outputs["cls_logits"]
            ]
            head_outputs = {**head_outputs, "cls_logits": logits}
        return super().postprocess_detections(head_outputs, *others)

    @property
    def range_ends(self) -> list[float]:
        """Pixels to an object's farthest side where a level ends and the next begins."""
        return [FIRST_RANGE * 2**level for level in range(len(self.head_levels) - 1)]

    def count_by_level(self, sizes: Tensor) -> dict[str, int]:
        """Counts the objects of these sizes that a cell at their centre finds on each level."""
        levels = torch.bucketize(sizes.amax(1) / 2, sizes.new_tensor(self.range_ends))
        counts = levels.bincount(minlength=len(self.head_levels)).tolist()
        return {level.name: n for level, n in zip(self.head_levels, counts, strict=True)}

    def match_cells(self, boxes: Tensor, anchors: Tensor, cells: list[int]) -> Tensor:
        """Chooses the object that each cell is to find: the smallest of those it may.

        A cell may find an object that it lies in, whose centre is near enough on both axes, and
        whose farthest side is within its level's range.

        Args:
            boxes: (M, 4) xyxy, pixels of the network's input.
            anchors: (N, 4), around the cells' points, level after level.
            cells: of each level.

        Returns:
            (N,) indices into `boxes`, -1 for none.

        Paper: Tian et al. 2019, arXiv:1904.01355, Sections 3.1 and 3.2.
        """
        points = (anchors[:, :2] + anchors[:, 2:]) / 2
        # Asked of the pyramid at every call: a supernet's path may have changed its strides.
        strides = [float(level.stride) for level in self.head_levels]
        lower, upper = (0.0, *self.range_ends), (*self.range_ends, math.inf)
        reach, low, high = (
            torch.cat([points.new_full((n,), value) for n, value in zip(cells, each, strict=True)])
            for each in ([self.center_sampling_radius * stride for stride in strides], lower, upper)
        )
        match = torch.full((len(points),), -1, dtype=torch.int64, device=points.device)
        smallest = points.new_full((len(points),), math.inf)
        for start in range(0, len(boxes), _CHUNK):
            some = boxes[start : start + _CHUNK].to(points.dtype)
            centres = (some[:, :2] + some[:, 2:]) / 2
            off = (points[:, None] - centres).abs().amax(2)
            sides = torch.cat([points[:, None] - some[:, :2], some[:, 2:] - points[:, None]], 2)
            nearest, farthest = sides.amin(2), sides.amax(2)
            fits = (off < reach[:, None]) & (nearest > 0)
            fits &= (farthest > low[:, None]) & (farthest < high[:, None])
            areas = (some[:, 2:] - some[:, :2]).prod(1)
            area, index = torch.where(fits, areas, math.inf).min(1)
            better = area < smallest
            match = torch.where(better, index + start, match)
            smallest = torch.minimum(area, smallest)
        return match
