"""A backbone without a pyramid: the level that a detector stands on, and its proposals there."""

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn

from detnet.backbones.base import Backbone, FeatureInfo, StagedBackbone
from detnet.detectors.anchors import ExactAnchors
from detnet.detectors.proposals import (
    ASPECT_RATIOS,
    Float32RPNHead,
    ProposalNetwork,
    ProposalOptions,
)
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
    """Takes a stage's stride of 2 away and dilates its convolutions by 2; no weight is touched.

    Levels after it have half their strides, too. Receptive fields are not known any more.

    Paper: Dai et al. 2016, arXiv:1605.06409, "À trous and stride".
    """
    for conv in backbone.parts()[name].modules():
        if isinstance(conv, nn.Conv2d):
            conv.stride = (1, 1)
            if conv.kernel_size[0] > 1:
                conv.dilation = (2, 2)
                conv.padding = (conv.kernel_size[0] - 1, conv.kernel_size[1] - 1)
    names = [info.name for info in backbone.feature_info]
    first = names.index(name)
    backbone.feature_info = tuple(
        replace(info, stride=info.stride // 2, receptive_field=0) if index >= first else info
        for index, info in enumerate(backbone.feature_info)
    )
    return backbone.feature_info[first]


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
