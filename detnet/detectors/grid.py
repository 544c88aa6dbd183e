"""YOLOv2's boxes on a grid: from outputs to boxes, from objects to targets, and the losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

from detnet.backbones.norm import NormKind
from detnet.detectors.images import Resize
from detnet.errors import InputError
from detnet.kinds import of_kind, require_not_negative, require_positive, require_shares

# Of the authors' release for VOC, in pixels of a 416×416 image: 32 times its numbers.
_VOC_ANCHORS = (
    (42.31, 55.41),
    (102.17, 128.3),
    (161.79, 259.17),
    (303.08, 154.9),
    (359.56, 320.23),
)
_MAX_LOG_SCALE = 4.0  # a predicted side is at most 55 times its anchor's; early ones overflow
_OBJECTS_AT_ONCE = 256  # overlaps of a whole grid with more objects would fill the memory


@dataclass(frozen=True)
class YOLOOptions:
    """What YOLO looks for, and how it learns; weights are those of the authors' release.

    Args:
        anchor_sizes: width and height in pixels of the network's input; `detnet train` finds them
            among the training boxes unless they are given.
        passthrough: whether the next finer level is laid beside the last one.
        resize: "aspect" keeps an image's aspect, "square" squeezes it to min_size × min_size.
        head_norm: of the head's convolutions.
        object_weight, noobject_weight, box_weight, class_weight: of the parts of the loss.
        ignore_threshold: a box that overlaps an object more is not taught to be none.
        score_threshold, nms_threshold, max_detections: of the detections given out, per image.
        max_candidates: before suppression, per image.

    Raises:
        InputError: anchors that are no pairs of positive numbers, or a number out of range.

    Paper: Redmon & Farhadi 2017, arXiv:1612.08242, Section 2.
    """

    anchor_sizes: tuple[tuple[float, float], ...] = _VOC_ANCHORS
    passthrough: bool = True
    resize: Resize = "aspect"
    head_norm: NormKind = "sync"
    object_weight: float = 5.0
    noobject_weight: float = 1.0
    box_weight: float = 1.0
    class_weight: float = 1.0
    ignore_threshold: float = 0.6
    score_threshold: float = 0.005
    nms_threshold: float = 0.45
    max_detections: int = 100
    max_candidates: int = 1000

    def __post_init__(self) -> None:
        require_positive(self, "max_detections", "max_candidates")
        require_shares(self, "score_threshold", "nms_threshold", "ignore_threshold")
        weights = ("object_weight", "noobject_weight", "box_weight", "class_weight")
        require_not_negative(self, *weights)
        pairs = self.anchor_sizes
        sizes = bool(pairs) and of_kind(pairs, list[tuple[float, float]])
        if not sizes or not all(side > 0 for pair in pairs for side in pair):
            raise InputError(
                "anchor_sizes must be pairs of a width and a height in pixels, as [[30, 60], "
                f"[120, 90]], got {self.anchor_sizes!r}"
            )


@dataclass(frozen=True)
class GridOutput:
    """What the head says of N images, each an H×W grid of A anchors.

    Args:
        offsets: (N, H, W, A, 4), tx, ty before the sigmoid, tw, th as logarithms.
        objectness: (N, H, W, A), before the sigmoid.
        classes: (N, H, W, A, K), before the softmax, background not among them.
    """

    offsets: Tensor
    objectness: Tensor
    classes: Tensor


@dataclass(frozen=True)
class Assignment:
    """Where objects are learned: M of them, one a place.

    Args:
        row, column, anchor: (M,) int64, indices of the grid.
        index: (M,) int64, of the object.
    """

    row: Tensor
    column: Tensor
    anchor: Tensor
    index: Tensor


def decode(offsets: Tensor, anchors: Tensor, step: tuple[float, float]) -> Tensor:
    """Turns outputs into boxes.

    Args:
        offsets: (..., H, W, A, 4), see `GridOutput`.
        anchors: (A, 2), width and height in pixels.
        step: height and width of a cell in pixels.

    Returns:
        (..., H, W, A, 4), xyxy, pixels, not clipped to the image.

    Paper: Redmon & Farhadi 2017, arXiv:1612.08242, Section 2, "Direct location prediction".
    """
    rows, columns = offsets.shape[-4:-2]
    y = torch.arange(rows, device=offsets.device, dtype=offsets.dtype)[:, None, None]
    x = torch.arange(columns, device=offsets.device, dtype=offsets.dtype)[:, None]
    centre_x = (x + offsets[..., 0].sigmoid()) * step[1]
    centre_y = (y + offsets[..., 1].sigmoid()) * step[0]
    half = offsets[..., 2:].clamp(max=_MAX_LOG_SCALE).exp() * anchors.to(offsets) / 2
    centre = torch.stack([centre_x, centre_y], dim=-1)
    return torch.cat([centre - half, centre + half], dim=-1)


def assign(
    boxes: Tensor, anchors: Tensor, step: tuple[float, float], grid: tuple[int, int]
) -> Assignment:
    """Gives each object to the cell of its centre and the anchor nearest to its shape.

    Of several objects at one place the last is kept, as in the authors' release.

    Args:
        boxes: (T, 4), xyxy, pixels.
        anchors, step: see `decode`.
        grid: rows and columns.
    """
    sides = boxes[:, 2:] - boxes[:, :2]
    centre = (boxes[:, :2] + boxes[:, 2:]) / 2
    column = (centre[:, 0] / step[1]).long().clamp(0, grid[1] - 1)
    row = (centre[:, 1] / step[0]).long().clamp(0, grid[0] - 1)
    anchor = shape_iou(sides, anchors.to(sides)).argmax(dim=1)
    key = (row * grid[1] + column) * len(anchors) + anchor
    later = torch.ones(len(key), len(key), dtype=torch.bool, device=key.device).triu(1)
    kept = (~((key[:, None] == key) & later).any(dim=1)).nonzero().squeeze(1)
    return Assignment(row[kept], column[kept], anchor[kept], kept)


def shape_iou(sides: Tensor, others: Tensor) -> Tensor:
    """Overlaps of boxes laid on one corner: (T, 2) and (A, 2) widths and heights to (T, A)."""
    common = torch.minimum(sides[:, None], others).prod(dim=2)
    return common / (sides.prod(dim=1)[:, None] + others.prod(dim=1) - common)


def grid_losses(
    output: GridOutput,
    targets: Sequence[dict[str, Tensor]],
    anchors: Tensor,
    *,
    step: tuple[float, float],
    image_sizes: Sequence[tuple[int, int]],
    options: YOLOOptions,
) -> dict[str, Tensor]:
    """Sums squared errors and cross-entropies over each image's grid, and averages over images.

    Halves of squares, so that gradients are those of the authors' release.

    Args:
        targets: `boxes` (T, 4) xyxy pixels and `labels` 1 … K of each image.
        anchors, step: see `decode`.
        image_sizes: height and width of each image without its padding, pixels.

    Returns:
        `loss_objectness`, `loss_box_reg` and `loss_classifier`, scalars.
    """
    parts = [
        _image_losses(offsets, objectness, classes, target, anchors, step, size, options)
        for offsets, objectness, classes, target, size in zip(
            output.offsets, output.objectness, output.classes, targets, image_sizes, strict=True
        )
    ]
    objects, boxes, labels = torch.stack(parts).mean(dim=0)
    return {"loss_objectness": objects, "loss_box_reg": boxes, "loss_classifier": labels}


def _image_losses(
    offsets: Tensor,
    objectness: Tensor,
    classes: Tensor,
    target: dict[str, Tensor],
    anchors: Tensor,
    step: tuple[float, float],
    size: tuple[int, int],
    options: YOLOOptions,
) -> Tensor:
    """Gives (3,): the losses of objectness, boxes and classes of one image."""
    truth = target["boxes"].to(offsets)
    at = assign(truth, anchors, step, (offsets.shape[0], offsets.shape[1]))
    where, truth = (at.row, at.column, at.anchor), truth[at.index]
    with torch.no_grad():
        found = decode(offsets, anchors, step)
        free = best_overlap(found.view(-1, 4), target["boxes"].to(offsets))
        free = (free <= options.ignore_threshold).view(objectness.shape)
        free[where] = False
        overlap = paired_iou(found[where], truth)
    sure = objectness.sigmoid()
    objects = options.object_weight * (overlap - sure[where]).square().sum()
    objects = objects + options.noobject_weight * (sure.square() * free).sum()

    sides = truth[:, 2:] - truth[:, :2]
    cells = torch.stack([at.column, at.row], dim=1)
    steps = torch.tensor([step[1], step[0]]).to(offsets, non_blocking=True)
    aims = (truth[:, :2] + truth[:, 2:]) / 2 / steps - cells
    scales = (sides.clamp(min=1e-2) / anchors.to(sides)[at.anchor]).log()
    chosen = offsets[where]
    errors = (chosen[:, :2].sigmoid() - aims).square() + (chosen[:, 2:] - scales).square()
    small = 2 - sides.prod(dim=1) / (size[0] * size[1])  # small objects count up to twice
    boxes = options.box_weight * (small[:, None] * errors).sum()

    labels = target["labels"][at.index] - 1
    entropy = F.cross_entropy(classes[where], labels, reduction="sum")
    return torch.stack([objects / 2, boxes / 2, options.class_weight * entropy])


def best_overlap(boxes: Tensor, truth: Tensor) -> Tensor:
    """The largest IoU of each of (P, 4) boxes with any of (T, 4), 0 where there are none."""
    best = boxes.new_zeros(len(boxes))
    for some in truth.split(_OBJECTS_AT_ONCE):
        if len(some):
            best = torch.maximum(best, box_iou(boxes, some).amax(dim=1))
    return best


def paired_iou(boxes: Tensor, others: Tensor) -> Tensor:
    """The IoU of each of (M, 4) boxes with the one in its place, (M,)."""
    low = torch.maximum(boxes[:, :2], others[:, :2])
    high = torch.minimum(boxes[:, 2:], others[:, 2:])
    common = (high - low).clamp(min=0).prod(dim=1)
    areas = [(item[:, 2:] - item[:, :2]).prod(dim=1) for item in (boxes, others)]
    return common / (areas[0] + areas[1] - common)
