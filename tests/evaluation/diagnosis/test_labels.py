"""Confusion and likely label errors on cases whose answer one can see."""

from typing import Any

import numpy as np
import pytest

from detnet.evaluation.coco import evaluate
from detnet.evaluation.diagnosis.diagnose import diagnose
from detnet.evaluation.diagnosis.outcomes import find_outcomes
from tests.evaluation.diagnosis.cases import (
    FIRST,
    HEIGHT,
    NOWHERE,
    SECOND,
    WIDTH,
    evaluated,
    random_evaluation,
    rle,
)


def confusion_of(objects: Any, detections: Any, **options: Any) -> list[list[int]]:
    told = diagnose(evaluated(objects, detections, **options))["confusion"]
    assert told["names"] == ["a", "b", "background"]
    return told["matrix"]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_confusion_counts_what_objects_were_taken_for(iou_type: str) -> None:
    objects = [(1, "a", FIRST), (1, "b", SECOND), (2, "b", FIRST), (2, "b", SECOND)]
    detections = [
        (1, "a", FIRST, 0.9),
        (1, "a", SECOND, 0.8),  # b taken for a
        (2, "b", NOWHERE, 0.7),  # nothing taken for b
        (2, "b", FIRST, 0.4),  # not sure enough: missed
    ]
    matrix = confusion_of(objects, detections, iou_type=iou_type)
    assert matrix == [[1, 0, 0], [1, 0, 2], [0, 1, 0]]


def test_what_the_evaluation_matched_is_not_confused() -> None:
    # Each detection overlaps the other class's object a bit more than its own.
    objects = [(1, "a", FIRST), (1, "b", (10, 10, 100, 90))]
    detections = [(1, "a", (10, 10, 100, 92), 0.9), (1, "b", (10, 10, 100, 96), 0.8)]
    assert confusion_of(objects, detections) == [[1, 0, 0], [0, 1, 0], [0, 0, 0]]


def test_detections_in_a_crowd_are_not_confused() -> None:
    objects = [(1, "a", FIRST), (1, "a", SECOND, "crowd")]
    detections = [(1, "a", SECOND, 0.9), (1, "a", FIRST, 0.8)]
    assert confusion_of(objects, detections) == [[1, 0, 0], [0, 0, 0], [0, 0, 0]]


def test_the_surest_detection_is_the_one_confused() -> None:
    objects = [(1, "a", FIRST)]
    detections = [(1, "b", FIRST, 0.7), (1, "b", (10, 10, 100, 95), 0.8)]
    assert confusion_of(objects, detections) == [[0, 1, 0], [0, 0, 0], [0, 1, 0]]


@pytest.mark.parametrize("seed", range(40))
def test_confusion_counts_every_object_and_every_sure_detection_once(seed: int) -> None:
    evaluation = random_evaluation(seed)
    found, told = find_outcomes(evaluation), diagnose(evaluation)
    matrix = np.array(told["confusion"]["matrix"])
    classes = len(evaluation.truth.names)
    sure = found.counted & (evaluation.detections.scores >= 0.5)
    for counted, categories, marked in (
        (matrix.sum(1), evaluation.truth.categories, found.sought),
        (matrix.sum(0), evaluation.detections.categories, sure),
    ):
        expected = np.bincount(categories[marked], minlength=classes)
        np.testing.assert_array_equal(counted[:-1], expected)
    assert matrix[-1, -1] == 0
    images = told["images"].values()
    assert sum(image["found"] for image in images) == np.trace(matrix)
    assert sum(image["missed"] for image in images) == matrix[:-1].sum() - np.trace(matrix)
    assert sum(image["false"] for image in images) == matrix.sum(0)[:-1].sum() - np.trace(matrix)


def label_errors_of(objects: Any, detections: Any, **options: Any) -> list[dict[str, Any]]:
    return diagnose(evaluated(objects, detections, **options))["label_errors"]


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_label_errors_are_sure_detections_that_the_labels_contradict(iou_type: str) -> None:
    objects = [(1, "a", FIRST), (1, "b", SECOND), (2, "b", SECOND, "crowd")]
    detections = [
        (1, "b", FIRST, 0.8),
        (1, "b", (10, 10, 100, 95), 0.7),  # the same object again
        (1, "b", SECOND, 0.9),  # right
        (1, "a", SECOND, 0.95),  # wrong, but something found this object as it is labelled
        (1, "a", NOWHERE, 0.99),
        (1, "b", (200, 150, 20, 18), 0.6),  # the same nothing again
        (2, "a", NOWHERE, 0.4),  # not sure enough
        (2, "a", SECOND, 0.99),  # there is something: a crowd
    ]
    listed = label_errors_of(objects, detections, iou_type=iou_type)
    assert listed == [
        {
            "image_id": 1,
            "kind": "unlabelled",
            "score": 0.99,
            "detected": "a",
            "labelled": None,
            "box": list(map(float, NOWHERE)),
            "iou": 0.0,
        },
        {
            "image_id": 1,
            "kind": "wrong class",
            "score": 0.8,
            "detected": "b",
            "labelled": "a",
            "box": list(map(float, FIRST)),
            "iou": 1.0,
        },
    ]


def test_masks_are_compared_as_masks() -> None:
    left = np.zeros((HEIGHT, WIDTH), np.uint8)
    left[10:110, 10:60] = 1
    right = np.zeros_like(left)
    right[10:110, 60:110] = 1
    left[109, 109] = right[10, 10] = 1  # so that both have the same box
    one = {"image_id": 7, "bbox": [10, 10, 100, 100]}
    truth = {
        "images": [{"id": 7, "height": HEIGHT, "width": WIDTH}],
        "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
        "annotations": [{**one, "id": 1, "category_id": 1, "segmentation": rle(left)}],
    }
    results = [{**one, "category_id": 2, "segmentation": rle(right), "score": 0.9}]
    kinds = {
        iou_type: [
            error["kind"]
            for error in diagnose(evaluate(truth, results, iou_type=iou_type))["label_errors"]
        ]
        for iou_type in ("bbox", "segm")
    }
    assert kinds == {"bbox": ["wrong class"], "segm": ["unlabelled"]}


def test_at_most_200_label_errors_the_surest() -> None:
    corners = [(x, y) for x in range(0, 290, 15) for y in range(0, 190, 15)]
    detections = [
        (1 + n % 3, "a", (x, y, 10, 10), 0.5 + n / 1000) for n, (x, y) in enumerate(corners)
    ]
    assert len(detections) > 200
    listed = label_errors_of([], detections, images=3)
    scores = [error["score"] for error in listed]
    assert scores == sorted((d[3] for d in detections), reverse=True)[:200]
