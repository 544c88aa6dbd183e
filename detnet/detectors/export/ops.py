"""Operators that torch cannot export by itself: what they compute, and their shapes.

Each has an eager implementation here, which is what the others are compared with, and a translation
in `detnet.detectors.export.to_onnx`.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
import torchvision.ops
from torch import Tensor
from torchvision.models.detection.roi_heads import heatmaps_to_keypoints

NOTHING = -1.0  # the score of a place that holds no candidate, below that of every candidate


@torch.library.custom_op("detnet::pad_to_multiple", mutates_args=())
def pad_to_multiple(images: Tensor, divisor: int) -> Tensor:
    """Pads (N, C, H, W) with zeros at right and bottom, to sides that are multiples of this."""
    height, width = images.shape[-2:]
    return F.pad(images, (0, -width % divisor, 0, -height % divisor)).clone()


@pad_to_multiple.register_fake
def _(images: Tensor, divisor: int) -> Tensor:
    sides = [
        -(-side // divisor) * divisor if isinstance(side, int) else _new_size() * divisor
        for side in images.shape[-2:]
    ]
    return images.new_empty(*images.shape[:2], *sides)


def _new_size() -> torch.SymInt:
    """A size that is only known when the graph runs; nothing that is asked here is empty."""
    size: torch.SymInt = torch.library.get_ctx().new_dynamic_size(min=1)
    return size


@torch.library.custom_op("detnet::suppress", mutates_args=())
def suppress(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    """Gives the scores of what is left after suppression, `NOTHING` in all other places.

    Args:
        boxes: (B, P, 4) xyxy.
        scores: (B, C, P); each row is suppressed by itself, negative ones are no candidates.
        iou_threshold: what overlaps a surer box more is left out.
        limit: at most so many are left of a row.

    Returns:
        (B, C, P).
    """
    left = torch.full_like(scores, NOTHING)
    for image, rows in enumerate(scores):
        for kind, row in enumerate(rows):
            candidates = (row >= 0).nonzero().squeeze(1)
            keep = torchvision.ops.nms(boxes[image, candidates], row[candidates], iou_threshold)
            kept = candidates[keep[:limit]]
            left[image, kind, kept] = row[kept]
    return left


@suppress.register_fake
def _(boxes: Tensor, scores: Tensor, iou_threshold: float, limit: int) -> Tensor:
    return torch.empty_like(scores)


@torch.library.custom_op("detnet::pool_regions", mutates_args=())
def pool_regions(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    bins: int,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    """Pools every region from its own level, level after level, and leaves out those of none.

    Args:
        features: one (N, C, H, W) map for each level.
        rois: (R, 5), image index and xyxy in pixels of the network's input.
        levels: (R,) int64, which of `features` a region is pooled from; -1 for none. At least
            one region has a level.
        scales: for each level, what turns the input's pixels into its own.
        bins: down and across.
        sampling_ratio: sampling points of a bin, down and across.
        aligned: shifts boxes by half a pixel and lets them be smaller than one.

    Returns:
        (S, C, bins, bins) and the rows of `rois` that they are of, (S,) int64.
    """
    order = [(levels == level).nonzero().squeeze(1) for level in range(len(features))]
    pooled = [
        torchvision.ops.roi_align(feature, rois[own], bins, scale, sampling_ratio, aligned)
        for feature, own, scale in zip(features, order, scales, strict=True)
    ]
    return torch.cat(pooled), torch.cat(order)


@pool_regions.register_fake
def _(
    features: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    bins: int,
    sampling_ratio: int,
    aligned: bool,
) -> tuple[Tensor, Tensor]:
    size = _new_size()
    return rois.new_empty(size, features[0].shape[1], bins, bins), levels.new_empty(size)


@torch.library.custom_op("detnet::restore_rows", mutates_args=())
def restore_rows(rows: Tensor, order: Tensor, count: int) -> Tensor:
    """Puts (S, …) rows into the places `order` (S,) of (count, …) zeros."""
    restored = rows.new_zeros(count, *rows.shape[1:])
    restored[order] = rows
    return restored


@restore_rows.register_fake
def _(rows: Tensor, order: Tensor, count: int) -> Tensor:
    return rows.new_empty(count, *rows.shape[1:])


@torch.library.custom_op("detnet::heatmap_peaks", mutates_args=())
def heatmap_peaks(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    """Finds each heatmap's highest place, to the pixel of the box that it is stretched over.

    Args:
        heatmaps: (S, K, M, M) logits.
        boxes: (S, 4) xyxy.

    Returns:
        (S, K, 3): x, y and the logit there.
    """
    points, scores = heatmaps_to_keypoints(heatmaps, boxes)
    return torch.cat([points[..., :2], scores[..., None]], dim=2)


@heatmap_peaks.register_fake
def _(heatmaps: Tensor, boxes: Tensor) -> Tensor:
    return heatmaps.new_empty(heatmaps.shape[0], heatmaps.shape[1], 3)
