"""COCO's average precision and recall, by IoU threshold and object size: all the paper's tables."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from detnet.errors import InputError
from detnet.evaluation.engines import Grid, Tables, engine_version, evaluate
from detnet.evaluation.normalise import Detections, Truth, read_detections, read_truth
from detnet.tables import unknown_name

IOU_TYPES = ("bbox", "segm")
IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MAX_DETS = (1, 10, 100)
_TABLE_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85)


# The benchmark's twelve numbers, in its order.
HEADLINE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def score(
    annotations: Path | str | dict[str, Any],
    results: Path | str | list[dict[str, Any]],
    *,
    iou_type: str = "bbox",
    engine: str = "hotcoco",
    iou_thresholds: tuple[float, ...] | None = None,
    areas: dict[str, tuple[float, float]] | None = None,
    max_dets: tuple[int, ...] = MAX_DETS,
    class_agnostic_recall: bool = False,
) -> dict[str, Any]:
    """Scores detections against ground truth as the COCO benchmark does.

    Precision is averaged over 101 recalls, then over categories that have ground truth. APs, APm
    and APl, like every precision, allow the largest of `max_dets` results per image and category.

    Args:
        annotations: COCO ground truth, a file or its content.
        results: COCO results, a file or its records; both are left as they are.
        iou_type: "bbox" or "segm".
        engine: "hotcoco", or "pycocotools", the slow original; both give the same numbers.
        iou_thresholds: COCO's 0.50, 0.55 … 0.95 if None.
        areas: ranges of area in pixels by name, both ends included, COCO's if None. "all" is
            added where it is not named.
        max_dets: best-scored results per image and category that count.
        class_agnostic_recall: adds "class_agnostic_recall", AR with all categories taken as one.

    Returns:
        The scores of scores.json, fractions, None where nothing is to be averaged: no ground
        truth, or a threshold, size or number of results outside the grid asked for. A grid that
        is not COCO's is told under "parameters". "annotations" counts crowds, too.

    Raises:
        InputError: a file, a record or an argument cannot be used.

    Paper: Li et al. 2018, arXiv:1804.06215, Tables 3 and 4, for `by_iou_and_size`.
    """
    grid = _grid(iou_type, iou_thresholds, areas, max_dets)
    truth = read_truth(annotations, iou_type=iou_type)
    detections = read_detections(results, truth, iou_type=iou_type)
    tables = evaluate(engine, truth, detections, grid)
    shown = _TABLE_THRESHOLDS if iou_thresholds is None else grid.iou_thresholds
    scores: dict[str, Any] = {
        "engine": engine_version(engine),
        "iou_type": iou_type,
        **_headline(tables, grid),
        "by_iou_and_size": _by_iou_and_size(tables, grid, shown),
        "per_class": _per_class(tables, grid, truth),
    }
    if grid != _grid(iou_type, None, None, MAX_DETS):
        scores["parameters"] = {
            "iou_thresholds": list(grid.iou_thresholds),
            "areas": {name: list(limits) for name, limits in grid.areas.items()},
            "max_dets": list(grid.max_dets),
        }
    if class_agnostic_recall:
        pooled = evaluate(engine, *_as_one_category(truth, detections), grid)
        by_size = _by_iou_and_size(pooled, grid, shown)
        scores["class_agnostic_recall"] = {size: row["AR"] for size, row in by_size.items()}
    return scores


def _grid(
    iou_type: str,
    iou_thresholds: tuple[float, ...] | None,
    areas: dict[str, tuple[float, float]] | None,
    max_dets: tuple[int, ...],
) -> Grid:
    if iou_type not in IOU_TYPES:
        raise InputError(unknown_name("iou_type", iou_type, IOU_TYPES))
    thresholds = IOU_THRESHOLDS if iou_thresholds is None else iou_thresholds
    if not len(thresholds) or not all(0 < t <= 1 for t in thresholds):
        raise InputError(f"iou_thresholds {thresholds} must be numbers above 0, at most 1")
    ranges = AREAS if areas is None else {"all": AREAS["all"], **areas}
    if not all(low <= high for low, high in ranges.values()):
        raise InputError(f"areas {ranges} must be (lowest, highest) pairs")
    if not len(max_dets) or not all(m == int(m) and m > 0 for m in max_dets):
        raise InputError(f"max_dets {max_dets} must be whole numbers above 0")
    return Grid(
        iou_type,
        tuple(sorted({float(t) for t in thresholds})),
        {name: (float(low), float(high)) for name, (low, high) in ranges.items()},
        tuple(sorted({int(m) for m in max_dets})),
    )


def _mean(values: np.ndarray) -> float | None:
    there = values[values > -1]
    return float(there.mean()) if there.size else None


def _threshold(grid: Grid, threshold: float) -> list[int]:
    """Where the threshold stands in the grid, with a tolerance: linspace has no exact 0.9."""
    return [t for t, value in enumerate(grid.iou_thresholds) if abs(value - threshold) < 1e-6]


def _headline(tables: Tables, grid: Grid) -> dict[str, float | None]:
    """The benchmark's twelve numbers, and AR at other numbers of results that were asked for."""
    sizes = list(grid.areas)
    precision, recall = tables.precision[..., -1], tables.recall
    whole = sizes.index("all")
    of_size = {size: [sizes.index(size)] if size in sizes else [] for size in AREAS}
    limits = {m: [i for i, n in enumerate(grid.max_dets) if n == m] for m in MAX_DETS}
    limits |= {m: [i] for i, m in enumerate(grid.max_dets)}
    return {
        "AP": _mean(precision[..., whole]),
        "AP50": _mean(precision[_threshold(grid, 0.5)][..., whole]),
        "AP75": _mean(precision[_threshold(grid, 0.75)][..., whole]),
        **{f"AP{s[0]}": _mean(precision[..., of_size[s]]) for s in ("small", "medium", "large")},
        **{f"AR{m}": _mean(recall[:, :, whole][..., at]) for m, at in limits.items()},
        **{f"AR{s[0]}": _mean(recall[..., of_size[s], -1]) for s in ("small", "medium", "large")},
    }


def _by_iou_and_size(
    tables: Tables, grid: Grid, thresholds: tuple[float, ...]
) -> dict[str, dict[str, dict[str, float | None]]]:
    measures = {"AP": tables.precision[..., -1], "AR": tables.recall[..., -1]}
    rows: dict[str, dict[str, dict[str, float | None]]] = {}
    for position, size in enumerate(grid.areas):
        rows[size] = {}
        for measure, values in measures.items():
            of_size = values[..., position]
            rows[size][measure] = {"mean": _mean(of_size)} | {
                f"{100 * t:.6g}": _mean(of_size[_threshold(grid, t)]) for t in thresholds
            }
    return rows


def _per_class(
    tables: Tables, grid: Grid, truth: Truth
) -> dict[str, dict[str, float | int | None]]:
    whole = list(grid.areas).index("all")
    precision, recall = tables.precision[..., whole, -1], tables.recall[..., whole, -1]
    at_50, most = _threshold(grid, 0.5), grid.max_dets[-1]
    counts = np.bincount(truth.categories, minlength=len(truth.names)).tolist()
    return {
        name: {
            "AP": _mean(precision[:, :, k]),
            "AP50": _mean(precision[at_50, :, k]),
            f"AR{most}": _mean(recall[:, k]),
            "annotations": counts[k],
        }
        for k, name in enumerate(truth.names)
    }


def _as_one_category(truth: Truth, detections: Detections) -> tuple[Truth, Detections]:
    """All categories as one, in the order in which pycocotools pools them: by category id."""
    by_truth = np.argsort(truth.categories, kind="stable")
    by_found = np.argsort(detections.categories, kind="stable")
    one_truth = replace(
        truth,
        names=("any",) if truth.names else (),
        category_ids=truth.category_ids[:1],
        **_reordered(truth, by_truth),
        crowd=truth.crowd[by_truth],
    )
    return one_truth, replace(
        detections, **_reordered(detections, by_found), scores=detections.scores[by_found]
    )


def _reordered(columns: Truth | Detections, order: np.ndarray) -> dict[str, Any]:
    masks = columns.masks
    return {
        "images": columns.images[order],
        "categories": np.zeros(len(order), np.int64),
        "boxes": columns.boxes[order],
        "areas": columns.areas[order],
        "masks": None if masks is None else [masks[i] for i in order],
    }
