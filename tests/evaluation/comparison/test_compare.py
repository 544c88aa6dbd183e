"""Comparisons: the scores of `score`, differences that are real and not, pictures, bad input."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.evaluation.coco import score
from detnet.evaluation.comparison.bootstrap import NOISE, tell_difference
from detnet.evaluation.comparison.compare import compare
from detnet.evaluation.metrics import names_of

DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[4] / "shared" / "data"))


def made_up(images: int, seed: int = 0) -> dict[str, Any]:
    """Ground truth of three objects an image, two classes, of all three sizes, one crowd."""
    random = np.random.default_rng(seed)
    annotations = []
    for i in range(3 * images):
        side = [20.0, 60.0, 130.0][i % 3] * random.uniform(0.9, 1.1)
        x, y = random.uniform(0, 60, 2).round(1).tolist()
        annotations.append(
            {
                "id": i + 1,
                "image_id": 10 * (i // 3),
                "category_id": 1 + i // 3 % 2,
                "bbox": [x, y, round(side, 1), round(side, 1)],
                "area": side * side,
                "iscrowd": int(i == 4),
            }
        )
    return {
        "images": [{"id": 10 * i, "height": 200, "width": 300} for i in range(images)],
        "categories": [
            {"id": 1, "name": "cat"},
            {"id": 2, "name": "dog"},
            {"id": 9, "name": "gnu"},
        ],
        "annotations": annotations,
    }


def detector(
    truth: dict[str, Any], *, seed: int, found: float = 0.8, noise: float = 0.08
) -> list[dict[str, Any]]:
    """Finds a share of the objects, not quite in their place, and as much that is not there."""
    random = np.random.default_rng(seed)
    results = []
    for record in truth["annotations"]:
        x, y, w, h = record["bbox"]
        shift = random.normal(0, noise, 2) * [w, h]
        for x0, y0 in ((x + shift[0], y + shift[1]), (200.0, 150.0)):
            if random.random() < found:
                box = [round(float(x0), 2), round(float(y0), 2), w, h]
                kept = {key: record[key] for key in ("image_id", "category_id")}
                results.append(kept | {"bbox": box, "score": round(float(random.beta(4, 2)), 4)})
    return results


def numbers(node: Any, path: str = "") -> dict[str, Any]:
    """Every leaf by its path."""
    if isinstance(node, dict):
        return {
            k: v for key, child in node.items() for k, v in numbers(child, f"{path}/{key}").items()
        }
    return {path: node}


def test_scores_are_those_of_score_and_every_number_has_a_difference() -> None:
    truth = made_up(20)
    results = [detector(truth, seed=1), detector(truth, seed=2, noise=0.12)]
    grid: dict[str, Any] = {
        "iou_thresholds": (0.3, 0.55),
        "areas": {"odd": (1000, 9000)},
        "max_dets": (2, 300),
    }
    for options in ({}, grid):
        made = compare(truth, results, names=["a", "b"], resamples=100, **options)
        json.dumps(made, allow_nan=False)
        (differences,) = made["differences"]
        assert made["names"] == ["a", "b"] and differences["name"] == "b"
        assert made["images"] == 20 and made["confidence"] == 0.95
        for scores, source in zip(made["scores"], results, strict=True):
            expected = score(truth, source, **options)
            assert scores.pop("engine").startswith("detnet ")
            assert expected.pop("engine").startswith("hotcoco ")
            assert made["ground_truth"] == expected["ground_truth"]
            ours, theirs = numbers(scores), numbers(expected)
            assert list(ours) == list(theirs)
            for path, value in theirs.items():
                near = isinstance(value, float)
                assert ours[path] == (pytest.approx(value, abs=1e-9) if near else value), path
        first, other = made["scores"]
        assert sum(isinstance(value, float) for value in numbers(first).values()) > 60
        for key, cell in differences["headline"].items():
            assert (cell["first"], cell["other"]) == (first[key], other[key])
            assert cell["difference"] == other[key] - first[key]
            assert cell["low"] <= cell["high"]
        assert ("AR300" in differences["headline"]) == bool(options)
        for size, rows in first["by_iou_and_size"].items():
            for row, cells in rows.items():
                shown = differences["by_iou_and_size"][size][row]
                assert {key: cell["first"] for key, cell in shown.items()} == cells
        for name, row in first["per_class"].items():
            shown = differences["per_class"][name]
            assert list(shown) == ["AP", "AP50", "AR100"]
            assert [cell and cell["first"] for cell in shown.values()] == list(row.values())[:3]
        assert differences["per_class"]["gnu"]["AP"] is None


def with_keypoints(truth: dict[str, Any]) -> dict[str, Any]:
    """Two corners of each cat and of each dog, one of them not labelled on every third."""
    for category in truth["categories"][:2]:
        category["keypoints"] = ["near", "far"]
    for at, record in enumerate(truth["annotations"]):
        x, y, w, h = record["bbox"]
        record["keypoints"] = [x, y, 2, x + w, y + h, int(at % 3 > 0)]
    return truth


def corners(truth: dict[str, Any], **options: Any) -> list[dict[str, Any]]:
    """Results of keypoints without boxes, as a run's evaluation scores them."""
    results = detector(truth, **options)
    for record in results:
        x, y, w, h = record.pop("bbox")
        record["keypoints"] = [x, y, 1, x + w, y + h, 1]
    return results


@pytest.mark.parametrize("sigmas", [(), (0.02, 0.3)])
def test_keypoints_have_their_own_ten_numbers(sigmas: tuple[float, ...]) -> None:
    truth = with_keypoints(made_up(30))
    results = [corners(truth, seed=1, noise=0.01), corners(truth, seed=2, noise=0.08)]
    options: dict[str, Any] = {"iou_type": "keypoints", "sigmas": sigmas, "max_dets": (3,)}
    made = compare(truth, results, names=["a", "b"], resamples=100, **options)
    json.dumps(made, allow_nan=False)
    for scores, source in zip(made["scores"], results, strict=True):
        expected = score(truth, source, **options)
        del scores["engine"], expected["engine"]
        ours, theirs = numbers(scores), numbers(expected)
        assert list(ours) == list(theirs)
        for path, value in theirs.items():
            near = isinstance(value, float)
            assert ours[path] == (pytest.approx(value, abs=1e-9) if near else value), path
    (differences,) = made["differences"]
    assert list(differences["headline"]) == [*names_of("keypoints"), "AR@3"]
    assert list(differences["by_iou_and_size"]) == ["all", "medium", "large"]
    for key, cell in differences["headline"].items():
        assert cell["difference"] == made["scores"][1][key] - made["scores"][0][key]
        assert cell["low"] <= cell["high"]
    assert differences["headline"]["AP"]["verdict"] == "lower"
    assert list(differences["per_class"]["cat"]) == ["AP", "AP50", "AR"]
    assert set(differences["per_class"]["gnu"].values()) == {None}
    assert made["pictures"][0]["only_first"]


def test_intervals_hold_what_was_measured_and_the_resampled_mean_is_near() -> None:
    truth = made_up(60)
    results = [detector(truth, seed=1, noise=0.05), detector(truth, seed=2, noise=0.15)]
    made = compare(truth, results, names=["a", "b"], resamples=400)
    cell = made["differences"][0]["headline"]["AP75"]
    assert cell["low"] < cell["difference"] < cell["high"] < 0 and cell["verdict"] == "lower"
    back = compare(truth, results[::-1], names=["b", "a"], resamples=400)
    other = back["differences"][0]["headline"]["AP75"]
    assert other["verdict"] == "higher"
    assert (other["low"], other["high"]) == pytest.approx((-cell["high"], -cell["low"]))
    wide = compare(truth, results, names=["a", "b"], resamples=400, confidence=0.99)
    wide = wide["differences"][0]["headline"]["AP75"]
    assert wide["low"] < cell["low"] and wide["high"] > cell["high"]


def test_equal_detectors_are_not_told_apart_and_unequal_ones_are_rarely() -> None:
    truth = made_up(40)
    same = detector(truth, seed=1)
    made = compare(truth, [same, same, same[::-1]], names=["a", "b", "c"], resamples=100)
    for differences in made["differences"]:
        cells = differences["headline"].values()
        assert {(c["difference"], c["low"], c["high"], c["verdict"]) for c in cells} == {
            (0, 0, 0, NOISE)
        }
    # Detectors that differ by chance alone: 1 comparison in 20 is expected to look real.
    real = 0
    for seed in range(24):
        pair = [detector(truth, seed=1000 + seed), detector(truth, seed=2000 + seed)]
        made = compare(truth, pair, names=["a", "b"], resamples=150, seed=seed)
        real += made["differences"][0]["headline"]["AP50"]["verdict"] != NOISE
    assert real <= 4


def test_few_images_tell_nothing() -> None:
    for images, verdict in ((1, NOISE), (5, NOISE), (12, "lower")):
        truth = made_up(images)
        for record in truth["annotations"]:
            record |= {"category_id": 1, "iscrowd": 0}
        perfect = detector(truth, seed=0, found=1, noise=0)
        made = compare(truth, [perfect, []], names=["a", "b"], resamples=100)
        assert made["differences"][0]["headline"]["AR100"]["verdict"] == verdict
        assert made["differences"][0]["per_class"]["cat"]["AR100"]["verdict"] == verdict


def test_what_most_resamples_lack_has_no_interval() -> None:
    truth = made_up(30)
    for record in truth["annotations"][1:]:
        record["category_id"] = 2
    pair = [detector(truth, seed=1), detector(truth, seed=2)]
    made = compare(truth, pair, names=["a", "b"], resamples=200)
    # (29/30)^30 = 0.36 of the resamples have no cat.
    cell = made["differences"][0]["per_class"]["cat"]["AR100"]
    assert cell["low"] is not None and cell["verdict"] == NOISE


def test_an_interval_needs_half_of_the_resamples() -> None:
    drawn = np.array([np.nan] * 50 + [0.1] * 50)
    made = tell_difference([0.2, 0.3], drawn, 30, 0.95)
    assert made is not None and (made["low"], made["verdict"]) == (pytest.approx(0.1), "higher")
    drawn[50] = np.nan
    made = tell_difference([0.2, 0.3], drawn, 30, 0.95)
    assert made is not None and (made["low"], made["high"], made["verdict"]) == (None, None, NOISE)


@pytest.mark.parametrize("confidence", [0.6, 0.9, 0.95])
def test_an_interval_leaves_out_as_much_on_either_side(confidence: float) -> None:
    drawn = np.random.default_rng(0).permutation(np.arange(1001)) / 1000
    made = tell_difference([0.2, 0.3], drawn, 30, confidence)
    assert made is not None
    outside = (1 - confidence) / 2
    assert (made["low"], made["high"]) == pytest.approx((outside, 1 - outside))
    # An interval of all draws but a share of 1 - confidence would be above 0 at 0.9, this is not.
    made = tell_difference([0.2, 0.3], drawn - 0.07, 30, 0.9)
    assert made is not None and made["verdict"] == NOISE
    made = tell_difference([0.2, 0.3], drawn - 0.04, 30, 0.9)
    assert made is not None and made["verdict"] == "higher"
    made = tell_difference([0.3, 0.2], drawn - 0.96, 30, 0.9)
    assert made is not None and made["verdict"] == "lower"


def test_pictures() -> None:
    truth = made_up(4)
    found = [
        {key: record[key] for key in ("image_id", "category_id", "bbox")} | {"score": 0.9}
        for record in truth["annotations"]
    ]
    one = [dict(r) for i, r in enumerate(found) if i not in (0, 6, 7)]
    other = [dict(r) for i, r in enumerate(found) if i not in (4, 11)]
    one[-1]["score"] = 0.5  # as much as is needed
    other[0]["score"] = 0.49
    other[5]["category_id"] = 9  # position 6 of the truth, which one lacks as well
    made = compare(truth, [one, other], names=["a", "b"], resamples=100)
    assert made["pictures"] == [
        {
            "name": "b",
            "only_first": [{"image_id": 30, "truths": [11]}],  # 4 is a crowd
            "only_other": [{"image_id": 20, "truths": [7]}],
        }
    ]
    made = compare(truth, [found, []], names=["a", "b"], resamples=100)
    assert [image["image_id"] for image in made["pictures"][0]["only_first"]] == [0, 20, 30, 10]
    assert made["pictures"][0]["only_first"][3]["truths"] == [3, 5]


@pytest.mark.parametrize(
    "change, message",
    [
        ({"results": [[]], "names": ["a"]}, "at least two results, got 1"),
        ({"names": ["a", "a"]}, "2 results need as many different names"),
        ({"names": ["a"]}, "2 results need as many different names"),
        ({"resamples": 99}, "resamples is 99, must be 100 to 20,000"),
        ({"resamples": 20_001}, "must be 100 to 20,000"),
        ({"confidence": 95}, "confidence is 95, must be above 0.5 and below 1"),
        ({"confidence": 0.5}, "confidence is 0.5"),
        ({"iou_type": "box"}, "did you mean 'bbox'"),
        ({"annotations": {"images": [], "annotations": [], "categories": []}}, "no images"),
        ({"results": [[], [{"image_id": 5}]]}, "image_id 5 is not among"),
    ],
)
def test_bad_input(change: dict[str, Any], message: str) -> None:
    given: dict[str, Any] = {"annotations": made_up(2), "results": [[], []], "names": ["a", "b"]}
    given |= change
    with pytest.raises(InputError, match=message):
        compare(given.pop("annotations"), given.pop("results"), **given)


def test_files_masks_and_progress(tmp_path: Path) -> None:
    truth = made_up(12)
    for record in truth["annotations"]:
        x, y, w, h = record["bbox"]
        record["segmentation"] = [[x, y, x + w, y, x + w, y + h, x, y + h]]
    results = []
    for seed in (1, 2):
        results.append([])
        for record in detector(truth, seed=seed):
            x, y, w, h = record.pop("bbox")
            polygon = [x, y, x + w, y, x + w, y + h, x, y + h]
            results[-1].append(record | {"segmentation": [polygon]})
    files = []
    for name, content in (("gt", truth), ("a", results[0]), ("b", results[1])):
        files.append(tmp_path / f"{name}.json")
        files[-1].write_text(json.dumps(content))
    heard: list[tuple[int, int]] = []
    made = compare(
        files[0], [files[1], results[1]], names=["a", "b"], iou_type="segm", resamples=120,
        progress=lambda done, total: heard.append((done, total)),
    )  # fmt: skip
    assert heard == [(120, 120)]
    for scores, source in zip(made["scores"], results, strict=True):
        expected = score(truth, source, iou_type="segm")
        assert 0.1 < expected["AP"] < 0.9
        assert scores["AP"] == pytest.approx(expected["AP"], abs=1e-9)


@pytest.mark.skipif(not DATA.exists(), reason=f"no data at {DATA}")
def test_real_annotations() -> None:
    truth = json.loads((DATA / "coco-boxes/annotations/instances_val.json").read_text())
    random = np.random.default_rng(0)
    results = []
    for noise in (0.05, 0.1):
        results.append([])
        for record in truth["annotations"]:
            x, y, w, h = record["bbox"]
            shift = random.normal(0, noise, 2) * [w, h]
            box = [float(x + shift[0]), float(y + shift[1]), w, h]
            kept = {key: record[key] for key in ("image_id", "category_id")}
            results[-1].append(kept | {"bbox": box, "score": float(random.random())})
    made = compare(truth, results, names=["a", "b"], resamples=100)
    cell = made["differences"][0]["headline"]["AP75"]
    assert cell["verdict"] == "lower" and cell["high"] < -0.1
    for scores, source in zip(made["scores"], results, strict=True):
        assert scores["AP"] == pytest.approx(score(truth, source)["AP"], abs=1e-9)


@pytest.mark.parametrize("what", ["nothing", "no objects", "a crowd only"])
def test_nothing_to_be_found_is_null(what: str) -> None:
    truth = made_up(3)
    results = detector(truth, seed=1)
    truth["annotations"] = truth["annotations"][4:5] if what == "a crowd only" else []
    if what == "nothing":
        truth["categories"], results = [], []
    made = compare(truth, [results, []], names=["a", "b"], resamples=100)
    (differences,) = made["differences"]
    assert set(differences["headline"].values()) == {None}
    classes = differences["per_class"].values()
    assert all(set(row.values()) == {None} for row in classes)
    assert made["pictures"] == [{"name": "b", "only_first": [], "only_other": []}]
