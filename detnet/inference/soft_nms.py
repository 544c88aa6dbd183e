"""Soft suppression: overlapping boxes are made less sure instead of left out."""

from collections.abc import Callable
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Decay = Literal["linear", "gaussian"]

DECAYS = ("linear", "gaussian")
SIGMA = 0.5  # the paper's
FLOOR = 0.001  # a box that has lost more is dropped, as in the authors' release
ALL = 10**9  # detections


def soft_nms(
    boxes: Tensor,
    scores: Tensor,
    labels: Tensor,
    *,
    decay: Decay,
    iou_threshold: float = 0.3,
    floor: float = FLOOR,
    max_detections: int = ALL,
) -> tuple[Tensor, Tensor]:
    """Takes the surest box of a class again and again, and lowers the scores of those it overlaps.

    Args:
        boxes: (N, 4) xyxy.
        scores: (N,) in [0, 1].
        labels: (N,); boxes of different labels leave each other alone.
        decay: "linear" multiplies with 1 - IoU where that is `iou_threshold` or more, "gaussian"
            with exp(-IoU² / 0.5) everywhere.
        iou_threshold: of the linear decay.
        floor: boxes whose score has come down to this are dropped.
        max_detections: how many boxes to keep.

    Returns:
        Indices of the boxes kept, surest first, and their scores.

    Paper: Bodla et al. 2017, arXiv:1704.04503, Figure 2 and Section 3.
    """
    corners = boxes.detach().cpu().double().numpy()
    sureness = scores.detach().cpu().double().numpy()
    kinds = labels.cpu().numpy()
    kept: list[NDArray[np.int64]] = [np.zeros(0, np.int64)]
    left: list[NDArray[np.float64]] = [np.zeros(0)]
    for kind in np.unique(kinds):
        index = np.flatnonzero(kinds == kind)
        order, lowered = _of_class(
            np.ascontiguousarray(corners[index].T),
            sureness[index],
            lambda iou: _factor(iou, decay, iou_threshold),
            floor,
            max_detections,
        )
        kept.append(index[order])
        left.append(np.array(lowered))
    chosen, decayed = np.concatenate(kept), np.concatenate(left)
    best = np.argsort(-decayed, kind="stable")[:max_detections]
    return (
        torch.from_numpy(chosen[best]).to(boxes.device),
        torch.from_numpy(decayed[best]).to(scores),
    )


def _factor(iou: NDArray[np.float64], decay: Decay, threshold: float) -> Any:
    if decay == "linear":
        return np.where(iou >= threshold, 1 - iou, 1.0)
    return np.exp(-(iou**2) / SIGMA)


def _of_class(
    corners: NDArray[np.float64],
    scores: NDArray[np.float64],
    factor: Callable[[NDArray[np.float64]], Any],
    floor: float,
    max_detections: int,
) -> tuple[list[int], list[float]]:
    """Boxes (4, N) in the order they are taken, and the scores they then have."""
    x1, y1, x2, y2 = corners
    areas = (x2 - x1) * (y2 - y1)
    scores = scores.copy()
    order: list[int] = []
    taken: list[float] = []
    for _ in range(min(max_detections, len(scores))):
        best = int(scores.argmax())
        if scores[best] <= floor:
            break
        order.append(best)
        taken.append(float(scores[best]))
        width = np.minimum(x2, x2[best]) - np.maximum(x1, x1[best])
        height = np.minimum(y2, y2[best]) - np.maximum(y1, y1[best])
        common = np.maximum(width, 0) * np.maximum(height, 0)
        # Boxes without an area overlap nothing.
        scores *= factor(common / np.maximum(areas + areas[best] - common, 1e-12))
        scores[best] = -1.0  # below every floor, whatever is multiplied with it
    return order, taken
