"""R-FCN: every region is judged by looking it up in position-sensitive score maps."""

from dataclasses import dataclass
from typing import Literal

from torch import nn

from detnet.backbones.base import Backbone
from detnet.backbones.blocks import scale_channels
from detnet.detectors.faster_rcnn_fpn import RegionDetector
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.position_sensitive import (
    Pooling,
    PositionSensitiveHeads,
    PositionSensitivePooler,
    ScoreMaps,
)
from detnet.detectors.proposals import ProposalOptions
from detnet.detectors.single_level import (
    STRIDE,
    SingleLevelNet,
    SingleLevelProposals,
    choose_level,
)
from detnet.errors import InputError


@dataclass(frozen=True)
class FewProposals(ProposalOptions):
    """As `ProposalOptions`, with R-FCN's numbers: 300 proposals in training and in testing.

    What there is before suppression is the authors' release's, since the paper does not tell.
    """

    pre_nms_train: int = 6000
    pre_nms_test: int = 6000
    post_nms_train: int = 300
    post_nms_test: int = 300


@dataclass(frozen=True)
class MapOptions:
    """How regions are looked up in score maps; the paper's numbers.

    With the plain average every map has a k²-th of a region's gradient, and from scratch the maps
    hardly learn within some thousand steps. The average times k can express the same, and learns as
    fast as a linear layer on the pooled bins.

    Args:
        ohem: learn from the hardest of all proposals; else regions are drawn, a quarter positive.
        roi_batch: regions of an image that are learnt from.
        bins: places across a region, the paper's k.
        pooling: "align" samples four points a bin, "pool" averages whole pixels, as the paper.
        vote: "scaled" is the bins' average times k, "mean" the average itself, as the paper.
        box_loss_beta: where the smooth L1 loss turns linear.
        score_threshold, nms_threshold, max_detections: of the detections given out, per image.

    Raises:
        InputError: there is no such pooling or vote, or a number is below 1.
    """

    ohem: bool = True
    roi_batch: int = 128
    bins: int = 7
    pooling: Pooling = "align"
    vote: Literal["scaled", "mean"] = "scaled"
    box_loss_beta: float = 1.0
    score_threshold: float = 0.05
    nms_threshold: float = 0.3
    max_detections: int = 100

    def __post_init__(self) -> None:
        if self.pooling not in ("align", "pool"):
            raise InputError(f"pooling must be 'align' or 'pool', got {self.pooling!r}")
        if self.vote not in ("scaled", "mean"):
            raise InputError(f"vote must be 'scaled' or 'mean', got {self.vote!r}")
        if self.bins < 1 or self.roi_batch < 1:
            raise InputError(
                f"bins and roi_batch must be 1 or more, got {self.bins} and {self.roi_batch}"
            )


class RFCN(RegionDetector):
    """R-FCN: every region is judged by looking it up in position-sensitive score maps.

    Builds R-FCN on the backbone's last stage, at stride 16.

    That is DetNet's C6 as it is; the C5 of a ResNet or a DetNAS network is held at stride 16 by
    dilation, as the paper has it. Proposals come from C4, the first level at stride 16. A 1×1
    convolution narrows the last stage to 1024, and 1×1 convolutions make the maps from it; the 1024
    are scaled by the backbone's width.

    Args:
        backbone: with a level at stride 16; stages after the last one used are left out.
        num_classes: background counted.
        images: what the network expects of its input.
        proposals: of the first stage.
        maps: of the second stage.
        level: name of the maps' level, or "auto".
        proposal_level: name of the proposals' level, at stride 16, or "auto".
        dilate: hold a level at stride 32 at 16; False takes the last level that is there anyway.

    Raises:
        InputError: no such level at stride 16.

    Paper: Dai et al. 2016, arXiv:1605.06409. Departs from it: proposals and regions are trained
    together, not in turns, as in the authors' later release; regions are aligned and votes scaled
    by default.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        proposals: FewProposals,
        maps: MapOptions,
        level: str = "auto",
        proposal_level: str = "auto",
        dilate: bool = True,
    ) -> None:
        info = choose_level(backbone, level, dilate=dilate)
        first = next(found for found in backbone.feature_info if found.stride == STRIDE).name
        source = choose_level(
            backbone, first if proposal_level == "auto" else proposal_level, dilate=False
        )
        body = SingleLevelNet(backbone, [source.name, info.name])
        channels = scale_channels(1024, backbone.width)
        narrow = nn.Conv2d(info.channels, channels, 1)
        nn.init.kaiming_normal_(narrow.weight, nonlinearity="relu")
        nn.init.zeros_(narrow.bias)  # type: ignore[arg-type]
        heads = PositionSensitiveHeads(
            level=info.name,
            hard_examples=maps.ohem,
            vote_scale=maps.bins if maps.vote == "scaled" else 1,
            box_loss_beta=maps.box_loss_beta,
            box_roi_pool=PositionSensitivePooler(info, bins=maps.bins, pooling=maps.pooling),
            box_head=nn.Sequential(narrow, nn.ReLU()),
            box_predictor=ScoreMaps(channels, num_classes, maps.bins),
            fg_iou_thresh=0.5,
            bg_iou_thresh=0.5,
            batch_size_per_image=maps.roi_batch,
            positive_fraction=0.25,
            bbox_reg_weights=None,
            score_thresh=maps.score_threshold,
            nms_thresh=maps.nms_threshold,
            detections_per_img=maps.max_detections,
        )
        rpn = SingleLevelProposals(source, proposals)
        super().__init__(body, rpn, heads, ImageTransform(images))
