"""Kinds of error and their costs: worked out by hand from the paper, and equal to hotcoco's."""

import os
from pathlib import Path
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
    PART_OF_FIRST,
    SECOND,
    WIDTH,
    by_hotcoco,
    evaluated,
    random_evaluation,
    rle,
)

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[4] / "shared" / "data"))

# At two objects of a class the first found reaches 51 of COCO's 101 recalls, the second 50 more.
HALF = 51 / 101

# (objects, detections, AP50, {kind: (count, cost)}; kinds not named: none, costing nothing)
CASES: dict[str, tuple[Any, Any, float, dict[str, tuple[int, float]]]] = {
    "all found": ([(1, "a", FIRST)], [(1, "a", FIRST, 0.9)], 1.0, {}),
    # a: nothing of one. b: false, right, so 1/2. Mended, the detection is a's, and right.
    "classification": (
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "b", FIRST, 0.9), (1, "b", SECOND, 0.8)],
        0.25,
        {"classification": (1, 0.75)},
    ),
    # The object is found already: mended, the detection would be one too many, and goes.
    "classification of a found object": (
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "a", FIRST, 0.95), (1, "b", FIRST, 0.9), (1, "b", SECOND, 0.8)],
        0.75,
        {"classification": (1, 0.25)},
    ),
    # One of the two is mended, the other goes: one of two objects found.
    "two localisations of one object": (
        [(1, "a", FIRST), (1, "a", SECOND)],
        [(1, "a", PART_OF_FIRST, 0.9), (1, "a", PART_OF_FIRST, 0.8)],
        0.0,
        {"localisation": (2, HALF), "missed": (1, 0.0)},
    ),
    "localisation of a found object": (
        [(1, "a", FIRST), (1, "a", SECOND)],
        [(1, "a", FIRST, 0.9), (1, "a", PART_OF_FIRST, 0.8)],
        HALF,
        {"localisation": (1, 0.0), "missed": (1, 1 - HALF)},
    ),
    # Of two errors that mean one object only the surer is mended; the other goes.
    "localisation and classification of one object": (
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "a", PART_OF_FIRST, 0.9), (1, "b", FIRST, 0.8), (1, "b", SECOND, 0.7)],
        0.25,
        {"localisation": (1, 0.5), "classification": (1, 0.25)},
    ),
    # Class a then has nothing to find and nothing was said of it.
    "both": (
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "b", PART_OF_FIRST, 0.9), (1, "b", SECOND, 0.8)],
        0.25,
        {"both": (1, 0.25), "missed": (1, 0.5)},
    ),
    "duplicate": (
        [(1, "a", FIRST), (1, "a", SECOND)],
        [(1, "a", FIRST, 0.9), (1, "a", (10, 10, 100, 95), 0.8), (1, "a", SECOND, 0.7)],
        HALF + 50 / 101 * 2 / 3,
        {"duplicate": (1, 50 / 101 / 3)},
    ),
    # The paper's bounds include each other: an IoU of exactly 1/2 is a localisation error.
    "duplicate at the threshold": (
        [(1, "a", FIRST)],
        [(1, "a", FIRST, 0.9), (1, "a", (10, 10, 100, 50), 0.8), (1, "a", NOWHERE, 0.1)],
        1.0,
        {"localisation": (1, 0.0), "background": (1, 0.0)},
    ),
    # False, right of two objects: 1/2 up to half the recall. One object fewer: 1/2 at all.
    "background and missed": (
        [(1, "a", FIRST), (2, "a", SECOND)],
        [(1, "a", NOWHERE, 0.9), (1, "a", FIRST, 0.8)],
        HALF / 2,
        {"background": (1, HALF / 2), "missed": (1, 0.5 - HALF / 2)},
    ),
    "in an image without objects": (
        [(1, "a", FIRST)],
        [(1, "a", FIRST, 0.8), (2, "a", FIRST, 0.9)],
        0.5,
        {"background": (1, 0.5)},
    ),
    "of a class without objects": (
        [(1, "a", FIRST)],
        [(1, "a", FIRST, 0.8), (1, "b", NOWHERE, 0.9)],
        1.0,
        {"background": (1, 0.0)},
    ),
    # What a crowd takes is no error; 40 % inside is not taken, and a crowd is no object.
    "beside a crowd": (
        [(1, "a", FIRST), (1, "a", SECOND, "crowd")],
        [(1, "a", FIRST, 0.8), (1, "a", SECOND, 0.9), (1, "a", (120, 10, 50, 50), 0.95)],
        0.5,
        {"background": (1, 0.5)},
    ),
    "nothing said": ([(1, "a", FIRST), (2, "b", FIRST)], [], 0.0, {"missed": (2, 1.0)}),
    "nothing said of one class": (
        [(1, "a", FIRST), (2, "b", FIRST)],
        [(1, "a", FIRST, 0.5)],
        0.5,
        {"missed": (1, 0.5)},
    ),
    # Past 100 results of an image and class nothing counts.
    "too many": (
        [(1, "a", FIRST)],
        [(1, "a", NOWHERE, 0.5 + n / 1000) for n in range(120)] + [(1, "a", FIRST, 0.1)],
        0.0,
        {"background": (100, 0.0), "missed": (1, 0.0)},
    ),
}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
@pytest.mark.parametrize("case", CASES)
def test_costs_are_those_worked_out_by_hand(case: str, iou_type: str) -> None:
    objects, detections, ap, expected = CASES[case]
    told = diagnose(evaluated(objects, detections, iou_type=iou_type))
    assert told["AP50"] == pytest.approx(ap, abs=1e-12)
    for kind, error in told["errors"].items():
        count, cost = expected.get(kind, (0, 0.0))
        assert (error["count"], error["cost"]) == (count, pytest.approx(cost, abs=1e-12)), kind


def test_without_objects_there_are_errors_but_no_costs() -> None:
    told = diagnose(evaluated([(1, "a", FIRST, "crowd")], [(2, "a", FIRST, 0.9)]))
    assert told["AP50"] is None
    assert told["errors"]["background"] == {"count": 1, "cost": None}
    assert told["errors"]["missed"] == {"count": 0, "cost": None}


@pytest.mark.parametrize("seed", range(60))
def test_costs_are_hotcocos_where_there_are_no_crowds_and_no_ties(seed: int) -> None:
    evaluation = random_evaluation(seed, crowds=False, ties=False)
    told, theirs = diagnose(evaluation), by_hotcoco(evaluation).tide_errors(0.5, 0.1)
    names = dict(zip(told["errors"], ("Cls", "Loc", "Both", "Dupe", "Bkg", "Miss"), strict=True))
    truth, said = evaluation.truth.categories, evaluation.detections.categories
    untried = not set(truth.tolist()) <= set(said.tolist())
    for kind, error in told["errors"].items():
        assert error["count"] == theirs["counts"][names[kind]]
        # hotcoco's cost of missing all of a class of which nothing is said is 0.
        if not (kind == "missed" and untried):
            expected = theirs["delta_ap"][names[kind]] if len(truth) else None
            assert error["cost"] == (None if expected is None else pytest.approx(expected))


@pytest.mark.parametrize("seed", range(40))
def test_every_false_detection_and_every_missed_object_is_accounted_for(seed: int) -> None:
    evaluation = random_evaluation(seed)
    told, found = diagnose(evaluation), find_outcomes(evaluation)
    errors = told["errors"]
    false = sum(error["count"] for kind, error in errors.items() if kind != "missed")
    assert false == (found.counted & ~found.hit).sum()
    assert errors["missed"]["count"] <= (found.sought & (found.found_by < 0)).sum()
    ap = evaluation.scores().headline["AP50"]
    assert told["AP50"] == (None if ap is None else pytest.approx(ap, abs=1e-9))
    if ap is not None:
        costs = np.array([error["cost"] for error in errors.values()])
        assert (costs > -1e-9).all() and (costs <= 1 - ap + 1e-9).all()


@pytest.mark.skipif(not (DATA / "oracle").is_dir(), reason=f"no data set at {DATA / 'oracle'}")
def test_errors_of_cocos_own_example() -> None:
    evaluation = evaluate(
        DATA / "oracle" / "gts_val2014_100_bbox_area.json",
        DATA / "oracle" / "instances_val2014_fakebbox100_results.json",
    )
    told, theirs = diagnose(evaluation), by_hotcoco(evaluation).tide_errors(0.5, 0.1)
    errors = told["errors"]
    assert told["AP50"] == pytest.approx(evaluation.scores().headline["AP50"], abs=1e-9)
    counts = {kind: error["count"] for kind, error in errors.items() if error["count"]}
    assert counts == {"classification": 83, "localisation": 1, "duplicate": 1, "missed": 97}
    for kind, name in (("classification", "Cls"), ("localisation", "Loc"), ("duplicate", "Dupe")):
        assert errors[kind]["cost"] == pytest.approx(theirs["delta_ap"][name], abs=1e-9)
    # One of its 70 classes with objects has not a single detection.
    untried = set(evaluation.truth.categories.tolist()) - set(
        evaluation.detections.categories.tolist()
    )
    classes = len(np.unique(evaluation.truth.categories))
    assert len(untried) >= 1
    more = errors["missed"]["cost"] - theirs["delta_ap"]["Miss"]
    assert more == pytest.approx(len(untried) / classes, abs=1e-9)


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
