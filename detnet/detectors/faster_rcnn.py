"""Faster R-CNN without a pyramid: everything on one level at stride 16."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from torch import Tensor, nn

from detnet.backbones.base import Backbone, FeatureInfo, StagedBackbone
from detnet.backbones.norm import NormKind
from detnet.backbones.stages import scale_channels
from detnet.detectors.anchors import ExactAnchors
from detnet.detectors.faster_rcnn_fpn import RegionDetector
from detnet.detectors.heads import BINS, RegionHeads, RegionOptions, box_head, region_heads
from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.detectors.proposals import (
    ASPECT_RATIOS,
    Float32RPNHead,
    ProposalNetwork,
    ProposalOptions,
)
from detnet.detectors.roi import LevelPooler
from detnet.errors import InputError

STRIDE = 16  # of the level that Faster R-CNN and R-FCN work on


def choose_level(backbone: Backbone, level: str, *, dilate: bool) -> FeatureInfo:
    """Finds the level to stand on, and holds it at stride 16 if asked to.

    Args:
        backbone: changed where its last stage is held.
        level: a level's name; "auto" is the last level at stride 16, or with `dilate` the last of
            all, if its stride is no more than 32.
        dilate: a level at stride 32 keeps 16 instead, and its convolutions are dilated by 2 ("à
            trous"), so that it takes the weights of the plain network.

    Raises:
        InputError: no such level, or none at stride 16.
    """
    held = (STRIDE, 2 * STRIDE) if dilate and isinstance(backbone, StagedBackbone) else (STRIDE,)
    fitting = [info for info in backbone.feature_info if info.stride in held]
    found = ", ".join(f"{info.name} at {info.stride}" for info in backbone.feature_info)
    if level != "auto":
        fitting = [info for info in fitting if info.name == level]
    if not fitting:
        what = "the last level" if level == "auto" else level
        also = " (dilate=True holds one of 32 there)" if not dilate else ""
        raise InputError(
            f"this detector stands on one level, {what}, at stride {STRIDE}{also}; the backbone "
            f"has {found}"
        )
    if fitting[-1].stride != STRIDE:
        return hold_stride(backbone, fitting[-1].name)
    return fitting[-1]


def hold_stride(backbone: Backbone, name: str) -> FeatureInfo:
    """Takes away the stride of 2 that leads to a level, and dilates what follows at it by 2 more.

    All stages at the level's stride are held, since the stride may be an earlier one's. No weight
    is touched. Levels after them have half their strides, too. Receptive fields are not known any
    more.

    Paper: Dai et al. 2016, arXiv:1605.06409, "À trous and stride".
    """
    levels = {info.name: info for info in backbone.feature_info}
    stride, parts = levels[name].stride, backbone.parts()
    for info in levels.values():
        for layer in parts[info.name].modules() if info.stride == stride else ():
            if isinstance(layer, nn.Conv2d):
                layer.stride = (1, 1)
                if (side := layer.kernel_size[0]) > 1:
                    rate = 2 * layer.dilation[0]
                    layer.dilation, layer.padding = (rate, rate), (rate * (side // 2),) * 2
    backbone.feature_info = tuple(
        replace(info, stride=info.stride // 2, receptive_field=0) if info.stride >= stride else info
        for info in backbone.feature_info
    )
    return backbone.feature_info[backbone.levels.index(name)]


class SingleLevelNet(nn.Module):
    """A backbone up to the last level that is looked at.

    Stages after it are cut off the backbone, since they would never learn, unless something else (a
    box head) works with them.

    Args:
        backbone: where the features come from.
        levels: names of the levels to put out, fine to coarse.
        keep_rest: leave the stages after the last level where they are.

    Raises:
        InputError: a part that is taken off was to be frozen.
    """

    def __init__(
        self, backbone: Backbone, levels: Sequence[str], *, keep_rest: bool = False
    ) -> None:
        super().__init__()
        self.backbone = backbone
        names = [info.name for info in backbone.feature_info]
        self.levels = tuple(dict.fromkeys(levels))
        last = max(names.index(level) for level in levels)
        if not keep_rest:
            backbone.cut(names[last])
        self.feature_info = tuple(i for i in backbone.feature_info if i.name in self.levels)
        self.out_channels = self.feature_info[-1].channels

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) to {name: (N, C, H / stride, W / stride)}, the levels alone."""
        if not isinstance(self.backbone, StagedBackbone):  # as a supernet, whose path decides
            features = self.backbone(images)
            return {name: features[name] for name in self.levels}
        x, found = self.backbone.stem(images), {}
        for name, stage in self.backbone.stages.items():
            x = stage(x)
            if name in self.levels:
                found[name] = x
            if len(found) == len(self.levels):
                break
        return found


class SingleLevelProposals(ProposalNetwork):
    """The region proposal network on one level, with anchors of several sizes in each cell.

    Args:
        info: the level; others may be among the features.
        options: see `ProposalOptions`; all sizes of anchors sit on the one level, and both ways of
            pooling proposals are the same.

    Paper: Ren et al. 2015, arXiv:1506.01497, Section 3.1.
    """

    def __init__(self, info: FeatureInfo, options: ProposalOptions) -> None:
        sizes = options.anchor_sizes
        super().__init__(info.channels, [info], replace(options, anchor_sizes=sizes[:1]))
        self.level = info.name
        self.anchor_generator = ExactAnchors(
            [sizes],
            [ASPECT_RATIOS],
            levels=[info] if options.anchor_strides == "fixed" else None,
        )
        self.head = Float32RPNHead(info.channels, len(sizes) * len(ASPECT_RATIOS))

    def run_layers(self, features: dict[str, Tensor]) -> None:
        self.head([features[self.level]])

    def forward(
        self,
        images: object,
        features: dict[str, Tensor],
        targets: list[dict[str, Tensor]] | None = None,
    ) -> tuple[list[Tensor], dict[str, Tensor]]:
        """Gives each image's proposals (R, 4) xyxy, and in training the losses."""
        return super().forward(images, {self.level: features[self.level]}, targets)


@dataclass(frozen=True)
class SingleLevelBoxOptions(RegionOptions):
    """How regions of the one level are judged.

    Args:
        box_head: "2fc", "4conv1fc" (its convolutions are 256 wide), or "stages": the backbone's
            stages after the level, as the original has it (ResNet's C4 form).
        head_norm: of the 4conv1fc head.
        head_init: how linear layers are drawn, see `BoxOptions`.

    Raises:
        InputError: a number is out of range.
    """

    box_head: Literal["2fc", "4conv1fc", "stages"] = "2fc"
    head_norm: NormKind = "sync"
    head_init: Literal["torch", "detectron"] = "torch"


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
        boxes: SingleLevelBoxOptions,
        level: str = "auto",
        dilate: bool = False,
    ) -> None:
        info = choose_level(backbone, level, dilate=dilate)
        head, head_channels, pooled = _box_head(backbone, info, boxes)
        body = SingleLevelNet(backbone, [info.name], keep_rest=boxes.box_head == "stages")
        heads = region_heads(
            RegionHeads,
            boxes,
            pooler=LevelPooler([info.name], [info.stride], output_size=pooled),
            head=head,
            channels=head_channels,
            num_classes=num_classes,
            init=boxes.head_init,
        )
        rpn = SingleLevelProposals(info, proposals)
        super().__init__(body, rpn, heads, ImageTransform(images))


def _box_head(
    backbone: Backbone, info: FeatureInfo, boxes: SingleLevelBoxOptions
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
        return StagesHead(stages), last.channels, BINS * last.stride // info.stride
    channels = scale_channels(1024, backbone.width)
    convs = scale_channels(256, backbone.width)
    head = box_head(boxes, info.channels, channels, conv_channels=convs)
    return head, channels, BINS
