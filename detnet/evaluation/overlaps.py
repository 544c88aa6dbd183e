"""Overlaps of detections with objects, pair by pair, in pycocotools' arithmetic to the last bit.

Two overlaps that are equal there must be equal here, or another object would be found.
"""

import functools
from collections.abc import Callable, Mapping

import numpy as np
import pycocotools.mask

from detnet.coco.ground_truth import GroundTruth
from detnet.coco.keypoints import default_sigmas
from detnet.errors import InputError
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import Grid

# (truth, detections, rows of P detections, rows of P objects) -> (P,)
OverlapFunction = Callable[[GroundTruth, Detections, np.ndarray, np.ndarray], np.ndarray]


def overlaps_of(truth: GroundTruth, grid: Grid) -> OverlapFunction:
    """What tells the overlaps that the grid is about: IoU of boxes or masks, OKS of keypoints.

    Raises:
        InputError: the grid's sigmas are not as many as there are keypoints.
    """
    if grid.iou_type == "keypoints":
        assert truth.keypoint_counts is not None  # read for keypoints
        counts = np.unique(truth.keypoint_counts).tolist()
        sigmas = {count: np.array(sigmas_of(grid, truth, count)) for count in counts}
        return functools.partial(keypoint_overlaps, sigmas=sigmas)
    return mask_overlaps if grid.iou_type == "segm" else box_overlaps


def box_overlaps(
    truth: GroundTruth, detections: Detections, rows: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """IoU of each pair's boxes, as bbIou has it."""
    one, other = detections.boxes[rows].T, truth.boxes[objects].T
    sides = [
        np.minimum(one[i] + one[i + 2], other[i] + other[i + 2]) - np.maximum(one[i], other[i])
        for i in (0, 1)
    ]
    apart = (sides[0] <= 0) | (sides[1] <= 0)
    common = sides[0] * sides[1]
    own = one[2] * one[3]
    union = np.where(truth.crowd[objects], own, own + other[2] * other[3] - common)
    return np.divide(common, union, out=np.zeros_like(common), where=~apart)


def box_ious(a: np.ndarray, b: np.ndarray, *, extra: float = 0.0) -> np.ndarray:
    """Plain IoU of pairs of boxes, without crowds; 0 of boxes without an area.

    Args:
        a, b: (P, 4) xywh, or one of them (1, 4).
        extra: is added to widths and heights.
    """
    size_a, size_b = a[:, 2:] + extra, b[:, 2:] + extra
    shared = np.minimum(a[:, :2] + size_a, b[:, :2] + size_b) - np.maximum(a[:, :2], b[:, :2])
    both = shared.clip(0).prod(axis=1)
    union = size_a.prod(axis=1) + size_b.prod(axis=1) - both
    return np.divide(both, union, out=np.zeros(len(both)), where=union > 0)


def mask_overlaps(
    truth: GroundTruth, detections: Detections, rows: np.ndarray, objects: np.ndarray
) -> np.ndarray:
    """IoU of each pair's masks; pycocotools takes detections that have the same objects together.

    Args:
        rows, objects: pairs as `candidates` gives them.
    """
    assert truth.masks is not None and detections.masks is not None
    firsts = np.flatnonzero(np.diff(rows, prepend=-1))
    begins = firsts[np.flatnonzero(np.diff(objects[firsts], prepend=-1))].tolist()
    ious = np.zeros(len(rows))
    for begin, end in zip(begins, [*begins[1:], len(rows)], strict=False):  # both may be empty
        count = int((rows[begin:end] == rows[begin]).sum())  # of objects, for each detection
        these = objects[begin : begin + count]
        ious[begin:end] = pycocotools.mask.iou(
            [detections.masks[row] for row in rows[begin:end:count]],
            [truth.masks[i] for i in these],
            truth.crowd[these].astype(int).tolist(),
        ).ravel()
    return ious


def keypoint_overlaps(
    truth: GroundTruth,
    detections: Detections,
    rows: np.ndarray,
    objects: np.ndarray,
    *,
    sigmas: Mapping[int, np.ndarray],
) -> np.ndarray:
    """OKS of each pair over the keypoints of its category, as computeOks has it.

    An object without labelled keypoints, which counts neither way, is near the points that lie in
    its box or no farther from it than the box is wide and high.

    Args:
        sigmas: for each number of keypoints that a category has.
    """
    assert truth.keypoints is not None and detections.keypoints is not None
    assert truth.keypoint_counts is not None
    similarities = np.zeros(len(rows))
    order = np.argsort(objects, kind="stable")
    begins = np.flatnonzero(np.diff(objects[order], prepend=-1))
    for pairs in np.split(order, begins[1:]) if len(order) else ():
        at = int(objects[pairs[0]])
        own = int(truth.keypoint_counts[truth.categories[at]])
        found, sought = detections.keypoints[rows[pairs], :own, :2], truth.keypoints[at, :own]
        labelled = sought[:, 2] > 0
        if labelled.any():
            apart = found - sought[:, :2]
        else:
            corner, sides = truth.boxes[at, :2], truth.boxes[at, 2:]
            low, high = corner - sides, corner + sides * 2
            apart = np.maximum(0, low - found) + np.maximum(0, found - high)
            labelled = np.ones(len(labelled), bool)
        squares = apart[..., 0] ** 2 + apart[..., 1] ** 2
        errors = squares / (sigmas[own] * 2) ** 2 / (truth.areas[at] + np.spacing(1)) / 2
        kept = np.ascontiguousarray(np.exp(-errors)[:, labelled])  # sums go by the layout
        similarities[pairs] = kept.sum(axis=1) / max(labelled.sum(), 1)
    return similarities


def sigmas_of(grid: Grid, truth: GroundTruth, count: int | None = None) -> tuple[float, ...]:
    """How far off each keypoint of a category may be: as the grid says, else as `default_sigmas`.

    Args:
        count: how many the category has; by default as many as the one with the most.

    Raises:
        InputError: the grid has neither one for all nor one for each.
    """
    assert truth.keypoints is not None  # read for keypoints
    most = truth.keypoints.shape[1]
    count = most if count is None else count
    if not grid.sigmas:
        return default_sigmas(count)
    if len(grid.sigmas) not in (1, most):
        raise InputError(
            f"sigmas: {len(grid.sigmas)} are given for {most} keypoints; give one for all, or one "
            "for each"
        )
    return (grid.sigmas * (most if len(grid.sigmas) == 1 else 1))[:count]
