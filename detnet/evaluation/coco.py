"""COCO's average precision and recall, by IoU threshold and object size: all the paper's tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from detnet.evaluation.engines import Tables, engine_version, run_engine, sigmas_of
from detnet.evaluation.grid import Grid, make_grid
from detnet.evaluation.normalise import (
    Detections,
    Truth,
    TruthSource,
    fingerprint,
    read_detections,
    read_truth,
)
from detnet.files import no_collection

# The benchmark's twelve numbers, in its order.
HEADLINE = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
# Those of keypoints, which have no small objects and one number of results, 20.
KEYPOINT_HEADLINE = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")

_FEW_IMAGES = 0.5  # share of annotated images, below which results may be of another data set


@dataclass(frozen=True)
class Evaluation:
    """One matching of detections to ground truth, from which every number is read.

    Args:
        tables: precision and recall over the grid.
        engine: name and version of the evaluator.
        evaluator: `hotcoco.COCOeval` after evaluate() and accumulate(), in which every id is a
            position in `truth` or `detections` plus 1; None where pycocotools did the work or
            there is no image or no category.
    """

    truth: Truth
    detections: Detections
    grid: Grid
    tables: Tables
    engine: str
    evaluator: Any

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes the numbers say less than they seem to, a sentence each."""
        images = len(self.truth.image_ids)
        annotated = np.bincount(self.truth.images, minlength=images) > 0
        if not annotated.any():
            return ("the ground truth has no annotations: nothing can be scored",)
        answered = (annotated & (np.bincount(self.detections.images, minlength=images) > 0)).sum()
        if answered >= _FEW_IMAGES * annotated.sum():
            return ()
        return (
            f"there are results for only {answered} of the {annotated.sum()} images with "
            "annotations; on the others everything counts as missed",
        )

    def scores(self, *, class_agnostic_recall: bool = False) -> dict[str, Any]:
        """The scores of scores.json, which docs/measures.md explains.

        Args:
            class_agnostic_recall: adds "class_agnostic_recall", AR with all categories taken as
                one, and "class_agnostic_recall@300" for other numbers of results. That matches
                once more.
        """
        tables, grid = self.tables, self.grid
        scores: dict[str, Any] = {
            "engine": self.engine,
            "iou_type": grid.iou_type,
            **_headline(tables, grid),
            "by_iou_and_size": _by_iou_and_size(tables, grid),
            "per_class": _per_class(tables, grid, self.truth),
            "ground_truth": fingerprint(self.truth),
            "ground_truth_taken": self.truth.taken,
        }
        if grid.iou_type == "keypoints":
            scores["sigmas"] = list(sigmas_of(grid, self.truth))
        if not grid.is_coco:
            scores["parameters"] = {
                "iou_thresholds": list(grid.iou_thresholds),
                "areas": {name: list(limits) for name, limits in grid.areas.items()},
                "max_dets": list(grid.max_dets),
            }
        if self.notes:
            scores["notes"] = list(self.notes)
        if class_agnostic_recall:
            pooled = _as_one_category(self.truth, self.detections)
            tables, _ = run_engine(self.engine.split()[0], *pooled, grid)
            for measure, rows in _by_measure(_by_iou_and_size(tables, grid)).items():
                if measure.startswith("AR"):
                    scores[measure.replace("AR", "class_agnostic_recall")] = rows
        return scores


def evaluate(
    annotations: TruthSource,
    results: Path | str | list[dict[str, Any]],
    *,
    iou_type: str = "bbox",
    engine: str = "hotcoco",
    iou_thresholds: Iterable[float] = (),
    areas: Mapping[str, tuple[float, float]] | None = None,
    max_dets: Iterable[int] = (),
    sigmas: Iterable[float] = (),
) -> Evaluation:
    """Matches detections to ground truth as the COCO benchmark does.

    Args:
        annotations: COCO ground truth: a file, its content, or a `Truth` read for the same kind.
        results: COCO results, a file or its records; both are left as they are.
        iou_type: "bbox", "segm" or "keypoints"; for keypoints OKS stands for IoU.
        engine: "hotcoco", or "pycocotools", the slow original; both give the same numbers.
        iou_thresholds: added to COCO's 0.50, 0.55 … 0.95, over which alone means are taken.
        areas: ranges of area in pixels by name, both ends included, added to COCO's four.
        max_dets: numbers of best-scored results per image and category, added to 1, 10, 100, or to
            keypoints' 20.
        sigmas: for keypoints, how far off each may be in OKS, relative to the object's size: one
            for all, or one for each; by default COCO's for 17 keypoints, else 0.05.

    Raises:
        InputError: a file, a record or an argument cannot be used.
    """
    grid = make_grid(
        iou_type, iou_thresholds=iou_thresholds, areas=areas, max_dets=max_dets, sigmas=sigmas
    )
    version = engine_version(engine)
    with no_collection():
        truth = read_truth(annotations, iou_type=iou_type)
        detections = read_detections(results, truth, iou_type=iou_type)
    tables, evaluator = run_engine(engine, truth, detections, grid)
    return Evaluation(truth, detections, grid, tables, version, evaluator)


def score(
    annotations: TruthSource,
    results: Path | str | list[dict[str, Any]],
    *,
    iou_type: str = "bbox",
    engine: str = "hotcoco",
    iou_thresholds: Iterable[float] = (),
    areas: Mapping[str, tuple[float, float]] | None = None,
    max_dets: Iterable[int] = (),
    sigmas: Iterable[float] = (),
    class_agnostic_recall: bool = False,
) -> dict[str, Any]:
    """Scores detections against ground truth as the COCO benchmark does.

    Precision is averaged over 101 recalls, then over categories that have ground truth; every AP
    allows 100 results per image and category unless its key tells another number.

    Args:
        annotations, results, iou_type, engine, iou_thresholds, areas, max_dets, sigmas: as
            `evaluate`.
        class_agnostic_recall: adds "class_agnostic_recall", AR with all categories taken as one.

    Returns:
        The scores of scores.json, fractions, None where there is no ground truth to be averaged.
        Own thresholds are further keys of "by_iou_and_size", own areas further rows, own numbers
        of results, say 300, "AR300" at the top and "AP@300" and "AR@300" in every row; they are
        told under "parameters". "annotations" counts crowds, too.

    Raises:
        InputError: a file, a record or an argument cannot be used.

    Paper: Li et al. 2018, arXiv:1804.06215, Tables 3 and 4, for `by_iou_and_size`.
    """
    evaluation = evaluate(
        annotations,
        results,
        iou_type=iou_type,
        engine=engine,
        iou_thresholds=iou_thresholds,
        areas=areas,
        max_dets=max_dets,
        sigmas=sigmas,
    )
    return evaluation.scores(class_agnostic_recall=class_agnostic_recall)


def _mean(values: np.ndarray) -> float | None:
    there = values[values > -1]
    return float(there.mean()) if there.size else None


def _headline(tables: Tables, grid: Grid) -> dict[str, float | None]:
    """The benchmark's twelve numbers, and AR at other numbers of results that were asked for."""
    if grid.iou_type == "keypoints":
        return _keypoint_headline(tables, grid)
    sizes, ten, most = list(grid.areas), grid.coco_thresholds, grid.coco_most
    precision, recall = tables.precision[..., most], tables.recall[ten]
    whole = sizes.index("all")
    of_size = {name[0]: sizes.index(name) for name in ("small", "medium", "large")}
    further = [f"AR{m}" for m in grid.further_max_dets]
    recalls = {f"AR{m}": _mean(recall[:, :, whole, i]) for i, m in enumerate(grid.max_dets)}
    return {
        "AP": _mean(precision[ten][..., whole]),
        "AP50": _mean(precision[grid.threshold(0.5)][..., whole]),
        "AP75": _mean(precision[grid.threshold(0.75)][..., whole]),
        **{f"AP{s}": _mean(precision[ten][..., at]) for s, at in of_size.items()},
        **{key: value for key, value in recalls.items() if key not in further},
        **{f"AR{s}": _mean(recall[..., at, most]) for s, at in of_size.items()},
        **{key: recalls[key] for key in further},
    }


def _keypoint_headline(tables: Tables, grid: Grid) -> dict[str, float | None]:
    """The ten numbers of COCO's keypoints, and AR at other numbers of results."""
    sizes, ten = list(grid.areas), grid.coco_thresholds
    measures = {}
    for measure, table in (("AP", tables.precision), ("AR", tables.recall)):
        values = table[..., grid.coco_most]
        whole = values[..., sizes.index("all")]
        measures[measure] = _mean(whole[ten])
        measures[f"{measure}50"] = _mean(whole[grid.threshold(0.5)])
        measures[f"{measure}75"] = _mean(whole[grid.threshold(0.75)])
        for size in ("medium", "large"):
            measures[f"{measure}{size[0]}"] = _mean(values[ten][..., sizes.index(size)])
    recall = tables.recall[ten][:, :, sizes.index("all")]
    return measures | {
        f"AR@{number}": _mean(recall[..., at]) for number, at in grid.further_max_dets.items()
    }


def _by_iou_and_size(tables: Tables, grid: Grid) -> dict[str, dict[str, dict[str, float | None]]]:
    """AP and AR of every size, then AP@m and AR@m for other numbers of results m."""
    limits = {"": grid.coco_most} | {f"@{m}": i for m, i in grid.further_max_dets.items()}
    measures = {
        f"{measure}{limit}": values[..., at]
        for limit, at in limits.items()
        for measure, values in (("AP", tables.precision), ("AR", tables.recall))
    }
    return {
        size: {
            measure: _by_threshold(values[..., position], grid)
            for measure, values in measures.items()
        }
        for position, size in enumerate(grid.areas)
    }


def _by_threshold(values: np.ndarray, grid: Grid) -> dict[str, float | None]:
    row = {"mean": _mean(values[grid.coco_thresholds])}
    return row | {name: _mean(values[t]) for name, t in grid.shown_thresholds.items()}


def _by_measure(by_size: dict[str, dict[str, Any]]) -> dict[str, dict[str, Any]]:
    measures = next(iter(by_size.values()))
    return {measure: {size: row[measure] for size, row in by_size.items()} for measure in measures}


def _per_class(
    tables: Tables, grid: Grid, truth: Truth
) -> dict[str, dict[str, float | int | None]]:
    whole, most, ten = list(grid.areas).index("all"), grid.coco_most, grid.coco_thresholds
    precision, recall = tables.precision[..., whole, most], tables.recall[..., whole, most]
    recall_name = "AR" if grid.iou_type == "keypoints" else "AR100"
    counts = np.bincount(truth.categories, minlength=len(truth.names)).tolist()
    return {
        name: {
            "AP": _mean(precision[ten, :, k]),
            "AP50": _mean(precision[grid.threshold(0.5), :, k]),
            recall_name: _mean(recall[ten, k]),
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
    masks, points = columns.masks, columns.keypoints
    more = {}
    if isinstance(columns, Truth):
        for name in ("labelled", "difficult"):
            values = getattr(columns, name)
            more[name] = None if values is None else values[order]
    return more | {
        "images": columns.images[order],
        "categories": np.zeros(len(order), np.int64),
        "boxes": columns.boxes[order],
        "areas": columns.areas[order],
        "masks": None if masks is None else [masks[i] for i in order],
        "keypoints": None if points is None else points[order],
    }
