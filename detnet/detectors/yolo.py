"""YOLOv2: one stage, a grid of anchors on the last level, found among the training boxes."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import clip_boxes_to_image, remove_small_boxes

from detnet.backbones.base import Backbone, FeatureInfo
from detnet.backbones.norm import NormKind, make_norm
from detnet.backbones.stages import scale_channels
from detnet.detectors.base import Detection, SimpleDetector, keep_precise
from detnet.detectors.grid import GridOutput, YOLOOptions, decode, grid_losses
from detnet.detectors.images import ImageOptions, make_transform
from detnet.errors import InputError

_SLOPE = 0.1  # of the leaky ReLU


class GridNet(nn.Module):
    """Maps a batch of images to the one level that boxes are read from.

    Two 3×3 convolutions on the backbone's last level, beside it the next finer level with each
    2×2 cells laid behind one another, and a third 3×3 convolution over both.

    Args:
        backbone: any; of its levels the last is used, and the last that is finer.
        options: see `YOLOOptions`.

    Raises:
        InputError: a finer level is asked for and the backbone has none.
    """

    def __init__(self, backbone: Backbone, options: YOLOOptions) -> None:
        super().__init__()
        self.backbone = backbone
        last = backbone.feature_info[-1]
        wide, narrow = (scale_channels(number, backbone.width) for number in (1024, 64))
        norm = options.head_norm
        self.coarse = nn.Sequential(_conv(last.channels, wide, 3, norm), _conv(wide, wide, 3, norm))
        self.fine_name = ""
        self.levels: tuple[str, ...] = (last.name,)
        if options.passthrough:
            fine = _finer_level(backbone)
            self.fine_name = fine.name
            self.levels = (fine.name, last.name)
            self.fine = _conv(fine.channels, narrow, 1, norm)
        self.joint = _conv(wide + 4 * narrow * options.passthrough, wide, 3, norm)
        self.out_channels = wide
        self.feature_info = (FeatureInfo(last.name, wide, last.stride, level=last.level),)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """Maps (N, 3, H, W) to {name: (N, out_channels, H / stride, W / stride)}."""
        features = self.backbone(images)
        name = self.feature_info[0].name
        x = self.coarse(features[name])
        if self.fine_name:
            fine = self.fine(features[self.fine_name])
            x = torch.cat([F.pixel_unshuffle(self._by_twos(fine, x), 2), x], dim=1)
        return {name: self.joint(x)}

    def _by_twos(self, fine: Tensor, coarse: Tensor) -> Tensor:
        """Gives the finer level with 2×2 cells in each of the last one's, where those are."""
        height, width = coarse.shape[-2:]
        if fine.shape[-2:] == (2 * height, 2 * width):
            return fine
        strides = {info.name: info.stride for info in self.backbone.feature_info}
        ratio = strides[self.feature_info[0].name] // strides[self.fine_name]
        # Cells were counted up: those of 64 pixels reach beyond an image padded to 32.
        fine = F.pad(fine, (0, ratio * width - fine.shape[-1], 0, ratio * height - fine.shape[-2]))
        # A supernet's path may hold the resolution between the two, or halve it twice.
        return F.interpolate(fine, size=(2 * height, 2 * width), mode="nearest")


class GridHead(nn.Module):
    """A 1×1 convolution for places and one for classes, fp32 under autocast.

    Args:
        channels: of the level.
        anchors: how many a cell has.
        classes: without background.
    """

    def __init__(self, channels: int, anchors: int, classes: int) -> None:
        super().__init__()
        self.anchors = anchors
        self.place_head = nn.Conv2d(channels, anchors * 5, 1)
        self.classification_head = nn.ModuleDict(
            {"cls_logits": nn.Conv2d(channels, anchors * classes, 1)}
        )
        for layer in self.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.normal_(layer.weight, std=0.01)
                if layer.bias is not None:
                    nn.init.zeros_(layer.bias)
        keep_precise(self.place_head, self.classification_head["cls_logits"])

    def forward(self, x: Tensor) -> GridOutput:
        places = self._by_anchor(self.place_head(x))
        classes = self._by_anchor(self.classification_head["cls_logits"](x))
        return GridOutput(places[..., :4], places[..., 4], classes)

    def _by_anchor(self, values: Tensor) -> Tensor:
        """(N, A · V, H, W) to (N, H, W, A, V)."""
        return values.permute(0, 2, 3, 1).unflatten(3, (self.anchors, -1))


class YOLO(SimpleDetector):
    """YOLOv2: one stage, a grid of anchors on the last level, found among the training boxes.

    It stands on the backbone's last level.

    A ResNet's C5 has cells of 32 pixels, as the paper's network, and C4 is laid beside it; a
    DetNet's C6 has cells of 16 pixels, four times as many, and C3 is laid beside it: C4 and C5,
    of the same size, would be no finer. Anchors are in pixels and so the same for both.

    Args:
        backbone: any.
        num_classes: background counted.
        images: what the network expects of its input.
        grid: see `YOLOOptions`.

    Paper: Redmon & Farhadi 2017, arXiv:1612.08242, Section 2. The paper tells no loss; this one is
    the authors' release's, without what it does for the first 12,800 images.
    """

    class_layers = ("head.classification_head.cls_logits.",)
    anchors_of_data = 5
    export_class = "detnet.detectors.export.boxes:YOLOForm"

    anchors: Tensor

    def __init__(
        self, backbone: Backbone, num_classes: int, *, images: ImageOptions, grid: YOLOOptions
    ) -> None:
        super().__init__()
        self.backbone = body = GridNet(backbone, grid)
        self.transform = make_transform(images, grid.resize)
        anchors = torch.tensor([tuple(pair) for pair in grid.anchor_sizes], dtype=torch.float32)
        # Not among the weights: the model's options say what they are.
        self.register_buffer("anchors", anchors, persistent=False)
        self.head = GridHead(body.out_channels, len(anchors), num_classes - 1)
        self.options = grid
        self.score_thresh = grid.score_threshold
        self.nms_thresh = grid.nms_threshold
        self.detections_per_img = grid.max_detections
        self.topk_candidates = grid.max_candidates

    def run_layers(self, images: Tensor) -> GridOutput:
        (level,) = self.backbone(images).values()
        output: GridOutput = self.head(level)
        return output

    def losses(self, batch: ImageList, targets: list[dict[str, Tensor]]) -> dict[str, Tensor]:
        """Gives `loss_objectness`, `loss_box_reg` and `loss_classifier`."""
        return grid_losses(
            self.run_layers(batch.tensors),
            targets,
            self.anchors,
            step=self._step(),
            image_sizes=batch.image_sizes,
            options=self.options,
        )

    def detect(self, batch: ImageList) -> list[Detection]:
        """Gives the kept `boxes`, `scores` and `labels` 1 … K of each image."""
        output = self.run_layers(batch.tensors)
        boxes = decode(output.offsets, self.anchors, self._step())
        scores = output.objectness.sigmoid()[..., None] * output.classes.softmax(dim=-1)
        return [
            self._choose(clip_boxes_to_image(b.reshape(-1, 4), size), s.flatten(0, 2))
            for b, s, size in zip(boxes, scores, batch.image_sizes, strict=True)
        ]

    def _step(self) -> tuple[float, float]:
        """Height and width of a cell, pixels; a supernet's path may have changed them."""
        stride = float(self.head_levels[0].stride)
        return stride, stride

    def _choose(self, boxes: Tensor, scores: Tensor) -> Detection:
        """Keeps the best of (P, 4) boxes with (P, K) scores, suppressed within each class."""
        real = remove_small_boxes(boxes, 1e-2)  # those in the padding are clipped to nothing
        boxes, scores = boxes[real], scores[real]
        index, label = (scores > self.score_thresh).nonzero(as_tuple=True)
        sure, order = scores[index, label].sort(descending=True, stable=True)
        order = order[: self.topk_candidates]
        sure, index, label = sure[: self.topk_candidates], index[order], label[order]
        found = self.suppressed(boxes[index], sure, label)
        return {**found, "labels": found["labels"] + 1}


def _finer_level(backbone: Backbone) -> FeatureInfo:
    *others, last = backbone.feature_info
    finer = [info for info in others if info.stride < last.stride]
    if not finer:
        raise InputError(
            f"passthrough takes a level finer than {last.name}, and the backbone has none; give "
            "passthrough=false"
        )
    return finer[-1]


def _conv(in_channels: int, out_channels: int, size: int, norm: NormKind) -> nn.Sequential:
    conv = nn.Conv2d(in_channels, out_channels, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, a=_SLOPE)
    return nn.Sequential(conv, make_norm(norm)(out_channels), nn.LeakyReLU(_SLOPE, inplace=True))
