"""Cascade R-CNN on a feature pyramid: three box stages, each with a higher overlap than before."""

from dataclasses import dataclass

from detnet.backbones.base import Backbone
from detnet.backbones.blocks import scale_channels
from detnet.backbones.norm import NormKind
from detnet.detectors.cascade_heads import AgnosticPredictor, CascadeHeads
from detnet.detectors.faster_rcnn_fpn import RegionDetector, level_pooler
from detnet.detectors.heads import BoxOptions, box_head, draw_as_detectron
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.proposals import ProposalNetwork, ProposalOptions
from detnet.detectors.pyramid import PyramidNet
from detnet.errors import InputError


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


class CascadeRCNNFPN(RegionDetector):
    """Cascade R-CNN on a feature pyramid: three box stages, each with a higher overlap than before.

    Builds `faster_rcnn_fpn` with a cascade of box stages instead of one.

    Every stage pools its regions anew, from the level that the box has grown or shrunk to; offsets
    are the same for all classes. The pyramid is the same as there, DetNet's P2 … P6 too.

    Args:
        backbone: with levels from `c2` on.
        num_classes: background counted.
        images: what the network expects of its input.
        proposals: of the first stage.
        boxes: of every box stage.
        cascade: what differs between them.
        pyramid_norm: of the pyramid's convolutions.

    Paper: Cai & Vasconcelos 2017, arXiv:1712.00726; Li et al. 2018, arXiv:1804.06215, Section 4.1.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        proposals: ProposalOptions,
        boxes: BoxOptions,
        cascade: CascadeOptions,
        pyramid_norm: NormKind | None = None,
    ) -> None:
        body = PyramidNet(backbone, finest=2, coarsest=6, norm=pyramid_norm)
        info, channels = body.feature_info, body.out_channels
        head_channels = scale_channels(1024, backbone.width)
        stages = range(len(cascade.stage_ious))
        heads = CascadeHeads(
            [box_head(channels, boxes, head_channels=head_channels) for _ in stages],
            [AgnosticPredictor(head_channels, num_classes) for _ in stages],
            ious=cascade.stage_ious,
            loss_weights=cascade.stage_loss_weights,
            box_loss_beta=boxes.box_loss_beta,
            box_roi_pool=level_pooler(info[: boxes.roi_levels], output_size=7),
            batch_size_per_image=boxes.roi_batch,
            positive_fraction=0.25,
            score_thresh=boxes.score_threshold,
            nms_thresh=boxes.nms_threshold,
            detections_per_img=boxes.max_detections,
        )
        if boxes.head_init == "detectron":
            for head, predictor in zip(heads.box_head, heads.box_predictor, strict=True):
                draw_as_detectron(head, predictor)
        rpn = ProposalNetwork(channels, info, proposals)
        super().__init__(body, rpn, heads, ImageTransform(images))
