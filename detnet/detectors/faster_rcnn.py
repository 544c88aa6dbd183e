"""Faster R-CNN without a pyramid: everything on one level at stride 16."""

from dataclasses import dataclass
from typing import Literal

from torch import Tensor, nn
from torchvision.models.detection.faster_rcnn import FastRCNNConvFCHead, TwoMLPHead

from detnet.backbones.base import Backbone, FeatureInfo, StagedBackbone
from detnet.backbones.blocks import scale_channels
from detnet.backbones.norm import NormKind, make_norm
from detnet.detectors.faster_rcnn_fpn import RegionDetector
from detnet.detectors.heads import (
    Float32Predictor,
    RegionHeads,
    RegionOptions,
    draw_as_detectron,
    require_init,
)
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.proposals import ProposalOptions
from detnet.detectors.roi import level_pooler
from detnet.detectors.single_level import SingleLevelNet, SingleLevelProposals, choose_level
from detnet.errors import InputError

_POOLED = 7  # bins that the box head's last layers see


@dataclass(frozen=True)
class LevelBoxOptions(RegionOptions):
    """How regions of the one level are judged.

    Args:
        box_head: "2fc", "4conv1fc" (its convolutions are 256 wide), or "stages": the backbone's
            stages after the level, as the original has it (ResNet's C4 form).
        head_norm: of the 4conv1fc head.
        head_init: how linear layers are drawn, see `BoxOptions`.

    Raises:
        InputError: there is no such head.
    """

    box_head: Literal["2fc", "4conv1fc", "stages"] = "2fc"
    head_norm: NormKind = "sync"
    head_init: Literal["torch", "detectron"] = "torch"

    def __post_init__(self) -> None:
        require_init(self.head_init)
        if self.box_head not in ("2fc", "4conv1fc", "stages"):
            raise InputError(
                f"box_head must be '2fc', '4conv1fc' or 'stages', got {self.box_head!r}"
            )


class StagesHead(nn.Module):
    """The backbone's stages after the level, and the average of what they put out.

    The stages stay the backbone's own, under its names, so that its weights fill them.

    Paper: He et al. 2015, arXiv:1512.03385, Appendix A.
    """

    def __init__(self, stages: list[nn.Module]) -> None:
        super().__init__()
        self._stages = tuple(stages)  # no list of modules: they are registered in the backbone

    def forward(self, x: Tensor) -> Tensor:
        """Maps (R, C, H, W) regions to (R, channels of the last stage)."""
        for stage in self._stages:
            x = stage(x)
        return x.mean((2, 3))


class FasterRCNN(RegionDetector):
    """Faster R-CNN without a pyramid: everything on one level at stride 16.

    It stands on the last level at stride 16.

    That is DetNet's C6, the C5 of a ResNet held at stride 16 by dilation, and otherwise a ResNet's
    or a DetNAS network's C4. Anchors of all sizes sit on that one level, and all regions are pooled
    from it. Heads are scaled by the backbone's width.

    Args:
        backbone: with a level at stride 16; stages after it that no head uses are left out.
        num_classes: background counted.
        images: what the network expects of its input.
        proposals: of the first stage.
        boxes: of the second stage.
        level: name of the level, or "auto".
        dilate: hold a level at stride 32 at 16 by dilation: C5 of any ResNet.

    Raises:
        InputError: no level at stride 16, or no stages after it for the head "stages".

    Paper: Ren et al. 2015, arXiv:1506.01497; He et al. 2015, arXiv:1512.03385, Appendix A; Li et
    al. 2018, arXiv:1804.06215, Section 3.
    """

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        proposals: ProposalOptions,
        boxes: LevelBoxOptions,
        level: str = "auto",
        dilate: bool = False,
    ) -> None:
        info = choose_level(backbone, level, dilate=dilate)
        head, head_channels, pooled = _box_head(backbone, info, boxes)
        body = SingleLevelNet(backbone, [info.name], keep_rest=boxes.box_head == "stages")
        heads = RegionHeads(
            boxes,
            box_roi_pool=level_pooler((info,), output_size=pooled),
            box_head=head,
            box_predictor=Float32Predictor(head_channels, num_classes),
        )
        if boxes.head_init == "detectron":
            draw_as_detectron(heads.box_head, heads.box_predictor)
        rpn = SingleLevelProposals(info, proposals)
        super().__init__(body, rpn, heads, ImageTransform(images))


def _box_head(
    backbone: Backbone, info: FeatureInfo, boxes: LevelBoxOptions
) -> tuple[nn.Module, int, int]:
    """The head, the width of what it puts out, and how many bins across it asks for."""
    if boxes.box_head == "stages":
        names = [level.name for level in backbone.feature_info]
        rest = names[names.index(info.name) + 1 :]
        if not rest or not isinstance(backbone, StagedBackbone):
            raise InputError(
                f"the box head 'stages' asks for stages after {info.name}, and the backbone has "
                f"{', '.join(names)}; give an earlier level or another box_head"
            )
        last = backbone.feature_info[-1]
        stages = [backbone.stages[name] for name in rest]
        return StagesHead(stages), last.channels, _POOLED * last.stride // info.stride
    channels = scale_channels(1024, backbone.width)
    if boxes.box_head == "2fc":
        return TwoMLPHead(info.channels * _POOLED**2, channels), channels, _POOLED
    convs = [scale_channels(256, backbone.width)] * 4
    size = (info.channels, _POOLED, _POOLED)
    return (
        FastRCNNConvFCHead(size, convs, [channels], make_norm(boxes.head_norm)),
        channels,
        _POOLED,
    )
