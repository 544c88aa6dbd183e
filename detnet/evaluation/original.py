"""The original evaluator, pycocotools, and records where an evaluator takes no columns."""

from typing import Any

import numpy as np

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import RECALLS, Grid
from detnet.evaluation.overlaps import sigmas_of


def pycocotools_evaluator(truth: GroundTruth, detections: Detections, grid: Grid) -> Any:
    """Gives pycocotools' `COCOeval` after its work."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    ground, found = COCO(), COCO()
    for coco, columns in ((ground, truth), (found, detections)):
        coco.dataset = {
            "images": images_of(truth),
            "categories": categories_of(truth),
            "annotations": records_of(columns),
        }
        coco.createIndex()
    evaluator = COCOeval(ground, found, grid.iou_type)
    set_grid(evaluator.params, grid)
    if truth.keypoints is not None:
        evaluator.params.kpt_oks_sigmas = np.array(sigmas_of(grid, truth))
    evaluator.evaluate()
    evaluator.accumulate()
    return evaluator


def set_grid(params: Any, grid: Grid) -> None:
    """Sets the same grid on either evaluator's parameters, which share these names."""
    params.iouThrs = list(grid.iou_thresholds)
    params.recThrs = RECALLS.tolist()
    params.areaRng = [list(limits) for limits in grid.areas.values()]
    params.areaRngLbl = list(grid.areas)
    params.maxDets = list(grid.max_dets)


def images_of(truth: GroundTruth) -> list[dict[str, Any]]:
    """The images as either evaluator takes them; ids are positions in the columns plus 1."""
    return [
        {"id": i, "height": height, "width": width, "file_name": ""}
        for i, (height, width) in enumerate(truth.sizes.tolist(), 1)
    ]


def categories_of(truth: GroundTruth) -> list[dict[str, Any]]:
    """The categories likewise."""
    return [{"id": k, "name": name} for k, name in enumerate(truth.names, 1)]


def records_of(columns: GroundTruth | Detections) -> list[dict[str, Any]]:
    """COCO annotations, their ids from 1: pycocotools takes 0 for "not matched"."""
    count = len(columns.images)
    crowd = columns.crowd if isinstance(columns, GroundTruth) else np.zeros(count, bool)
    scores = np.zeros(count) if isinstance(columns, GroundTruth) else columns.scores
    masks = columns.masks if columns.masks is not None else [None] * count
    rows = zip(
        (columns.images + 1).tolist(),
        (columns.categories + 1).tolist(),
        columns.boxes.tolist(),
        columns.areas.tolist(),
        crowd.astype(int).tolist(),
        scores.tolist(),
        masks,
        strict=True,
    )
    names = ("image_id", "category_id", "bbox", "area", "iscrowd", "score", "segmentation")
    records = [{"id": i, **dict(zip(names, row, strict=True))} for i, row in enumerate(rows, 1)]
    if columns.keypoints is not None:
        points = columns.keypoints
        labelled = (
            columns.labelled if isinstance(columns, GroundTruth) else (points[..., 2] > 0).sum(1)
        )
        assert labelled is not None  # comes with the keypoints
        flat = points.reshape(count, 3 * points.shape[1]).tolist()
        for record, values, number in zip(records, flat, labelled.tolist(), strict=True):
            del record["segmentation"]
            record |= {"keypoints": values, "num_keypoints": int(number)}
    return records
