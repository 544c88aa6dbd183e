"""OKS through both engines is pycocotools' own on untouched records; bad keypoints are one line."""

import contextlib
import copy
import io
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest

from detnet.coco.keypoints import COCO_SIGMAS, default_sigmas
from detnet.errors import InputError
from detnet.evaluation.coco import evaluate, score
from detnet.evaluation.comparison.accumulation import accumulate
from detnet.evaluation.grid import Grid
from detnet.evaluation.matching import match
from detnet.evaluation.metrics import names_of

Record = dict[str, Any]


@dataclass
class Case:
    truth: dict[str, Any]
    results: list[Record]
    options: dict[str, Any] = field(default_factory=dict)


def random_case(seed: int) -> Case:
    """Results near and far, ties of scores, crowds, objects without keypoints, more than 20 results
    of an image, 17 keypoints or another number, results with boxes and without."""
    random = np.random.default_rng([seed, 9])
    count = 17 if seed % 2 else int(random.integers(1, 7))
    images = random.choice(10**12, int(random.integers(1, 5)), replace=False).tolist()
    kinds = random.choice(90, int(random.integers(1, 3)), replace=False).tolist()
    truth = [_annotation(random, i, images, kinds, count) for i in range(seed % 13)]
    levels = int(random.choice([1, 5, 1000]))
    results = []
    for _ in range(int(random.integers(0, 60 if seed % 3 else 12))):
        near = truth[int(random.integers(len(truth)))] if truth and random.random() < 0.8 else None
        base = near or _annotation(random, 0, images, kinds, count)
        points = np.array(base["keypoints"], float).reshape(-1, 3)
        points[:, :2] += random.normal(0, random.choice([0, 1, 4]), (count, 2)).round(2)
        record = {key: base[key] for key in ("image_id", "category_id")}
        record |= {"keypoints": points.ravel().tolist(), "bbox": base["bbox"]}
        results.append(record | {"score": int(random.integers(levels)) / levels})
    if seed % 4:
        for record in results:
            del record["bbox"]
    names = [f"point {i}" for i in range(count)]
    options: dict[str, Any] = {"sigmas": [0.1]} if seed % 5 == 0 else {}
    if seed % 5 == 1:
        options = {"iou_thresholds": (0.3,), "areas": {"odd": (100, 2000)}, "max_dets": (3, 40)}
    size = {"height": 200, "width": 300}
    return Case(
        {
            "images": [{"id": image, **size} for image in images],
            "annotations": truth,
            "categories": [{"id": k, "name": f"class {k}", "keypoints": names} for k in kinds],
        },
        results,
        options,
    )


def _annotation(
    random: np.random.Generator, number: int, images: list[int], kinds: list[int], count: int
) -> Record:
    corner, sides = random.integers(0, 100, 2), random.integers(10, 150, 2)
    points = np.zeros((count, 3))
    points[:, :2] = corner + (random.random((count, 2)) * sides).round(1)
    points[:, 2] = random.integers(0, 3, count) * (random.random() < 0.8)
    points[points[:, 2] == 0] = 0
    record = {
        "id": number,
        "image_id": images[int(random.integers(len(images)))],
        "category_id": kinds[int(random.integers(len(kinds)))],
        "bbox": [*corner.tolist(), *sides.tolist()],
        "area": float(random.choice([0.6 * sides.prod(), 32.0**2, 96.0**2], p=[0.8, 0.1, 0.1])),
        "iscrowd": int(random.random() < 0.1),
        "keypoints": points.ravel().tolist(),
    }
    if random.random() < 0.7:
        record["num_keypoints"] = int((points[:, 2] > 0).sum())
    return record


def by_hand(case: Case, grid: Grid, sigmas: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """What pycocotools says, around its traps: id 0, a missing number of labelled keypoints."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = copy.deepcopy(case.truth)
    for number, annotation in enumerate(truth["annotations"], 1):
        annotation["id"] = number
        seen = sum(v > 0 for v in annotation["keypoints"][2::3])
        annotation.setdefault("num_keypoints", seen)
    with contextlib.redirect_stdout(io.StringIO()):
        ground, nothing = COCO(), COCO()
        ground.dataset, nothing.dataset = truth, truth | {"annotations": []}
        for coco in (ground, nothing):
            coco.createIndex()
        found = ground.loadRes(copy.deepcopy(case.results)) if case.results else nothing
        evaluator = COCOeval(ground, found, "keypoints")
        evaluator.params.kpt_oks_sigmas = np.array(sigmas)
        evaluator.params.iouThrs = np.array(grid.iou_thresholds)
        evaluator.params.areaRng = [list(limits) for limits in grid.areas.values()]
        evaluator.params.areaRngLbl = list(grid.areas)
        evaluator.params.maxDets = list(grid.max_dets)
        evaluator.evaluate()
        evaluator.accumulate()
    return evaluator.eval["precision"], evaluator.eval["recall"]


@pytest.mark.parametrize("engine, seeds", [("hotcoco", 60), ("pycocotools", 12)])
def test_whole_tables_are_those_of_pycocotools(engine: str, seeds: int) -> None:
    partly, empty, unlabelled, many = 0, 0, 0, 0
    for seed in range(seeds):
        case = random_case(seed)
        before = copy.deepcopy(case)
        if not any(a["keypoints"] for a in case.truth["annotations"]):
            case.truth["annotations"] = []
        evaluation = evaluate(
            case.truth, case.results, iou_type="keypoints", engine=engine, **case.options
        )
        assert case == before
        sigmas = evaluation.scores().sigmas
        precision, recall = by_hand(case, evaluation.grid, sigmas)
        for ours, theirs in (
            (evaluation.tables.precision, precision),
            (evaluation.tables.recall, recall),
        ):
            np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-9, err_msg=f"seed {seed}")
        partly += bool(((precision > 0) & (precision < 1)).any())
        empty += bool((recall == -1).all())
        unlabelled += any(not any(a["keypoints"]) for a in case.truth["annotations"])
        places = [(r["image_id"], r["category_id"]) for r in case.results]
        many += max(map(places.count, places), default=0) > 20
    assert partly > seeds / 2 and empty >= seeds / 25  # the cases say something
    assert unlabelled > seeds / 10 and many > seeds / 20


def test_the_ten_numbers_are_pycocotools_summary() -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    case = random_case(25)
    case.truth["annotations"] = [a | {"id": i} for i, a in enumerate(case.truth["annotations"], 1)]
    for annotation in case.truth["annotations"]:
        annotation["num_keypoints"] = sum(v > 0 for v in annotation["keypoints"][2::3])
    scores = score(case.truth, case.results, iou_type="keypoints")
    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO()
        ground.dataset = copy.deepcopy(case.truth)
        ground.createIndex()
        evaluator = COCOeval(ground, ground.loadRes(copy.deepcopy(case.results)), "keypoints")
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
    assert len(evaluator.stats) == len(names_of("keypoints")) == 10
    ours = [-1 if scores[name] is None else scores[name] for name in names_of("keypoints")]
    np.testing.assert_allclose(ours, evaluator.stats, rtol=0, atol=1e-9)
    assert 0 < scores["AP"] < 1


def test_sigmas() -> None:
    from pycocotools.cocoeval import Params

    np.testing.assert_allclose(COCO_SIGMAS, Params("keypoints").kpt_oks_sigmas, rtol=1e-12)
    assert default_sigmas(17) == COCO_SIGMAS and default_sigmas(4) == (0.05,) * 4
    case = random_case(2)
    count = len(case.truth["categories"][0]["keypoints"])
    loose, tight = (
        score(case.truth, case.results, iou_type="keypoints", sigmas=[sigma] * count)["AP"]
        for sigma in (0.3, 0.01)
    )
    assert loose > tight
    with pytest.raises(InputError, match=f"{count + 1} are given for {count} keypoints"):
        score(case.truth, case.results, iou_type="keypoints", sigmas=[0.1] * (count + 1))
    with pytest.raises(InputError, match="above 0"):
        score(case.truth, case.results, iou_type="keypoints", sigmas=[0])
    with pytest.raises(InputError, match="iou_type keypoints, not bbox"):
        score(case.truth, case.results, sigmas=[0.1])


def one_hand_of_two() -> Case:
    """A category with two keypoints, one with one, one with none; computed by hand."""
    box = {"image_id": 1, "bbox": [0, 0, 20, 20], "area": 400, "iscrowd": 0}
    truth = {
        "images": [{"id": 1, "height": 40, "width": 60}],
        "categories": [
            {"id": 1, "name": "pair", "keypoints": ["left_hand", "right_hand"]},
            {"id": 2, "name": "dot", "keypoints": ["middle"]},
            {"id": 3, "name": "thing"},
        ],
        "annotations": [
            {"id": 1, "category_id": 1, **box, "keypoints": [5, 5, 2, 0, 0, 0]},
            {"id": 2, "category_id": 2, **box, "keypoints": [9, 9, 1]},
            {"id": 3, "category_id": 3, **box},
        ],
    }
    # e = d² / (area · (2 σ)² · 2) = 3² / (400 · 0.01 · 2), so OKS is exp(-1.125) = 0.325.
    results = [
        {"image_id": 1, "category_id": 1, "keypoints": [5, 5, 1, 30, 30, 1], "score": 0.9},
        {"image_id": 1, "category_id": 2, "keypoints": [12, 9, 1], "score": 0.9},
        {"image_id": 1, "category_id": 3, "score": 0.9},
    ]
    return Case(truth, results)


def test_categories_of_different_numbers_of_keypoints() -> None:
    case = one_hand_of_two()
    scores = score(case.truth, case.results, iou_type="keypoints", iou_thresholds=(0.32, 0.33))
    per_class = {name: row["AP"] for name, row in scores["per_class"].items()}
    assert per_class["pair"] == pytest.approx(1) and per_class["dot"] == 0
    assert per_class["thing"] is None
    assert scores["sigmas"] == [0.05, 0.05]
    table = scores["by_iou_and_size"]["all"]["AP"]
    assert table["32"] == pytest.approx(1) and table["33"] == pytest.approx(0.5)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_a_category_scores_as_it_does_alone(engine: str) -> None:
    """Though another one has more keypoints: it keeps its sigmas, and the points of others do not
    keep detections from an object that counts neither way."""
    box = {"image_id": 1, "bbox": [100, 100, 50, 50], "area": 2500, "iscrowd": 0}
    many, two, none = [120, 120, 2] * 17, [110, 110, 2, 120, 120, 2], [0] * 6
    truth = {
        "images": [{"id": 1, "height": 500, "width": 500}],
        "categories": [
            {"id": 1, "name": "person", "keypoints": [f"point {i}" for i in range(17)]},
            {"id": 2, "name": "hand", "keypoints": ["left", "right"]},
            {"id": 3, "name": "thing"},
        ],
        "annotations": [
            {"id": 1, "category_id": 1, **box, "keypoints": many},
            {"id": 2, "category_id": 2, **box, "keypoints": two},
            {"id": 3, "category_id": 2, **box, "bbox": [400, 400, 50, 50], "keypoints": none},
            {"id": 4, "category_id": 3, **box, "num_keypoints": 2},
        ],
    }
    at = {"image_id": 1, "category_id": 2}
    results = [
        {"image_id": 1, "category_id": 1, "keypoints": many, "score": 0.5},
        {**at, "keypoints": [113, 110, 1, 123, 120, 1], "score": 0.5},
        {**at, "keypoints": [410, 410, 1, 420, 420, 1], "score": 0.9},
        {"image_id": 1, "category_id": 3, "score": 0.9},
    ]
    alone = truth | {
        "categories": [truth["categories"][1]],
        "annotations": truth["annotations"][1:3],
    }
    for options in ({}, {"sigmas": [0.1]}):
        together = evaluate(truth, results, iou_type="keypoints", engine=engine, **options)
        per_class = together.scores().per_class
        wanted = score(alone, results[1:3], iou_type="keypoints", engine=engine, **options)
        assert per_class["hand"] == wanted["per_class"]["hand"]
        assert per_class["hand"]["AP"] > 0.5 and per_class["person"]["AP"] == pytest.approx(1)
        assert per_class["thing"]["AR"] is None
        ours = accumulate(match(together.truth, together.detections, together.grid))
        np.testing.assert_allclose(ours.precision, together.tables.precision, atol=1e-9)
        np.testing.assert_allclose(ours.recall, together.tables.recall, atol=1e-9)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"keypoints": [1, 2]},
            r"results\[0\]: keypoints \[1, 2\] is not x, y and visibility of 2",
        ),
        ({"keypoints": [1, 2, 1, 3, float("nan"), 1]}, "6 finite numbers"),
        ({"keypoints": []}, "is not there; its category has some"),
        ({"keypoints": "1 2 1"}, "is not x, y and visibility"),
    ],
)
def test_bad_keypoints_are_named(change: Record, message: str) -> None:
    case = one_hand_of_two()
    case.results[0] |= change
    with pytest.raises(InputError, match=message) as caught:
        score(case.truth, case.results, iou_type="keypoints")
    assert "\n" not in str(caught.value)


def test_files_without_keypoints_say_what_they_hold() -> None:
    case = one_hand_of_two()
    boxes = [{**case.results[0], "bbox": [0, 0, 9, 9], "keypoints": None}]
    with pytest.raises(InputError, match="results hold boxes, but no keypoints"):
        score(case.truth, boxes, iou_type="keypoints")
    for annotation in case.truth["annotations"]:
        annotation.pop("keypoints", None)
    with pytest.raises(InputError, match="annotations hold boxes, but no keypoints.*iou-type bbox"):
        score(case.truth, case.results, iou_type="keypoints")
