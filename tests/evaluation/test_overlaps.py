"""Overlaps are pycocotools' own, every bit of them."""

from dataclasses import replace

import numpy as np
import pycocotools.mask
import pytest
from pycocotools.cocoeval import COCOeval

from detnet.errors import InputError
from detnet.evaluation.grid import make_grid
from detnet.evaluation.overlaps import box_overlaps, keypoint_overlaps, overlaps_of, sigmas_of
from tests.evaluation.columns import keypoint_case, random_case


def test_boxes() -> None:
    random = np.random.default_rng(0)
    for _ in range(30):
        truth, detections, _ = random_case(1)
        boxes = random.uniform(0, 50, (2, 400, 4))
        crowd = random.random(400) < 0.3
        truth = replace(truth, boxes=boxes[0], crowd=crowd)
        detections = replace(detections, boxes=boxes[1])
        ious = pycocotools.mask.iou(boxes[1], boxes[0], crowd.astype(int).tolist())
        rows, objects = (each.ravel() for each in np.mgrid[:400, :400])
        ours = box_overlaps(truth, detections, rows, objects)
        np.testing.assert_array_equal(ours.reshape(400, 400), ious)


def test_keypoints() -> None:
    compared = unlabelled = 0
    for seed in range(60):
        truth, detections, grid = keypoint_case(seed)
        assert truth.keypoints is not None and detections.keypoints is not None
        if not len(truth.images) or not len(detections.images):
            continue
        sigmas = np.array(sigmas_of(grid, truth))
        evaluator = COCOeval(iouType="keypoints")
        evaluator.params.kpt_oks_sigmas = sigmas
        evaluator.params.maxDets = [1000]
        evaluator._gts[0, 0] = [
            {"keypoints": points.ravel(), "bbox": box, "area": area}
            for points, box, area in zip(truth.keypoints, truth.boxes, truth.areas, strict=True)
        ]
        evaluator._dts[0, 0] = [
            {"keypoints": points.ravel(), "score": 1.0} for points in detections.keypoints
        ]
        theirs = evaluator.computeOks(0, 0)
        rows, objects = (each.ravel() for each in np.indices(theirs.shape))
        ours = keypoint_overlaps(truth, detections, rows, objects, sigmas={len(sigmas): sigmas})
        np.testing.assert_array_equal(ours.reshape(theirs.shape), theirs)
        compared += int(((theirs > 0.1) & (theirs < 1)).sum())
        unlabelled += int((~(truth.keypoints[..., 2] > 0).any(axis=1)).sum())
    assert compared > 1000 and unlabelled > 50  # the cases say something


def test_sigmas_of_another_number() -> None:
    truth, _, _ = keypoint_case(1)
    with pytest.raises(InputError, match="2 are given for 17 keypoints"):
        overlaps_of(truth, make_grid("keypoints", sigmas=(0.1, 0.2)))
