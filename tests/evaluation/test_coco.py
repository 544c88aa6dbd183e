"""Scores: both engines give the same numbers, published numbers come out, bad input is one line."""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.evaluation.coco import Scores, evaluate, score
from detnet.evaluation.comparison.compare import compare
from detnet.evaluation.engines import ENGINES
from tests.evaluation.made_up_files import random_case

HEADLINE = ["AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl"]
DATA = Path(os.environ.get("DETNET_DATA", Path(__file__).parents[3] / "shared" / "data"))


def differences(one: Any, other: Any) -> float:
    """Largest difference of all numbers of two scores, infinite where their keys differ."""
    if isinstance(one, dict):
        if list(one) != list(other):
            return np.inf
        return max([differences(one[k], other[k]) for k in one if k != "engine"], default=0.0)
    if isinstance(one, float) and isinstance(other, float):
        return abs(one - other)
    return 0.0 if one == other else np.inf


def test_engines_give_equal_numbers() -> None:
    averaged = 0
    for seed in range(48):
        case = random_case(seed, masks=seed % 3 == 0)
        scores = [
            score(
                case.truth,
                case.results,
                engine=engine,
                class_agnostic_recall=seed % 2 == 0,
                **case.options,
            )
            for engine in ENGINES
        ]
        assert differences(*scores) <= 1e-9, f"seed {seed}"
        averaged += scores[0]["AP"] is not None and 0 < scores[0]["AP"] < 1
    assert averaged > 24  # the cases say something


@pytest.mark.parametrize("all_classes_as_one", [False, True])
def test_numbers_are_those_of_pycocotools_alone(
    all_classes_as_one: bool, capfd: pytest.CaptureFixture[str]
) -> None:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    compared = 0
    for seed in range(3, 45, 2):
        case = random_case(seed)
        if not case.truth["annotations"] or not case.results:
            continue
        scores = score(case.truth, case.results, class_agnostic_recall=True)
        for index, annotation in enumerate(case.truth["annotations"]):
            annotation["id"] = index + 1
            annotation.setdefault("area", annotation["bbox"][2] * annotation["bbox"][3])
        ground = COCO()
        ground.dataset = case.truth
        ground.createIndex()
        evaluator = COCOeval(ground, ground.loadRes(case.results), "bbox")
        evaluator.params.useCats = int(not all_classes_as_one)
        evaluator.evaluate()
        evaluator.accumulate()
        evaluator.summarize()
        if all_classes_as_one:
            rows = scores["class_agnostic_recall"].values()
            ours, theirs = [row["mean"] for row in rows], evaluator.stats[8:]
        else:
            ours, theirs = [scores[key] for key in HEADLINE], evaluator.stats
        numbers = [-1.0 if value is None else value for value in ours]
        np.testing.assert_allclose(numbers, theirs, rtol=0, atol=1e-12)
        compared += 1
    assert compared >= 10
    capfd.readouterr()


@pytest.mark.parametrize("engine", ENGINES)
def test_published_numbers(engine: str) -> None:
    folder = DATA / "oracle"
    if not folder.is_dir():
        pytest.skip(f"no {folder}: set DETNET_DATA")
    expected = json.loads((folder / "expected_bbox_pycocotools_2.0.11.json").read_text())
    scores = score(
        folder / "gts_val2014_100_bbox_area.json",
        folder / "instances_val2014_fakebbox100_results.json",
        engine=engine,
    )
    assert {key: scores[key] for key in HEADLINE} == pytest.approx(expected, rel=0, abs=1e-6)


@pytest.mark.parametrize(
    ("area", "sizes"),
    [
        (1023, "s"), (1024, "sm"), (1025, "m"), (9215, "m"), (9216, "ml"), (9217, "l"),
    ],
)  # fmt: skip
def test_sizes_meet_at_their_edges(
    area: int, sizes: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """An object of 32² pixels is small and medium, one of 96² medium and large, as COCO has it."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    box = [5, 6, area / 32, 32]
    common = {"image_id": 1, "category_id": 1, "bbox": box}
    truth = {
        "images": [{"id": 1, "height": 200, "width": 300}],
        "categories": [{"id": 1, "name": "cat"}],
        "annotations": [{"id": 1, **common, "area": area, "iscrowd": 0}],
    }
    results = [{**common, "score": 0.9}]
    expected = {f"A{what}{size}": size in sizes for what in "PR" for size in "sml"}
    ours = [score(truth, results, engine=engine) for engine in ENGINES]
    ours += compare(truth, [results, []], names=["a", "b"], resamples=100)["scores"][:1]
    for scores in ours:
        assert {key: (scores[key] or 0) > 0.99 for key in expected} == expected
        assert {key: scores[key] is None for key in expected} == {
            key: not within for key, within in expected.items()
        }
    ground = COCO()
    ground.dataset = truth
    ground.createIndex()
    evaluator = COCOeval(ground, ground.loadRes(results), "bbox")  # with its own ranges
    evaluator.evaluate()
    evaluator.accumulate()
    evaluator.summarize()
    theirs = dict(zip(HEADLINE, evaluator.stats.tolist(), strict=True))
    assert {key: theirs[key] > 0.99 for key in expected} == expected
    capfd.readouterr()


@pytest.fixture
def truth() -> dict[str, Any]:
    return {
        "images": [{"id": 7, "height": 40, "width": 60}, {"id": 9, "height": 40, "width": 60}],
        "categories": [
            {"id": 3, "name": "cat"},
            {"id": 1, "name": "dog"},
            {"id": 2, "name": "cow"},
        ],
        "annotations": [
            {"id": 0, "image_id": 7, "category_id": 3, "bbox": [5, 5, 20, 10]},
            {"id": 1, "image_id": 9, "category_id": 1, "bbox": [0, 0, 40, 35], "area": 1400},
        ],
    }


@pytest.fixture
def results() -> list[dict[str, Any]]:
    return [
        {"image_id": 7, "category_id": 3, "bbox": [5, 5, 20, 10], "score": 0.9},
        {"image_id": 9, "category_id": 1, "bbox": [0, 0, 40, 19], "score": 0.8},
    ]


@pytest.mark.parametrize("engine", ENGINES)
def test_scores_have_the_promised_form(
    engine: str,
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    capfd: pytest.CaptureFixture[str],
) -> None:
    scores = score(truth, results, engine=engine)
    keys = ["engine", "iou_type", *HEADLINE, "by_iou_and_size", "per_class", "ground_truth"]
    keys.append("ground_truth_taken")
    assert list(scores) == keys
    assert scores["engine"].startswith(f"{engine} ")
    assert list(scores["by_iou_and_size"]) == ["all", "small", "medium", "large"]
    for row in scores["by_iou_and_size"].values():
        assert list(row) == ["AP", "AR"]
        assert list(row["AR"]) == list(row["AP"]) == ["mean", "50", "60", "70", "80", "85"]
    # The cat is exact though its annotation id is 0; the dog's IoU is 19/35 = 0.543.
    assert scores["per_class"]["cat"] == {
        "AP": pytest.approx(1), "AP50": pytest.approx(1), "AR100": 1.0, "annotations": 1
    }  # fmt: skip
    assert scores["per_class"]["dog"]["AR100"] == pytest.approx(0.1)
    assert scores["per_class"]["cow"] == {
        "AP": None, "AP50": None, "AR100": None, "annotations": 0
    }  # fmt: skip
    assert list(scores["per_class"]) == ["dog", "cow", "cat"]
    assert scores["AP50"] == pytest.approx(1) and scores["AP75"] == pytest.approx(0.5)
    assert scores["APs"] == pytest.approx(1) and scores["APl"] is None
    assert scores["by_iou_and_size"]["medium"]["AR"]["60"] == 0
    json.dumps(scores, allow_nan=False)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize("engine", ENGINES)
def test_nothing_found_is_zero_and_nothing_there_is_null(
    engine: str, truth: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    scores = score(truth, [], engine=engine)
    assert (scores["AP"], scores["AR100"], scores["APs"], scores["APl"]) == (0, 0, 0, None)
    for nothing in (
        truth | {"annotations": []},
        {"images": [], "annotations": [], "categories": []},
    ):
        scores = score(nothing, [], engine=engine)
        assert all(scores[key] is None for key in HEADLINE)
    assert score(truth | {"annotations": []}, results, engine=engine)["AP"] is None


@pytest.mark.parametrize("engine", ENGINES)
def test_own_grid_adds_to_cocos(
    engine: str, truth: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    plain = score(truth, results, engine=engine)
    scores = score(
        truth,
        results,
        engine=engine,
        iou_thresholds=(0.3, 0.9, 0.55),
        areas={"tiny": (0, 300)},
        max_dets=(5, 100),
    )
    assert {key: scores[key] for key in HEADLINE} == {key: plain[key] for key in HEADLINE}
    assert scores["AR5"] == pytest.approx(0.55)
    names = ["mean", "30", "50", "55", "60", "70", "80", "85", "90"]
    assert list(scores["by_iou_and_size"]) == ["all", "small", "medium", "large", "tiny"]
    for size, row in scores["by_iou_and_size"].items():
        assert list(row) == ["AP", "AR", "AP@5", "AR@5"]
        assert [list(values) for values in row.values()] == [names] * 4
        for measure, values in plain["by_iou_and_size"].get(size, {}).items():
            assert {key: row[measure][key] for key in values} == values
    # The dog's IoU of 0.543 is enough for 0.5, not for 0.55.
    assert scores["by_iou_and_size"]["medium"]["AR"]["30"] == 1
    assert scores["by_iou_and_size"]["medium"]["AP@5"]["50"] == pytest.approx(1)
    assert scores["by_iou_and_size"]["medium"]["AR"]["55"] == 0
    assert scores["by_iou_and_size"]["tiny"]["AP"]["mean"] == pytest.approx(1)
    assert scores["per_class"] == plain["per_class"]
    assert scores["parameters"]["max_dets"] == [1, 5, 10, 100]
    assert scores["parameters"]["iou_thresholds"][:3] == [0.3, 0.5, 0.55]
    assert scores["parameters"]["areas"]["tiny"] == [0, 300] and "parameters" not in plain


def test_evaluation_is_there_to_be_read(
    truth: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    evaluation = evaluate(truth, results)
    assert evaluation.scores().to_json() == score(truth, results)
    assert evaluation.truth.names == ("dog", "cow", "cat")
    assert evaluation.tables.precision.shape == (10, 101, 3, 4, 3)
    assert evaluation.tables.recall.shape == (10, 3, 4, 3)
    assert Scores.from_json(score(truth, results)).to_json() == score(truth, results)
    del (old := score(truth, results))["per_class"]
    with pytest.raises(InputError, match="another version.*evaluate again"):
        Scores.from_json(old)


def test_class_agnostic_recall_counts_a_box_of_the_wrong_class(
    truth: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    results[0]["category_id"] = 1
    scores = score(truth, results, class_agnostic_recall=True)
    assert scores["AR100"] == pytest.approx(0.05)
    assert scores["class_agnostic_recall"]["small"]["mean"] == 1.0


@pytest.mark.parametrize(
    "options, message",
    [
        ({"engine": "hotcoc"}, "did you mean 'hotcoco'"),
        ({"iou_type": "box"}, "did you mean 'bbox'"),
        ({"iou_thresholds": (50,)}, "iou_thresholds"),
        ({"max_dets": (0,)}, "max_dets"),
        ({"iou_thresholds": ("0.5",)}, "iou_thresholds"),
        ({"max_dets": (1.5,)}, "max_dets"),
        ({"areas": {"small": (1, 9)}}, "'small' is one of COCO's"),
        ({"areas": {"odd": (9, 1)}}, "'odd'"),
        ({"areas": {"odd": (9,)}}, "'odd'"),
        ({"areas": {"odd": (float("nan"), 1)}}, "'odd'"),
    ],
)
def test_bad_options(options: dict[str, Any], message: str, truth: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=message):
        score(truth, [], **options)


def test_few_results_are_noted(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
    assert "notes" not in score(truth, results) and "notes" not in score(truth, results[:1])
    (note,) = score(truth, [])["notes"]
    assert note.startswith("there are results for only 0 of the 2 images with annotations")
    truth["images"].append({"id": 10})
    assert "notes" not in score(truth, results[:1])  # nothing is there to be found
    del truth["annotations"]
    assert score(truth, results)["notes"][0].startswith("the ground truth has no annotations")


@pytest.mark.parametrize("engine", ENGINES)
@pytest.mark.parametrize("kind, other", [("boxes", "masks"), ("masks", "boxes")])
def test_the_other_kind_of_results_is_one_line(
    engine: str, kind: str, other: str, truth: dict[str, Any]
) -> None:
    mask = {"size": [40, 60], "counts": [100, 50, 2250]}
    for annotation in truth["annotations"]:
        annotation["segmentation"] = mask
    held = {"bbox": [0, 0, 2, 3]} if kind == "boxes" else {"segmentation": mask}
    iou_type, right = ("segm", "bbox") if kind == "boxes" else ("bbox", "segm")
    found = [{"image_id": 7, "category_id": 3, "score": 0.5, **held}]
    with pytest.raises(InputError) as error:
        score(truth, found, iou_type=iou_type, engine=engine)
    message = f"results: the results hold {kind}, but no {other} "
    assert str(error.value).startswith(message)
    assert str(error.value).endswith(f"score them with --iou-type {right}")
    for annotation in truth["annotations"]:
        del annotation["segmentation"]
    with pytest.raises(InputError, match="the annotations hold boxes, but no masks"):
        score(truth, [], iou_type="segm", engine=engine)


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_own_areas_may_have_the_edges_of_others(engine: str) -> None:
    box = {"image_id": 1, "category_id": 1, "bbox": [0, 0, 10, 10]}
    truth = {
        "images": [{"id": 1, "height": 30, "width": 50}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, "area": 100, "iscrowd": 0, **box}],
    }
    areas = {"whole": (0, 1e10), "little": (0, 32**2), "u": (0, 50), "v": (0, 50)}
    scores = score(truth, [{**box, "score": 0.5}], engine=engine, areas=areas)
    rows = {name: row["AP"]["50"] for name, row in scores["by_iou_and_size"].items()}
    assert scores["AP"] == scores["APs"] == pytest.approx(1)
    assert rows.pop("medium") is rows.pop("large") is rows.pop("u") is rows.pop("v") is None
    assert rows == pytest.approx({"all": 1, "small": 1, "whole": 1, "little": 1})
