"""SSD: one stage, default boxes of one size a level, no pyramid."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import ssd as torchvision_ssd
from torchvision.models.detection._utils import BoxCoder
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.stages import scale_channels
from detnet.backbones.sync import share_of_count
from detnet.detectors.anchors import require_sizes
from detnet.detectors.base import OneStageDetector, keep_precise
from detnet.detectors.fpn import require_levels
from detnet.detectors.images import ImageOptions, Resize, make_transform
from detnet.errors import InputError
from detnet.kinds import require_positive, require_shares


class LevelBoxes(DefaultBoxGenerator):
    """torchvision's default boxes, the same for an image whatever it is batched with.

    torchvision takes the padded batch for the image: an image's boxes would grow with its
    neighbours. Here sizes are shares of the image itself, and centres are a level's stride apart.
    The coordinates are fp32 at least. The paper has the image's side over the cells in its place;
    its release has fixed steps, 8, 16, 32, 64 … pixels, and so have torchvision's published models.

    Args:
        aspect_ratios: of each level, besides 1; each stands for its inverse, too.
        scales: of each level, shares of the image's sides, and one for after the last.
        levels: whose strides hold, fine to coarse.
    """

    def __init__(
        self,
        aspect_ratios: Sequence[Sequence[int]],
        scales: Sequence[float],
        *,
        levels: Sequence[FeatureInfo],
    ) -> None:
        super().__init__([list(ratios) for ratios in aspect_ratios], scales=list(scales))
        self.levels = tuple(levels)

    def forward(self, image_list: ImageList, feature_maps: list[Tensor]) -> list[Tensor]:
        """Gives each image's boxes, (A, 4) xyxy in pixels: by level, row, column, then shape."""
        first = feature_maps[0]
        half = first.dtype in (torch.bfloat16, torch.float16)
        like = first.new_empty(0, dtype=torch.float32 if half else first.dtype)
        centres, shapes = [], []
        for feature, info, pairs in zip(feature_maps, self.levels, self._wh_pairs, strict=True):
            rows, columns = feature.shape[-2:]
            y = (torch.arange(rows, dtype=like.dtype, device=like.device) + 0.5) * info.stride
            x = (torch.arange(columns, dtype=like.dtype, device=like.device) + 0.5) * info.stride
            grid = torch.cartesian_prod(y, x).flip(1)
            centres.append(grid.repeat_interleave(len(pairs), dim=0))
            shape = pairs.to(like, non_blocking=True).clamp(max=1)
            shapes.append(shape.repeat(rows * columns, 1))
        centre, shape = torch.cat(centres), torch.cat(shapes)
        return [_boxes(centre, shape, size) for size in image_list.image_sizes]

    def restride(self, strides: Mapping[str, int]) -> None:
        """Takes other strides for the levels of these names, as another path of a supernet has."""
        self.levels = tuple(replace(info, stride=strides[info.name]) for info in self.levels)


def _boxes(centre: Tensor, shape: Tensor, size: tuple[int, int]) -> Tensor:
    half = shape * torch.tensor([size[1], size[0]]).to(shape, non_blocking=True) / 2
    return torch.cat([centre - half, centre + half], dim=1)


_EXTRA_CHANNELS = (512, 256)  # of the first level added, and of all later ones


@dataclass(frozen=True)
class SSDOptions:
    """Which levels SSD looks at, and for what; the defaults are SSD300's.

    Args:
        finest: number of the first backbone level, 3 for C3 at stride 8.
        levels: how many in all; those that the backbone lacks are added behind its last one.
        first_scale: side of the first level's boxes, as a share of the image's; null for the rule
            of the other levels.
        min_scale, max_scale: of the levels after it, evenly spaced.
        anchor_sizes: sides in pixels of an image of min_size, one a level, instead of these shares.
        resize: "aspect" keeps an image's aspect, "square" squeezes it to min_size × min_size.
        extra_norm: of the added levels' convolutions; the paper has none.
        balance: what counts alike in the loss: "boxes", every matched box (the paper's), or
            "objects", every object, however many boxes match it. On a finer level an object is
            matched by more boxes, so that with "boxes" a backbone that holds its resolution
            learns its small objects by a smaller share of the loss (docs/detectors.md).
        negatives: hardest background boxes per matched box that the loss is taken over.
        score_threshold, nms_threshold, max_detections: of the detections given out, per image.
        max_candidates: per class, before suppression.

    Raises:
        InputError: scales that do not rise within 0 … 1, or not one size for each level.

    Paper: Liu et al. 2016, arXiv:1512.02325, Sections 2.2 and 3.1.
    """

    finest: int = 3
    levels: int = 6
    first_scale: float | None = 0.1
    min_scale: float = 0.2
    max_scale: float = 0.9
    anchor_sizes: tuple[int, ...] | None = None
    resize: Resize = "aspect"
    extra_norm: NormKind | None = None
    balance: Literal["boxes", "objects"] = "boxes"
    negatives: float = 3.0
    score_threshold: float = 0.01
    nms_threshold: float = 0.45
    max_detections: int = 200
    max_candidates: int = 400

    def __post_init__(self) -> None:
        first = self.min_scale if self.first_scale is None else self.first_scale
        if not 0 < first <= self.min_scale <= self.max_scale <= 1:
            raise InputError(
                "need 0 < first_scale <= min_scale <= max_scale <= 1, got "
                f"{self.first_scale}, {self.min_scale} and {self.max_scale}"
            )
        if self.anchor_sizes is not None:
            require_sizes(self.anchor_sizes)
            if len(self.anchor_sizes) != self.levels:
                raise InputError(
                    f"anchor_sizes must be {self.levels} numbers, one a level, got "
                    f"{list(self.anchor_sizes)}"
                )
        require_positive(self, "negatives", "max_detections", "max_candidates")
        require_shares(self, "score_threshold", "nms_threshold")


class MultiBoxNet(nn.Module):
    """Maps a batch of images to SSD's levels: the backbone's, and extra ones at half the size.

    An extra level is a 1×1 convolution that narrows and a 3×3 one at stride 2, each with a ReLU.

    Args:
        backbone: used from level `finest` on.
        options: see `SSDOptions`.

    Raises:
        InputError: the backbone lacks level `finest` or one after it, or has more levels than
            asked for.
    """

    def __init__(self, backbone: Backbone, options: SSDOptions) -> None:
        super().__init__()
        self.backbone = backbone
        levels = [info for info in backbone.feature_info if info.level >= options.finest]
        require_levels(backbone, "ssd", options.finest)
        if not len(levels) <= options.levels or options.levels < 2:
            raise InputError(
                f"levels must be 2 or more and hold the backbone's {len(levels)} from number "
                f"{options.finest} on, got {options.levels}"
            )
        self.levels = tuple(info.name for info in levels)
        self.extras = nn.ModuleDict()
        for index in range(options.levels - len(self.levels)):
            last = levels[-1]
            name = f"c{last.level + 1}"
            wide = _EXTRA_CHANNELS[min(index, len(_EXTRA_CHANNELS) - 1)]
            channels = scale_channels(wide, backbone.width)
            middle = scale_channels(wide // 2, backbone.width)
            self.extras[name] = nn.Sequential(
                *_conv(last.channels, middle, 1, options.extra_norm),
                *_conv(middle, channels, 3, options.extra_norm),
            )
            levels.append(FeatureInfo(name, channels, last.stride * 2, level=last.level + 1))
        self.feature_info = tuple(levels)
        self.out_channels = [level.channels for level in levels]

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) to {name: (N, C, H / stride, W / stride)}, rounded up."""
        found = self.backbone(images)
        features = {name: found[name] for name in self.levels}
        last = features[self.levels[-1]]
        for name, extra in self.extras.items():
            features[name] = last = extra(last)
        return features


class SSD(OneStageDetector, torchvision_ssd.SSD):
    """SSD: one stage, default boxes of one size a level, no pyramid.

    It stands on the backbone's levels and extra ones behind them.

    Six levels on every backbone: C3 … C5 of a ResNet and three extra ones at strides 64, 128 and
    256; C3 … C6 of a DetNet and two extra ones at strides 32 and 64. A level's boxes are as large
    as its place in the order says, also where levels have the same stride: DetNet's C4, C5 and C6
    have equal cells, and boxes of 0.2, 0.375 and 0.55 of the image. Larger boxes belong to deeper
    levels, which see more of the image; by stride all three would have the same ones.

    Args:
        backbone: with levels from `c3` on, or what `finest` says.
        num_classes: background counted.
        images: what the network expects of its input.
        multibox: see `SSDOptions`.

    Paper: Liu et al. 2016, arXiv:1512.02325. Departs from it: extra levels halve the resolution
    with padding to the end, so that images of any size can be used, and the first level is not
    normalised to a length, since it comes out of a batch norm.
    """

    class_layers = ("head.classification_head.module_list.",)  # one a level
    background_channel = True
    export_class = "detnet.detectors.export.boxes:SSDForm"
    box_coder: BoxCoder
    neg_to_pos_ratio: float

    def __init__(
        self,
        backbone: Backbone,
        num_classes: int,
        *,
        images: ImageOptions,
        multibox: SSDOptions,
    ) -> None:
        body = MultiBoxNet(backbone, multibox)
        scales = box_scales(multibox, images.min_size)
        boxes = LevelBoxes(_aspect_ratios(multibox.levels), scales, levels=body.feature_info)
        anchors = boxes.num_anchors_per_location()
        head = torchvision_ssd.SSDHead(body.out_channels, anchors, num_classes)
        for part in (head.classification_head, head.regression_head):
            keep_precise(*part.module_list)
        super().__init__(
            body,
            boxes,
            (images.min_size, images.min_size),
            num_classes,
            head=head,
            score_thresh=multibox.score_threshold,
            nms_thresh=multibox.nms_threshold,
            detections_per_img=multibox.max_detections,
            topk_candidates=multibox.max_candidates,
            positive_fraction=1 / (1 + multibox.negatives),
        )
        self.transform = make_transform(images, multibox.resize)
        self.balance = multibox.balance

    def compute_loss(
        self,
        targets: list[dict[str, Tensor]],
        head_outputs: dict[str, Tensor],
        anchors: list[Tensor],
        matched_idxs: list[Tensor],
    ) -> dict[str, Tensor]:
        """Gives `loss_classifier` and `loss_box_reg`, divided by the number of matched boxes.

        That of all processes: Equation 1 is of a batch, and does not know who holds its images.
        With `balance` objects they are sums over objects of the mean over an object's boxes,
        divided by the number of objects; the background counts as before.
        """
        logits, deltas = head_outputs["cls_logits"], head_outputs["bbox_regression"]
        matched = torch.stack(matched_idxs)
        positive = matched >= 0
        weights = logits.new_ones(matched.shape)
        labels = torch.zeros_like(matched)
        box_loss = deltas.new_zeros(())
        for index, target in enumerate(targets):
            at = positive[index].nonzero().flatten()
            objects = matched[index, at]
            if self.balance == "objects":
                weights[index, at] /= objects.bincount()[objects]
            labels[index, at] = target["labels"][objects]
            wanted = self.box_coder.encode_single(target["boxes"][objects], anchors[index][at])
            off = F.smooth_l1_loss(deltas[index, at], wanted, reduction="none")
            box_loss = box_loss + (weights[index, at, None] * off).sum()
        loss = F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        loss = loss.view_as(labels)
        chosen = self._hardest(loss.detach(), positive)
        background = loss[chosen].sum() / share_of_count(positive.sum())
        total = share_of_count(weights[positive].sum())
        found = (weights * loss)[positive].sum() / total
        return {"loss_classifier": found + background, "loss_box_reg": box_loss / total}

    def _hardest(self, loss: Tensor, positive: Tensor) -> Tensor:
        """Which boxes without an object the loss is taken over: those of highest loss."""
        wanted = self.neg_to_pos_ratio * positive.sum(1, keepdim=True)
        order = loss.masked_fill(positive, -math.inf).argsort(1, descending=True)
        rank = order.argsort(1)
        return (rank < wanted) & ~positive


def box_scales(options: SSDOptions, min_size: int) -> list[float]:
    """Gives each level's share of the image, fine to coarse, and 1 for after the last.

    Args:
        options: which levels there are, and how large their boxes.
        min_size: side in pixels of the image that `anchor_sizes` are meant for.

    Paper: Liu et al. 2016, arXiv:1512.02325, Equation 4.
    """
    if options.anchor_sizes is not None:
        return [*(size / min_size for size in options.anchor_sizes), 1.0]
    first = [] if options.first_scale is None else [options.first_scale]
    others = options.levels - len(first)
    pitch = (options.max_scale - options.min_scale) / max(1, others - 1)
    return [*first, *(options.min_scale + index * pitch for index in range(others)), 1.0]


def _aspect_ratios(levels: int) -> list[list[int]]:
    """The first and the last two levels go without 3 and 1/3."""
    full = range(1, levels - 2)
    return [[2, 3] if index in full else [2] for index in range(levels)]


def _conv(in_channels: int, out_channels: int, size: int, norm: NormKind | None) -> list[nn.Module]:
    """A convolution, 3×3 at stride 2, its norm if any and a ReLU."""
    stride = 2 if size == 3 else 1
    conv = nn.Conv2d(in_channels, out_channels, size, stride, size // 2, bias=norm is None)
    nn.init.xavier_uniform_(conv.weight)
    if conv.bias is not None:
        nn.init.zeros_(conv.bias)
    norms = [] if norm is None else [make_norm(norm)(out_channels)]
    return [conv, *norms, nn.ReLU(inplace=True)]
