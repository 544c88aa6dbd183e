"""The two COCO evaluators behind one function: columns in, tables of precision and recall out."""

import contextlib
import importlib.metadata
import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from detnet.coco.ground_truth import GroundTruth
from detnet.errors import InputError
from detnet.evaluation.detections import Columns, Detections, pick_rows
from detnet.evaluation.grid import RECALLS, Grid
from detnet.evaluation.original import (
    categories_of,
    images_of,
    pycocotools_evaluator,
    records_of,
    set_grid,
)
from detnet.evaluation.overlaps import sigmas_of
from detnet.tables import unknown_name


@dataclass(frozen=True)
class Tables:
    """What an evaluator found; -1 where there is nothing to average, as in pycocotools.

    Args:
        precision: (T, 101, K, A, M), at recalls 0, 0.01 … 1.
        recall: (T, K, A, M).
    """

    precision: np.ndarray
    recall: np.ndarray


def run_engine(engine: str, truth: GroundTruth, detections: Detections, grid: Grid) -> Tables:
    """Matches detections to ground truth with the named evaluator.

    Raises:
        InputError: there is no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise InputError(unknown_name("engine", engine, ENGINES))
    if not len(truth.names) or not len(truth.image_ids):
        return _empty_tables(truth, grid)
    counts = truth.keypoint_counts
    try:
        # Both say on standard output, or as warnings, what is already known here.
        with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if counts is None or len(np.unique(counts)) == 1:
                return ENGINES[engine](truth, detections, grid)
            tables = _empty_tables(truth, grid)
            # The evaluators know but one number of keypoints at a time.
            for count in np.unique(counts[counts > 0]).tolist():
                own, sigmas = counts == count, sigmas_of(grid, truth, count)
                of_own = _of(truth, own, count), _of(detections, own, count)
                part = ENGINES[engine](*of_own, replace(grid, sigmas=sigmas))
                tables.precision[:, :, own] = part.precision[:, :, own]
                tables.recall[:, own] = part.recall[:, own]
            return tables
    except ImportError as error:
        raise InputError(_not_usable(engine, error)) from None


def _empty_tables(truth: GroundTruth, grid: Grid) -> Tables:
    thresholds = len(grid.iou_thresholds)
    counts = (len(truth.names), len(grid.areas), len(grid.max_dets))
    precision = -np.ones((thresholds, len(RECALLS), *counts))
    return Tables(precision, -np.ones((thresholds, *counts)))


def _of(columns: Columns, categories: np.ndarray, count: int) -> Columns:
    """What is of these categories (C,), with the first keypoints alone."""
    chosen = pick_rows(columns, np.flatnonzero(categories[columns.categories]))
    assert chosen.keypoints is not None
    return replace(chosen, keypoints=chosen.keypoints[:, :count])


def engine_version(engine: str) -> str:
    """Name and version, as scores.json tells it.

    Raises:
        InputError: there is no such engine, or it is not installed.
    """
    if engine not in ENGINES:
        raise InputError(unknown_name("engine", engine, ENGINES))
    try:
        return f"{engine} {importlib.metadata.version(engine)}"
    except importlib.metadata.PackageNotFoundError as error:
        raise InputError(_not_usable(engine, error)) from None


def _not_usable(engine: str, error: ImportError) -> str:
    others = ", ".join(name for name in ENGINES if name != engine)
    return f"engine {engine} is not usable here ({error}); use {others}"


def _hotcoco(truth: GroundTruth, detections: Detections, grid: Grid) -> Tables:
    # It finds a range by its edges: of two equal ones it would fill the last and leave the other.
    ranges = list(grid.areas.values())
    names = {limits: name for name, limits in reversed(grid.areas.items())}
    distinct = list(dict.fromkeys(ranges))
    place = [distinct.index(limits) for limits in ranges]
    areas = {names[each]: each for each in distinct}
    tables = hotcoco_evaluator(truth, detections, replace(grid, areas=areas)).eval
    return Tables(tables["precision"][:, :, :, place], tables["recall"][:, :, place])


def hotcoco_evaluator(truth: GroundTruth, detections: Detections, grid: Grid) -> Any:
    """Gives hotcoco's `COCOeval` after its work; ids are positions in the columns plus 1.

    Args:
        grid: no two ranges of areas are equal.
    """
    import hotcoco

    if truth.keypoints is not None:
        # It takes no columns of keypoints.
        common = {"images": images_of(truth), "categories": categories_of(truth)}
        ground = hotcoco.COCO({**common, "annotations": records_of(truth)})
        found = hotcoco.COCO({**common, "annotations": records_of(detections)})
        return _run_hotcoco(ground, found, truth, grid)
    ids = np.arange(1, len(truth.images) + 1)
    ground = hotcoco.COCO.from_arrays(
        images_of(truth),
        categories_of(truth),
        truth.images + 1,
        truth.categories + 1,
        truth.boxes,
        ids=ids,
        area=truth.areas,
        iscrowd=truth.crowd.astype(np.int64),
        segmentation=None if truth.masks is None else list(truth.masks),
    )
    rows = np.column_stack(
        [detections.images + 1, detections.boxes, detections.scores, detections.categories + 1]
    )
    found = ground.load_res(rows, segmentation=detections.masks)
    if detections.masks:
        found.update_anns(ids=np.arange(1, len(rows) + 1), area=detections.areas)
    return _run_hotcoco(ground, found, truth, grid)


def _run_hotcoco(ground: Any, found: Any, truth: GroundTruth, grid: Grid) -> Any:
    import hotcoco

    evaluator = hotcoco.COCOeval(ground, found, grid.iou_type)
    if truth.keypoints is not None:
        evaluator.params.kpt_oks_sigmas = list(sigmas_of(grid, truth))
    set_grid(evaluator.params, grid)
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def _pycocotools(truth: GroundTruth, detections: Detections, grid: Grid) -> Tables:
    tables = pycocotools_evaluator(truth, detections, grid).eval
    return Tables(tables["precision"], tables["recall"])


ENGINES: dict[str, Callable[[GroundTruth, Detections, Grid], Tables]] = {
    "hotcoco": _hotcoco,
    "pycocotools": _pycocotools,
}
