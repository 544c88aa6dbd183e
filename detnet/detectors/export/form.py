"""What all exported forms share: images in, candidates by level, the best of them out."""

import copy
import importlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.base import FeatureInfo
from detnet.detectors.base import Detector, plain_layers
from detnet.detectors.export.ops import NOTHING, pad_to_multiple, suppress
from detnet.errors import InputError

Size = tuple[Any, Any]  # height and width, pixels; numbers, or torch's symbols while it is exported
_SMALLEST = 1e-2  # a detection whose box is thinner is none; in pixels


@dataclass(frozen=True)
class Candidates:
    """What may be an object in each image, of any number of places.

    Args:
        boxes: (N, P, 4) xyxy, pixels of the network's input.
        scores: (N, P), `NOTHING` where there is none.
        labels: (N, P) int64, 1 … K.
    """

    boxes: Tensor
    scores: Tensor
    labels: Tensor


class ExportForm(nn.Module):
    """A trained detector in a form whose shapes are known, to be exported.

    It maps (N, 3, H, W) uint8 images in RGB, resized as the detector's transform would do it and
    not padded, to as many detections of each image as the detector gives at most, the surest first;
    `count` says how many of them are real. Thresholds are those that the model has when the form is
    made. The model itself is left as it is.

    Args:
        model: in eval mode from now on, best with its norms folded.

    Raises:
        InputError: the model suppresses by something else than overlap.
    """

    output_names: tuple[str, ...] = ("boxes", "scores", "labels", "count")

    def __init__(self, model: Detector) -> None:
        super().__init__()
        post = model.post_processor
        if post.suppress is not None:
            raise InputError(
                "a detector whose suppression is replaced (soft or voting) cannot be exported; "
                "export it without, by overlap alone"
            )
        self.model = plain_layers(copy.deepcopy(model)).eval().requires_grad_(False)
        options = model.transform.options
        self.divisor = int(model.transform.size_divisible)
        self.bgr = options.channel_order == "bgr"
        self.score_thresh = float(post.score_thresh)
        self.nms_thresh = float(post.nms_thresh)
        self.detections = int(post.detections_per_img)
        self.pixel_mean: Tensor
        self.pixel_std: Tensor
        for name in ("pixel_mean", "pixel_std"):
            values = torch.tensor(getattr(options, name), dtype=torch.float32)
            self.register_buffer(name, values[:, None, None])
        self.eval()

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """Gives `output_names` of (N, 3, H, W) uint8 images.

        Returns:
            boxes (N, D, 4) xyxy in pixels of `images`, scores (N, D), labels (N, D) int64, count
            (N,) int64, and what else `output_names` says; beyond an image's count zeros, and
            scores of -1.
        """
        return self.detect(self.prepare(images), (images.shape[-2], images.shape[-1]))

    def prepare(self, images: Tensor) -> Tensor:
        """Gives the batch as the backbone takes it: normalised, then padded with zeros."""
        batch = images.float() / 255
        batch = batch.flip(1) if self.bgr else batch
        return pad_to_multiple((batch - self.pixel_mean) / self.pixel_std, self.divisor)

    def detect(self, batch: Tensor, size: Size) -> tuple[Tensor, ...]:
        """Gives the detections of a batch; see `forward`.

        Args:
            batch: (N, 3, H, W), normalised and padded.
            size: of the images without the padding.
        """
        raise NotImplementedError

    def best(self, candidates: Candidates) -> tuple[Tensor, ...]:
        """Chooses the surest candidates: `boxes`, `scores`, `labels` and `count`."""
        scores, index = top(candidates.scores, self.detections, fill=True)
        real = scores >= 0
        boxes = rows_at(candidates.boxes, index) * real[..., None]
        labels = candidates.labels.gather(1, index) * real
        return boxes, scores, labels, real.sum(1)

    def suppress_by_class(self, boxes: Tensor, scores: Tensor) -> Candidates:
        """Suppresses within each class.

        Args:
            boxes: (N, K, P, 4) xyxy of each class 1 … K, or (N, 1, P, 4) where they share them.
            scores: (N, K, P), `NOTHING` where there is no candidate.
        """
        images, classes, count = scores.shape
        if boxes.shape[1] == 1:
            left = suppress(boxes[:, 0], scores, self.nms_thresh, self.detections)
        else:  # each class as an image of a batch
            own = scores.flatten(0, 1)[:, None]
            left = suppress(boxes.flatten(0, 1), own, self.nms_thresh, self.detections)
            left = left.unflatten(0, (images, classes))
        labels = torch.arange(1, classes + 1)[:, None].expand(images, -1, count)
        boxes = boxes.expand(-1, classes, -1, -1)
        return Candidates(boxes.flatten(1, 2), left.flatten(1), labels.flatten(1))

    def suppress_by_label(self, candidates: Candidates, classes: int) -> Candidates:
        """Suppresses within each of the classes 1 … `classes`."""
        kinds = torch.arange(1, classes + 1)[:, None]
        own = candidates.labels[:, None] == kinds
        scores = torch.where(own, candidates.scores[:, None], NOTHING)
        left = suppress(candidates.boxes, scores, self.nms_thresh, self.detections)
        return Candidates(candidates.boxes, left.amax(1), candidates.labels)


def export_form(model: Detector) -> ExportForm:
    """Makes the form of a detector that can be exported.

    Raises:
        InputError: it has none, or its options have none.
    """
    if not model.export_class:
        raise InputError(
            f"{type(model).__name__} cannot be exported: it has no form for that; name one in its "
            "`export_class`, as detnet.detectors.retinanet does"
        )
    module, name = model.export_class.split(":")
    form: ExportForm = getattr(importlib.import_module(module), name)(model)
    return form


@dataclass(frozen=True)
class Level:
    """Where the anchors of a level lie.

    Args:
        anchors: (A, 4) xyxy, of the first cell.
        rows, columns: cells down and across.
        stride: height and width of a cell, pixels.
    """

    anchors: Tensor
    rows: Any
    columns: Any
    stride: Size

    @property
    def cells(self) -> Any:
        return self.rows * self.columns

    def anchors_at(self, index: Tensor) -> Tensor:
        """Gives (…, 4) anchors of (…) indices that count by anchor, row, column."""
        anchor = index // self.cells
        cell = index - anchor * self.cells
        row = cell // self.columns
        column = cell - row * self.columns
        corner = torch.stack([column * self.stride[1], row * self.stride[0]] * 2, dim=-1)
        return self.anchors[anchor] + corner.to(self.anchors.dtype)

    def values_at(self, output: Tensor, index: Tensor) -> Tensor:
        """Gives (N, k, V) of a convolution's output (N, A · V, H, W), V values an anchor."""
        each = output.shape[1] // len(self.anchors)
        anchor = index // self.cells
        cell = index - anchor * self.cells
        first = anchor * (each * self.cells) + cell
        places = first[..., None] + torch.arange(each) * self.cells
        return output.flatten(1).gather(1, places.flatten(1)).unflatten(1, (-1, each))


def levels_of(
    generator: Any, features: Sequence[Tensor], batch: Tensor, info: Sequence[FeatureInfo] | None
) -> list[Level]:
    """Gives each level's place; strides are `info`'s, or the padded side over the cells."""
    levels = []
    for index, (feature, anchors) in enumerate(zip(features, generator.cell_anchors, strict=True)):
        rows, columns = feature.shape[-2:]
        if info is not None:
            stride: Size = (info[index].stride,) * 2
        else:
            stride = (batch.shape[-2] // rows, batch.shape[-1] // columns)
        levels.append(Level(anchors.float(), rows, columns, stride))
    return levels


def top(scores: Tensor, count: int, *, fill: bool = False) -> tuple[Tensor, Tensor]:
    """Gives the largest (N, count) of (N, P) scores and where they are, or all of fewer.

    Args:
        scores: any number of them, also none.
        count: how many.
        fill: give `count` of fewer, too: the missing ones are `NOTHING`, at the place 0.
    """
    if fill:
        best, index = F.pad(scores, (0, count), value=NOTHING).topk(count, dim=1)
        return best, index * (best >= 0)
    return torch.topk(scores, torch.sym_min(count, scores.shape[1]), dim=1)


def rows_at(values: Tensor, index: Tensor) -> Tensor:
    """Picks (N, k, V) of (N, P, V) by (N, k)."""
    return values.gather(1, index[..., None].expand(-1, -1, values.shape[2]))


def clip(boxes: Tensor, size: Size) -> Tensor:
    """Keeps (…, 4) boxes within an image of this height and width."""
    height, width = (torch.scalar_tensor(side, dtype=boxes.dtype) for side in size)
    return torch.minimum(boxes.clamp(min=0), torch.stack([width, height, width, height]))


def wide_enough(boxes: Tensor, smallest: float = _SMALLEST) -> Tensor:
    """Whether both sides of (…, 4) boxes are this long, (…)."""
    return ((boxes[..., 2:] - boxes[..., :2]) >= smallest).all(-1)


def decode(deltas: Tensor, boxes: Tensor, weights: Sequence[float], largest: float) -> Tensor:
    """Moves boxes by offsets, as torchvision's `BoxCoder`.

    Args:
        deltas: (…, 4), dx, dy, dw, dh.
        boxes: (…, 4) xyxy.
        weights: what the offsets are divided by.
        largest: bound of dw and dh.
    """
    sides = boxes[..., 2:] - boxes[..., :2]
    centre = boxes[..., :2] + 0.5 * sides
    deltas = deltas / deltas.new_tensor(list(weights))
    centre = deltas[..., :2] * sides + centre
    half = 0.5 * (deltas[..., 2:].clamp(max=largest).exp() * sides)
    return torch.cat([centre - half, centre + half], dim=-1)
