"""YOLOv2's boxes on a grid: from outputs to boxes, from objects to targets, and the losses."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from torchvision.ops import box_iou

_MAX_LOG_SCALE = 4.0  # a predicted side is at most 55 times its anchor's; early ones overflow
_OBJECTS_AT_ONCE = 256  # overlaps of a whole grid with more objects would fill the memory


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
class GridWeights:
    """Factors on the parts of the loss, and the overlap above which no-object is not asked for."""

    object_weight: float
    noobject_weight: float
    box_weight: float
    class_weight: float
    ignore_threshold: float


@dataclass(frozen=True)
class Places:
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


def place(
    boxes: Tensor, anchors: Tensor, step: tuple[float, float], grid: tuple[int, int]
) -> Places:
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
    return Places(row[kept], column[kept], anchor[kept], kept)


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
    weights: GridWeights,
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
        _image_losses(offsets, objectness, classes, target, anchors, step, size, weights)
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
    weights: GridWeights,
) -> Tensor:
    """Gives (3,): the losses of objectness, boxes and classes of one image."""
    truth = target["boxes"].to(offsets)
    at = place(truth, anchors, step, (offsets.shape[0], offsets.shape[1]))
    where, truth = (at.row, at.column, at.anchor), truth[at.index]
    with torch.no_grad():
        found = decode(offsets, anchors, step)
        free = best_overlap(found.view(-1, 4), target["boxes"].to(offsets))
        free = (free <= weights.ignore_threshold).view(objectness.shape)
        free[where] = False
        overlap = paired_iou(found[where], truth)
    sure = objectness.sigmoid()
    objects = weights.object_weight * (overlap - sure[where]).square().sum()
    objects = objects + weights.noobject_weight * (sure.square() * free).sum()

    sides = truth[:, 2:] - truth[:, :2]
    cells = torch.stack([at.column, at.row], dim=1)
    aims = (truth[:, :2] + truth[:, 2:]) / 2 / offsets.new_tensor([step[1], step[0]]) - cells
    scales = (sides.clamp(min=1e-2) / anchors.to(sides)[at.anchor]).log()
    chosen = offsets[where]
    errors = (chosen[:, :2].sigmoid() - aims).square() + (chosen[:, 2:] - scales).square()
    small = 2 - sides.prod(dim=1) / (size[0] * size[1])  # small objects count up to twice
    boxes = weights.box_weight * (small[:, None] * errors).sum()

    labels = target["labels"][at.index] - 1
    entropy = F.cross_entropy(classes[where], labels, reduction="sum")
    return torch.stack([objects / 2, boxes / 2, weights.class_weight * entropy])


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
