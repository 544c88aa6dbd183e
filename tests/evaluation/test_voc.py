"""VOC's average precision by hand, and against a slow program of what its kit is said to do."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.evaluation.voc import VocClass, average_precision, format_voc_scores, score_voc

Data = tuple[dict[str, Any], list[dict[str, Any]]]


def truth_of(*objects: tuple[int, list[float], int], classes: int = 1) -> dict[str, Any]:
    """Objects as (image, xywh, difficult) of class 1, on images 1 to 3."""
    return {
        "images": [{"id": i, "width": 100, "height": 60} for i in (1, 2, 3)],
        "categories": [{"id": i, "name": f"c{i}"} for i in range(1, classes + 1)],
        "annotations": [
            {"id": n, "image_id": i, "category_id": 1, "bbox": box, "iscrowd": hard}
            for n, (i, box, hard) in enumerate(objects, start=1)
        ],
    }


def found(*detections: tuple[int, list[float], float]) -> list[dict[str, Any]]:
    return [
        {"image_id": i, "category_id": 1, "bbox": box, "score": score}
        for i, box, score in detections
    ]


def both(truth: dict[str, Any], results: list[dict[str, Any]], **options: Any) -> list[Any]:
    return [
        score_voc(truth, results, metric=metric, **options).per_class["c1"].AP
        for metric in ("voc07", "voc12")
    ]


BOX = [10.0, 5.0, 40.0, 20.0]
FAR = [70.0, 30.0, 20.0, 20.0]


def test_a_right_one_before_a_false_one_and_half_found() -> None:
    truth = truth_of((1, BOX, 0), (2, BOX, 0))
    results = found((1, BOX, 0.9), (3, BOX, 0.8))
    # precision 1 up to recall 0.5: six of eleven points, half of the area
    assert both(truth, results) == [pytest.approx(6 / 11), pytest.approx(1 / 2)]


def test_a_false_one_first() -> None:
    truth = truth_of((1, BOX, 0), (2, BOX, 0))
    results = found((3, BOX, 0.95), (1, BOX, 0.9), (2, BOX, 0.5))
    # precisions 0, 1/2, 2/3: the best of all recalls is 2/3
    assert both(truth, results) == [pytest.approx(2 / 3), pytest.approx(2 / 3)]


def test_a_second_detection_of_an_object_is_false() -> None:
    truth = truth_of((1, BOX, 0), (2, BOX, 0))
    results = found((1, BOX, 0.9), (1, [10, 5, 40, 19], 0.8), (2, BOX, 0.7))
    # precisions 1, 1/2, 2/3: six points at 1, five at 2/3
    assert both(truth, results) == [
        pytest.approx((6 + 5 * 2 / 3) / 11),
        pytest.approx((1 + 2 / 3) / 2),
    ]


def test_an_object_taken_is_not_replaced_by_a_neighbour() -> None:
    """The kit asks for the largest overlap alone; COCO would give the second object away."""
    near = [12.0, 5.0, 40.0, 20.0]
    truth = truth_of((1, BOX, 0), (1, near, 0))
    assert both(truth, found((1, BOX, 0.9), (1, BOX, 0.8))) == [
        pytest.approx(6 / 11),
        pytest.approx(0.5),
    ]


def test_difficult_objects_are_neither_right_nor_wrong() -> None:
    truth = truth_of((1, BOX, 0), (1, FAR, 1))
    results = found((1, FAR, 0.99), (1, FAR, 0.98), (1, BOX, 0.5))
    scores = score_voc(truth, results)
    assert scores.per_class["c1"] == VocClass(1.0, 1, 1)
    truth["annotations"][1]["iscrowd"] = 0
    assert score_voc(truth, results).mAP < 1
    truth["annotations"][1]["ignore"] = 1
    assert score_voc(truth, results).mAP == 1
    truth["annotations"][1].update(ignore=0, difficult=1)
    assert score_voc(truth, results).mAP == 1


def test_a_difficult_object_of_largest_overlap_shields() -> None:
    """Also where the detection overlaps an ordinary one by more than a half."""
    easy = [10.0, 5.0, 40.0, 24.0]
    truth = truth_of((1, easy, 0), (1, BOX, 1))
    assert both(truth, found((1, BOX, 0.9))) == [0, 0]
    assert both(truth, found((1, BOX, 0.9), (1, easy, 0.1))) == [1, 1]


def test_an_overlap_of_exactly_one_half_is_enough() -> None:
    truth = truth_of((1, [0, 0, 10, 10], 0))
    assert both(truth, found((1, [0, 0, 10, 5], 0.5))) == [1, 1]
    assert both(truth, found((1, [0, 0, 10, 4.75], 0.5))) == [0, 0]


def test_widths_without_the_last_pixel() -> None:
    """VOC's 1 … 3 is 3 pixels wide; as xmax - xmin it is 2, and IoU would be another."""
    as_difference = truth_of((1, [1, 1, 2, 2], 0))  # 1 … 3 both ways, 9 pixels
    detection = found((1, [1, 1, 2, 1], 0.5))  # 1 … 3 by 1 … 2, 6 pixels
    assert both(as_difference, detection, add_pixel=True) == [1, 1]  # 6 of 9
    assert both(as_difference, detection) == [1, 1]  # 2 of 4
    other = found((1, [1, 1, 1, 1.25], 0.5))
    assert both(as_difference, other, add_pixel=True) == [1, 1]  # 2 * 2.25 of 9
    assert both(as_difference, other) == [0, 0]  # 1.25 of 4


def test_recalls_are_exact_fractions() -> None:
    """Of ten objects three are found before a false one: the fourth point, 0.3, has precision 1."""
    right = np.array([True, True, True, False])
    assert average_precision(right, 10, "voc07") == pytest.approx(4 / 11)
    assert average_precision(right, 10, "voc12") == pytest.approx(3 / 10)


def test_nothing_found_and_nothing_to_find() -> None:
    no_classes = score_voc({"images": [], "categories": [], "annotations": []}, [])
    assert (no_classes.mAP, no_classes.per_class) == (None, {})
    truth = truth_of((1, BOX, 0), classes=2)
    scores = score_voc(truth, [])
    assert scores.mAP == 0 and scores.per_class["c2"].AP is None
    assert score_voc(truth_of((1, BOX, 1)), found((1, BOX, 0.5))).mAP is None
    assert score_voc(truth_of(), []).mAP is None


def random_case(seed: int) -> Data:
    """Crowded small images, quarters of pixels and equal scores: IoUs and ties are exact."""
    rng = np.random.default_rng(seed)
    classes, images = int(rng.integers(1, 4)), int(rng.integers(1, 6))
    step = 0.25 if seed % 2 else 1.0

    def box() -> list[float]:
        corner = rng.integers(0, 12, 2) * step
        return [*corner.tolist(), *(rng.integers(1, 16, 2) * step).tolist()]

    objects = [
        {
            "id": n,
            "image_id": 10 * int(rng.integers(1, images + 1)),
            "category_id": int(rng.integers(1, classes + 1)),
            "bbox": box(),
            "iscrowd": int(rng.random() < 0.2),
        }
        for n in range(1, int(rng.integers(1, 40)))
    ]
    results = []
    for _ in range(int(rng.integers(0, 80))):
        near = objects[int(rng.integers(len(objects)))] if objects else {"bbox": box()}
        same = rng.random() < 0.7
        nudge = rng.integers(-2, 3, 4) * step
        results.append(
            {
                "image_id": near.get("image_id", 10) if same else 10,
                "category_id": near.get("category_id", 1),
                "bbox": np.maximum(np.array(near["bbox"]) + nudge, [0, 0, step, step]).tolist(),
                "score": float(rng.integers(0, 12)) / 12,
            }
        )
    truth = {
        "images": [{"id": 10 * i, "width": 70, "height": 60} for i in range(1, images + 1)],
        "categories": [{"id": i, "name": str(i)} for i in range(1, classes + 1)],
        "annotations": objects,
    }
    return truth, results


def kit(truth: dict[str, Any], results: list[dict[str, Any]], category: int, metric: str) -> Any:
    """One class as the development kit's documentation tells it, one detection after the other.

    Boxes are VOC's: pixels from 1, the last included, and 1 is added to every difference. Recall
    is told by the number found: a float would not equal a tenth.
    """

    def voc(record: dict[str, Any]) -> list[float]:
        x, y, width, height = record["bbox"]
        return [x + 1, y + 1, x + width, y + height]

    objects: dict[int, list[dict[str, Any]]] = {}
    for record in truth["annotations"]:
        if record["category_id"] == category:
            entry = {"box": voc(record), "hard": record["iscrowd"], "taken": False}
            objects.setdefault(record["image_id"], []).append(entry)
    wanted = sum(not o["hard"] for members in objects.values() for o in members)
    mine = [r for r in results if r["category_id"] == category]
    tp = fp = 0
    curve: list[tuple[int, float]] = []
    for record in sorted(mine, key=lambda r: -r["score"]):
        a = voc(record)
        best, belongs = -1.0, None
        for one in objects.get(record["image_id"], []):
            b = one["box"]
            width = min(a[2], b[2]) - max(a[0], b[0]) + 1
            height = min(a[3], b[3]) - max(a[1], b[1]) + 1
            if width > 0 and height > 0:
                areas = [(c[2] - c[0] + 1) * (c[3] - c[1] + 1) for c in (a, b)]
                overlap = width * height / (sum(areas) - width * height)
                if overlap > best:
                    best, belongs = overlap, one
        if belongs is not None and best >= 0.5:
            if belongs["hard"]:
                continue
            tp, fp = (tp, fp + 1) if belongs["taken"] else (tp + 1, fp)
            belongs["taken"] = True
        else:
            fp += 1
        curve.append((tp, tp / (tp + fp)))
    if not wanted:
        return None
    if metric == "voc07":
        tops = [max((p for n, p in curve if 10 * n >= k * wanted), default=0) for k in range(11)]
        return sum(tops) / 11
    return sum(max(p for n, p in curve if n >= k) for k in range(1, tp + 1)) / wanted


@pytest.mark.parametrize("block", range(5))
def test_equal_to_the_kits_description(block: int) -> None:
    """Four hundred cases in all, with ties, exact halves, difficult objects and empty classes."""
    seen = []
    for seed in range(80 * block, 80 * block + 80):
        truth, results = random_case(seed)
        for metric in ("voc07", "voc12"):
            scores = score_voc(truth, results, metric=metric)
            for category in truth["categories"]:
                expected = kit(truth, results, category["id"], metric)
                own = scores.per_class[category["name"]].AP
                assert own == (expected if expected is None else pytest.approx(expected)), seed
                seen.append(own)
    given = [value for value in seen if value is not None]
    assert len(given) > 100 and 0.05 < np.mean(given) < 0.95


def test_in_parts_it_is_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, results = random_case(1)
    whole = score_voc(truth, results)
    monkeypatch.setattr("detnet.evaluation.matching._PAIRS_AT_ONCE", 3)
    assert score_voc(truth, results) == whole and whole.mAP > 0


def test_files_and_mistakes(tmp_path: Path) -> None:
    truth, results = truth_of((1, BOX, 0)), found((1, BOX, 0.5))
    (tmp_path / "gt.json").write_text(json.dumps(truth))
    (tmp_path / "dt.json").write_text(json.dumps(results))
    assert score_voc(tmp_path / "gt.json", tmp_path / "dt.json") == score_voc(truth, results)
    with pytest.raises(InputError, match="'voc7'.*voc07"):
        score_voc(truth, results, metric="voc7")
    results[0]["bbox"] = [1, 2, float("nan"), 4]
    with pytest.raises(InputError, match=r"results\[0\]"):
        score_voc(truth, results)


def test_the_table() -> None:
    truth = truth_of((1, BOX, 0), (1, FAR, 1), classes=2)
    text = format_voc_scores(score_voc(truth, found((1, BOX, 0.5)), metric="voc12"))
    assert text.splitlines() == [
        "Average precision of boxes as in VOC 2012, IoU 0.5, percent",
        "",
        "class     AP  annotations  difficult",
        "c1     100.0            1          1",
        "c2         -            0          0",
        "mean   100.0",
        "",
        "ground truth: the file as it is, but for 2 areas that it lacks: width x height",
    ]
