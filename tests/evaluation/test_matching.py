"""Matching equals pycocotools' image by image: ties, crowds, areas unlike boxes, own grids."""

import contextlib
import io
from dataclasses import replace
from typing import Any

import numpy as np
import pycocotools.mask
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detnet.evaluation import matching
from detnet.evaluation.grid import Grid, make_grid
from detnet.evaluation.matching import Matches, match
from detnet.evaluation.normalise import Detections, Truth

HEIGHT, WIDTH = 48, 64


def random_case(seed: int) -> tuple[Truth, Detections, Grid]:
    """Coarse boxes and scores, so that both often tie; some images and categories are empty."""
    random = np.random.default_rng(seed)
    masks = seed % 4 == 0
    images, categories = int(random.integers(1, 6)), int(random.integers(1, 4))
    objects = int(random.integers(0, 30)) * (seed % 11 > 0)
    found = int(random.integers(0, 70)) * (seed % 13 > 0)

    def boxes(count: int) -> np.ndarray:
        corners = random.integers(0, [WIDTH // 8, HEIGHT // 8], (count, 2)) * 4.0
        return np.concatenate([corners, random.integers(0, 7, (count, 2)) * 4.0], 1)

    truth_boxes, found_boxes = boxes(objects), boxes(found)
    owners = random.integers(0, images, (2, max(objects, found)))
    kinds = random.integers(0, categories, (2, max(objects, found)))
    near = random.random(found) < 0.7
    if objects:
        source = random.integers(0, objects, found)
        shift = random.choice([-2, -1, 0, 0, 0, 0.3, 1], (found, 4))
        found_boxes[near] = np.maximum(truth_boxes[source] + shift, 0)[near]
        owners[1, :found][near] = owners[0][source[near]]
        kinds[1, :found][near] = kinds[0][source[near]]
    truth = Truth(
        sizes=np.tile([[HEIGHT, WIDTH]], (images, 1)),
        names=tuple(f"class {k}" for k in range(categories)),
        image_ids=np.arange(images) * 7,
        category_ids=np.arange(categories) * 3,
        images=owners[0, :objects],
        categories=kinds[0, :objects],
        boxes=truth_boxes,
        areas=truth_boxes[:, 2] * truth_boxes[:, 3] * random.choice([0.5, 1, 3], objects),
        crowd=random.random(objects) < 0.2,
        masks=[ellipse(box) for box in truth_boxes] if masks else None,
    )
    detections = Detections(
        images=owners[1, :found],
        categories=kinds[1, :found],
        boxes=found_boxes,
        areas=found_boxes[:, 2] * found_boxes[:, 3],
        scores=random.integers(0, 8, found) / 8,
        masks=[ellipse(box) for box in found_boxes] if masks else None,
    )
    options: dict[str, Any] = {}
    if seed % 3 == 1:
        options = {"iou_thresholds": (0.05, 0.3, 1.0), "max_dets": (300, 2)}
    if seed % 3 == 2:
        options = {"areas": {"tiny": (0, 100), "odd": (64, 400)}}
    grid = make_grid("segm" if masks else "bbox", **options)
    return truth, detections, replace(grid, max_dets=(1, 3)) if seed % 5 == 0 else grid


def ellipse(box: np.ndarray) -> dict[str, Any]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    centre, radii = box[:2] + box[2:] / 2, np.maximum(box[2:], 0.1) / 2
    inside = ((columns - centre[0]) / radii[0]) ** 2 + ((rows - centre[1]) / radii[1]) ** 2 <= 1
    return pycocotools.mask.encode(np.asfortranarray(inside, np.uint8))


def by_pycocotools(truth: Truth, detections: Detections, grid: Grid) -> list[dict[str, Any]]:
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
                    "iscrowd": int(columns.crowd[i]) if isinstance(columns, Truth) else 0,
                    "score": 0.0 if isinstance(columns, Truth) else float(columns.scores[i]),
                    "segmentation": columns.masks[i] if columns.masks else None,
                }
                for i in range(len(columns.images))
            ],
        }
        coco.createIndex()
    evaluator = COCOeval(ground, found, grid.iou_type)
    evaluator.params.iouThrs = np.array(grid.iou_thresholds)
    evaluator.params.areaRng = [list(limits) for limits in grid.areas.values()]
    evaluator.params.maxDets = list(grid.max_dets)
    evaluator.evaluate()
    return evaluator.evalImgs


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


def test_box_overlaps_are_those_of_pycocotools_to_the_last_bit() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        truth, detections, _ = random_case(1)
        boxes = random.uniform(0, 50, (2, 400, 4))
        crowd = random.random(400) < 0.3
        truth = replace(truth, boxes=boxes[0], crowd=crowd)
        detections = replace(detections, boxes=boxes[1])
        ious = pycocotools.mask.iou(boxes[1], boxes[0], crowd.astype(int).tolist())
        rows, objects = (each.ravel() for each in np.mgrid[:400, :400])
        ours = matching._box_overlaps(truth, detections, rows, objects)
        np.testing.assert_array_equal(ours.reshape(400, 400), ious)


def test_detections_stand_as_precision_is_accumulated() -> None:
    truth, detections, grid = random_case(1)
    matches = match(truth, detections, grid)
    keys = [matches.categories, -matches.scores, matches.images, matches.ranks]
    np.testing.assert_array_equal(np.lexsort(keys[::-1]), np.arange(len(matches.rows)))
    assert len(matches.rows) == len(detections.images) > 10
    np.testing.assert_array_equal(detections.scores[matches.rows], matches.scores)
