"""R-FCN: every region is judged by looking it up in position-sensitive score maps."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.ops import ps_roi_align, ps_roi_pool
from torchvision.ops._utils import convert_boxes_to_roi_format

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.stages import scale_channels
from detnet.detectors.base import Detection, keep_precise
from detnet.detectors.faster_rcnn import (
    STRIDE,
    SingleLevelNet,
    SingleLevelProposals,
    choose_level,
)
from detnet.detectors.faster_rcnn_fpn import RegionDetector
from detnet.detectors.heads import RegionHeads, RegionOptions, Sizes, Targets
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.proposals import ProposalOptions
from detnet.detectors.roi import LevelPooler
from detnet.kinds import require_positive

Pooling = Literal["align", "pool"]
_SAMPLING_RATIO = 2


class ScoreMaps(nn.Module):
    """Two 1×1 convolutions: for each of bins × bins places within a region, maps of the scores of
    all classes, and maps of the four offsets that all classes share.

    Args:
        channels: of the input.
        num_classes: background counted.
        bins: places across a region, the paper's k.
    """

    def __init__(self, channels: int, num_classes: int, bins: int) -> None:
        super().__init__()
        self.cls_score = nn.Conv2d(channels, bins**2 * num_classes, 1)
        self.bbox_pred = nn.Conv2d(channels, bins**2 * 4, 1)
        for conv in (self.cls_score, self.bbox_pred):
            # 0.01 at the paper's 1024; a narrower network's maps begin as large.
            nn.init.normal_(conv.weight, std=0.01 * (1024 / channels) ** 0.5)
            nn.init.zeros_(conv.bias)  # type: ignore[arg-type]
        keep_precise(self.cls_score, self.bbox_pred)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Maps (N, C, H, W) to maps of scores and of offsets, in fp32.

        Channel (class × bins + row) × bins + column belongs to the bin at (row, column).
        """
        return self.cls_score(x), self.bbox_pred(x)


class PositionSensitivePooler(LevelPooler):
    """Pools every bin of a region from its own map, and lets the bins vote by their average.

    Args:
        info: the level that the maps are of.
        bins: bins down and across.
        pooling: "align" samples four points a bin, "pool" averages whole pixels, as the paper.

    Paper: Dai et al. 2016, arXiv:1605.06409, Equation 1.
    """

    def __init__(self, info: FeatureInfo, *, bins: int, pooling: Pooling) -> None:
        super().__init__([info.name], [info.stride], output_size=bins)
        self.bins, self.pooling = bins, pooling

    def vote(self, maps: Tensor, boxes: list[Tensor]) -> Tensor:
        """Maps (N, bins² K, H, W) and (L, 4) xyxy boxes of each image to (R, K) averages."""
        # A box that is NaN must not become an index: torchvision's kernel would read anywhere.
        rois = convert_boxes_to_roi_format(boxes).to(maps.dtype).nan_to_num()
        (scale,) = self.scales
        if self.pooling == "align":
            pooled = ps_roi_align(maps, rois, self.bins, scale, _SAMPLING_RATIO)
        else:
            pooled = ps_roi_pool(maps, rois, self.bins, scale)
        return pooled.mean((2, 3))


class PositionSensitiveHeads(RegionHeads):
    """Region heads that look regions up in score maps, with online hard example mining.

    Args:
        level: name of the level that the maps are computed on.
        hard_examples: take the losses of every proposal, and learn from the regions with the
            highest; else regions are drawn as elsewhere.
        vote_scale: what the bins' average is multiplied with.
        options, parts: what `RegionHeads` takes; `box_head` works on the whole level,
            `box_predictor` is `ScoreMaps`.

    Paper: Dai et al. 2016, arXiv:1605.06409, Section 2; Shrivastava et al. 2016, arXiv:1604.03540.
    """

    def __init__(
        self,
        options: RegionOptions,
        *,
        level: str,
        hard_examples: bool,
        vote_scale: float = 1.0,
        **parts: Any,
    ) -> None:
        super().__init__(options, **parts)
        self.level, self.hard_examples, self.vote_scale = level, hard_examples, vote_scale
        self.roi_batch = options.roi_batch

    def losses(
        self, features: dict[str, Tensor], proposals: list[Tensor], shapes: Sizes, targets: Targets
    ) -> dict[str, Tensor]:
        """Gives the losses of the hardest regions, or of those drawn."""
        proposals, _, labels, deltas = self.select_training_samples(proposals, targets)
        logits, predicted = self.predict(features, proposals)
        classes, boxes = region_losses(
            logits, predicted, torch.cat(labels), torch.cat(deltas), beta=self.box_loss_beta
        )
        if self.hard_examples:
            chosen = ohem((classes + boxes).detach(), [len(b) for b in proposals], self.roi_batch)
            classes, boxes = classes[chosen], boxes[chosen]
        count = max(1, len(classes))
        return {"loss_classifier": classes.sum() / count, "loss_box_reg": boxes.sum() / count}

    def predict(
        self, features: dict[str, Tensor], proposals: list[Tensor]
    ) -> tuple[Tensor, Tensor]:
        """Gives logits (R, K), background first, and offsets (R, 4) of all images' proposals."""
        scores, offsets = self.box_predictor(self.box_head(features[self.level]))
        pooler = self.box_roi_pool
        assert isinstance(pooler, PositionSensitivePooler)
        logits, deltas = pooler.vote(scores, proposals), pooler.vote(offsets, proposals)
        return logits * self.vote_scale, deltas * self.vote_scale

    def run_box_layers(self, features: dict[str, Tensor], regions: int) -> None:
        self.box_predictor(self.box_head(features[self.level]))  # regions are only looked up

    def subsample(self, labels: list[Tensor]) -> list[Tensor]:
        """Chooses the regions whose losses are computed: with hard examples, all of them."""
        if self.hard_examples:
            return [torch.arange(len(kinds), device=kinds.device) for kinds in labels]
        return super().subsample(labels)

    def detect(
        self, features: dict[str, Tensor], proposals: list[Tensor], shapes: Sizes
    ) -> list[Detection]:
        """Gives what is found in each image; see `forward`."""
        return self.detections(*self.predict(features, proposals), proposals, shapes)


def region_losses(
    logits: Tensor, deltas: Tensor, labels: Tensor, targets: Tensor, *, beta: float
) -> tuple[Tensor, Tensor]:
    """Every region's own losses: cross-entropy, and smooth L1 where there is an object.

    Args:
        logits: (R, K), background first.
        deltas: (R, 4), the same for all classes.
        labels: (R,), 0 for background.
        targets: (R, 4), offsets to the matched object; may be infinite for background.
        beta: below it the box loss is quadratic.

    Returns:
        Two tensors (R,).

    Paper: Dai et al. 2016, arXiv:1605.06409, Section 2, Training.
    """
    classes = F.cross_entropy(logits, labels, reduction="none")
    positive = (labels > 0).nonzero().squeeze(1)
    errors = F.smooth_l1_loss(deltas[positive], targets[positive], beta=beta, reduction="none")
    boxes = torch.zeros_like(classes).index_add(0, positive, errors.sum(1).to(classes.dtype))
    return classes, boxes


def ohem(losses: Tensor, counts: Sequence[int], number: int) -> Tensor:
    """Picks each image's regions with the highest losses.

    Args:
        losses: (R,), image after image.
        counts: regions of each image.
        number: at most so many are taken of an image.

    Returns:
        Indices into `losses`, image after image, the highest first.
    """
    picked, first = [], 0
    for part in losses.split(list(counts)):
        picked.append(part.topk(min(number, len(part))).indices + first)
        first += len(part)
    return torch.cat(picked)


@dataclass(frozen=True)
class RFCNProposalOptions(ProposalOptions):
    """As `ProposalOptions`, with R-FCN's numbers: 300 proposals in training and in testing.

    What there is before suppression is the authors' release's, since the paper does not tell.
    """

    pre_nms_train: int = 6000
    pre_nms_test: int = 6000
    post_nms_train: int = 300
    post_nms_test: int = 300


@dataclass(frozen=True)
class RFCNOptions(RegionOptions):
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

    Raises:
        InputError: a number is out of range.
    """

    ohem: bool = True
    roi_batch: int = 128
    nms_threshold: float = 0.3
    bins: int = 7
    pooling: Pooling = "align"
    vote: Literal["scaled", "mean"] = "scaled"

    def __post_init__(self) -> None:
        super().__post_init__()
        require_positive(self, "bins")


class RFCN(RegionDetector):
    """R-FCN: every region is judged by looking it up in position-sensitive score maps.

    It stands on the backbone's last stage, at stride 16.

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

    export_class = "detnet.detectors.export.regions:PositionSensitiveForm"

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        proposals: RFCNProposalOptions,
        maps: RFCNOptions,
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
            maps,
            level=info.name,
            hard_examples=maps.ohem,
            vote_scale=maps.bins if maps.vote == "scaled" else 1,
            box_roi_pool=PositionSensitivePooler(info, bins=maps.bins, pooling=maps.pooling),
            box_head=nn.Sequential(narrow, nn.ReLU()),
            box_predictor=ScoreMaps(channels, num_classes, maps.bins),
        )
        rpn = SingleLevelProposals(source, proposals)
        super().__init__(body, rpn, heads, ImageTransform(images))
