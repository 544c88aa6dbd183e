"""RetinaNet: one stage, focal loss, on the pyramid P3 … P7."""

import math
from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection import retinanet as torchvision_retinanet

from detnet.backbones.base import Backbone
from detnet.backbones.norm import NormKind
from detnet.detectors.anchors import (
    AnchorStrides,
    ExactAnchors,
    one_size_a_level,
    require_sizes,
)
from detnet.detectors.base import OneStageDetector, keep_precise
from detnet.detectors.fpn import Extra, PyramidNet
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.proposals import ANCHOR_SIZES
from detnet.kinds import require_positive, require_shares

_OCTAVES = (1.0, 2 ** (1 / 3), 2 ** (2 / 3))
_ANCHORS_PER_CELL = 9


@dataclass(frozen=True)
class DenseOptions:
    """How a one-stage detector decides what it gives out.

    Args:
        coarse_from: whether the first convolved level is made "from_c", the last backbone level
            (the paper), or "from_p", the last pyramid level (torchvision's weights).
        score_threshold, nms_threshold, max_detections: of the detections given out, per image.
        max_candidates: per level, before suppression.
        anchor_strides: see `ProposalOptions`.
        neck: what makes the pyramid, see `detnet.detectors.fpn.NECKS`.

    Raises:
        InputError: a number is out of range.
    """

    coarse_from: Literal["c", "p"] = "c"
    score_threshold: float = 0.05
    nms_threshold: float = 0.5
    max_detections: int = 100
    max_candidates: int = 1000
    anchor_strides: AnchorStrides = "fixed"
    neck: str = "fpn"

    def __post_init__(self) -> None:
        require_positive(self, "max_detections", "max_candidates")
        require_shares(self, "score_threshold", "nms_threshold")

    def pyramid(self, backbone: Backbone, norm: NormKind | None) -> PyramidNet:
        """Makes the pyramid P3 … P7."""
        extra: Extra = "conv_from_c" if self.coarse_from == "c" else "conv_from_p"
        return PyramidNet(backbone, finest=3, coarsest=7, extra=extra, norm=norm, neck=self.neck)


class RetinaNet(OneStageDetector, torchvision_retinanet.RetinaNet):
    """RetinaNet: one stage, focal loss, on the pyramid P3 … P7.

    It stands on P3 … P7.

    A ResNet gives P3 … P5, and P6 and P7 are 3×3 convolutions at stride 2. DetNet gives P3 … P6
    (strides 8, 16, 16, 16) and only P7 is convolved, at stride 32: so both have the five levels
    whose anchors are 32 … 512 pixels times three octaves, and DetNet's P6 is its real stage 6,
    which is the paper's point; a sixth level would change the anchors, and convolving P6 and P7
    from C6 would leave C6 itself unused.

    Args:
        backbone: with levels from `c3` on.
        num_classes: background counted.
        images: what the network expects of its input.
        dense: see `DenseOptions`.
        pyramid_norm: of the pyramid's convolutions.
        head_norm: "group" normalises the head's convolutions, in 32 groups of channels; the paper
            does not, but trains long.
        anchor_sizes: sides in pixels of the first octave's square anchors, one a level, each with
            three aspect ratios; the paper's 32 misses objects that a small input makes smaller
            than about 20.

    Raises:
        InputError: an anchor below one pixel, or not one size a level.

    Paper: Lin et al. 2017, arXiv:1708.02002, Section 4. Departs from it as torchvision does: the
    box loss is plain L1.
    """

    weight_options = ("anchor_strides",)
    export_class = "detnet.detectors.export.dense:RetinaNetForm"

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        dense: DenseOptions,
        pyramid_norm: NormKind | None = None,
        head_norm: Literal["group"] | None = None,
        anchor_sizes: tuple[int, ...] = ANCHOR_SIZES,
    ) -> None:
        require_sizes(anchor_sizes)
        body = dense.pyramid(backbone, pyramid_norm)
        levels = len(body.feature_info)
        head = torchvision_retinanet.RetinaNetHead(
            body.out_channels,
            _ANCHORS_PER_CELL,
            num_classes - 1,
            norm_layer=_group_norm if head_norm else None,
        )
        keep_precise(head.classification_head.cls_logits, head.regression_head.bbox_reg)
        sizes = [
            [int(size * octave) for octave in _OCTAVES]
            for (size,) in one_size_a_level(anchor_sizes, body.feature_info)
        ]
        super().__init__(
            body,
            num_classes - 1,
            anchor_generator=ExactAnchors(
                sizes,
                ((0.5, 1.0, 2.0),) * levels,
                levels=body.feature_info if dense.anchor_strides == "fixed" else None,
            ),
            head=head,
            score_thresh=dense.score_threshold,
            nms_thresh=dense.nms_threshold,
            detections_per_img=dense.max_detections,
            topk_candidates=dense.max_candidates,
        )
        self.transform = ImageTransform(images)

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
    ) -> dict[str, Tensor]:
        """Gives `classification` and `bbox_regression` as `loss_classifier` and `loss_box_reg`."""
        losses = super().compute_loss(self.as_channels(targets), head_outputs, anchors)
        return self.named(losses)


def _group_norm(channels: int) -> nn.GroupNorm:
    # Groups of two channels or more: torch refuses to normalise one value.
    return nn.GroupNorm(min(math.gcd(32, channels), channels // 2), channels)
