"""Matching equals pycocotools' image by image: ties, crowds, areas unlike boxes, own grids, OKS."""

import contextlib
import io
from typing import Any

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation import matching
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import Grid
from detnet.evaluation.matching import Matches, match
from detnet.evaluation.overlaps import sigmas_of
from tests.evaluation.columns import HEIGHT, WIDTH, keypoint_case, random_case


def by_pycocotools(truth: GroundTruth, detections: Detections, grid: Grid) -> list[dict[str, Any]]:
    """`COCOeval.evalImgs`; ids of annotations and results are their positions plus 1."""
    ground, found = COCO(), COCO()
    for coco, columns in ((ground, truth), (found, detections)):
        coco.dataset = {
            "images": [
                {"id": i, "height": HEIGHT, "width": WIDTH} for i in range(len(truth.sizes))
            ],
            "categories": [{"id": k} for k in range(len(truth.names))],
            "annotations": [
                {
                    "id": i + 1,
                    "image_id": int(columns.images[i]),
                    "category_id": int(columns.categories[i]),
                    "bbox": columns.boxes[i].tolist(),
                    "area": float(columns.areas[i]),
                    "iscrowd": int(columns.crowd[i]) if isinstance(columns, GroundTruth) else 0,
                    "score": 0.0 if isinstance(columns, GroundTruth) else float(columns.scores[i]),
                    "segmentation": columns.masks[i] if columns.masks else None,
                    **keypoints_of(columns, i),
                }
                for i in range(len(columns.images))
            ],
        }
        coco.createIndex()
    evaluator = COCOeval(ground, found, grid.iou_type)
    evaluator.params.iouThrs = np.array(grid.iou_thresholds)
    evaluator.params.areaRng = [list(limits) for limits in grid.areas.values()]
    evaluator.params.maxDets = list(grid.max_dets)
    if truth.keypoints is not None:
        evaluator.params.kpt_oks_sigmas = np.array(sigmas_of(grid, truth))
    evaluator.evaluate()
    return evaluator.evalImgs


def keypoints_of(columns: GroundTruth | Detections, row: int) -> dict[str, Any]:
    if columns.keypoints is None:
        return {}
    labelled = columns.labelled if isinstance(columns, GroundTruth) else None
    number = 1 if labelled is None else int(labelled[row])
    return {"keypoints": columns.keypoints[row].ravel().tolist(), "num_keypoints": number}


def check_equal(matches: Matches, expected: list[dict[str, Any]], images: int) -> int:
    """Compares every image, category and area range; returns how many were not empty."""
    positions = {int(row): d for d, row in enumerate(matches.rows)}
    sizes, seen, compared = len(matches.grid.areas), 0, 0
    for index, image in enumerate(expected):
        if image is None:
            continue
        size = index // images % sizes
        order = [positions[i - 1] for i in image["dtIds"]]
        assert matches.ranks[order].tolist() == list(range(len(order)))
        assert matches.scores[order].tolist() == image["dtScores"]
        np.testing.assert_array_equal(matches.matched[size][:, order] + 1, image["dtMatches"])
        np.testing.assert_array_equal(matches.ignored[size][:, order], image["dtIgnore"])
        objects = np.array(image["gtIds"], int) - 1
        np.testing.assert_array_equal(matches.truth_ignored[size][objects], image["gtIgnore"])
        compared += 1
        seen += len(order)
    assert seen == len(matches.rows) * sizes
    return compared


@pytest.mark.parametrize("at_once", [matching._PAIRS_AT_ONCE, 7])
def test_matches_are_those_of_pycocotools(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", at_once)
    compared = found = 0
    for seed in range(240):
        truth, detections, grid = random_case(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            expected = by_pycocotools(truth, detections, grid)
        matches = match(truth, detections, grid)
        compared += check_equal(matches, expected, len(truth.sizes))
        found += int((matches.matched >= 0).sum())
    assert compared > 5000 and found > 20_000  # the cases say something


@pytest.mark.parametrize("at_once", [matching._PAIRS_AT_ONCE, 7])
def test_matches_of_keypoints_are_those_of_pycocotools(
    at_once: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matching, "_PAIRS_AT_ONCE", at_once)
    found = needless = 0
    for seed in range(80):
        truth, detections, grid = keypoint_case(seed)
        with contextlib.redirect_stdout(io.StringIO()):
            expected = by_pycocotools(truth, detections, grid)
        matches = match(truth, detections, grid)
        check_equal(matches, expected, len(truth.sizes))
        found += int(((matches.matched >= 0) & ~matches.ignored).sum())
        needless += int((matches.truth_ignored[0] & ~truth.crowd).sum())
    assert found > 2000 and needless > 200  # the cases say something


def test_detections_stand_as_precision_is_accumulated() -> None:
    truth, detections, grid = random_case(1)
    matches = match(truth, detections, grid)
    keys = [matches.categories, -matches.scores, matches.images, matches.ranks]
    np.testing.assert_array_equal(np.lexsort(keys[::-1]), np.arange(len(matches.rows)))
    assert len(matches.rows) == len(detections.images) > 10
    np.testing.assert_array_equal(detections.scores[matches.rows], matches.scores)
