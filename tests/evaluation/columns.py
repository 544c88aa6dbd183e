"""Made-up ground truth and detections as columns, without files."""

from dataclasses import replace
from typing import Any

import numpy as np
import pycocotools.mask

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import Grid, make_grid

HEIGHT, WIDTH = 48, 64


def random_case(seed: int) -> tuple[GroundTruth, Detections, Grid]:
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
    truth = GroundTruth(
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


def keypoint_case(seed: int) -> tuple[GroundTruth, Detections, Grid]:
    """The same with keypoints: some objects have none labelled, some say so wrongly."""
    truth, detections, grid = random_case(seed)
    random = np.random.default_rng([seed, 3])
    count = 17 if seed % 2 else int(random.integers(1, 12))
    objects, found = len(truth.images), len(detections.images)
    points = np.zeros((objects, count, 3))
    points[..., :2] = (random.integers(0, 9, (objects, count, 2)) / 8) * truth.boxes[:, None, 2:]
    points[..., :2] += truth.boxes[:, None, :2]
    points[..., 2] = random.integers(0, 3, (objects, count)) * (random.random((objects, 1)) < 0.8)
    labelled = (points[..., 2] > 0).sum(axis=1) * (random.random(objects) < 0.9)
    own = random.integers(0, 64, (found, count, 3)).astype(float)
    groups = truth.categories * len(truth.sizes) + truth.images
    for row in np.flatnonzero(random.random(found) < 0.7).tolist():
        group = detections.categories[row] * len(truth.sizes) + detections.images[row]
        there = np.flatnonzero(groups == group)
        if len(there):
            own[row] = points[random.choice(there)]
            own[row, :, :2] += random.choice([0, 0, 1, -2.5], (count, 2))
    options: dict[str, Any] = {"sigmas": (0.2,)} if seed % 3 else {}
    if seed % 4 == 1:
        options |= {"iou_thresholds": (0.05, 0.3, 1.0), "max_dets": (2, 40)}
    if seed % 4 == 2:
        options |= {"areas": {"tiny": (0, 100), "odd": (64, 400)}}
    counts = np.full(len(truth.names), count)
    more: dict[str, Any] = {"labelled": labelled, "keypoint_counts": counts}
    return (
        replace(truth, masks=None, keypoints=points, **more),
        replace(detections, masks=None, keypoints=own),
        make_grid("keypoints", **options),
    )


def ellipse(box: np.ndarray) -> dict[str, Any]:
    rows, columns = np.mgrid[:HEIGHT, :WIDTH] + 0.5
    centre, radii = box[:2] + box[2:] / 2, np.maximum(box[2:], 0.1) / 2
    inside = ((columns - centre[0]) / radii[0]) ** 2 + ((rows - centre[1]) / radii[1]) ** 2 <= 1
    return pycocotools.mask.encode(np.asfortranarray(inside, np.uint8))
