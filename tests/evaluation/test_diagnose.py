"""The diagnosis as a whole: curves, calibration, images, and the cases where there is nothing."""

import json
from typing import Any

import numpy as np
import pytest

from detnet.evaluation.coco import evaluate
from detnet.evaluation.diagnose import diagnose, statuses
from tests.evaluation.diagnose_cases import (
    FIRST,
    NOWHERE,
    SECOND,
    evaluated,
    random_evaluation,
)


def test_curves_are_the_evaluations_precision() -> None:
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "a", SECOND), (2, "b", FIRST)],
        # IoU 0.6: found at .50, not at .75
        [(1, "a", FIRST, 0.9), (1, "a", NOWHERE, 0.8), (1, "a", (150, 10, 50, 30), 0.7)],
        classes="abc",
        max_dets=(300,),
        areas={"tiny": (0.0, 100.0)},
        iou_thresholds=(0.525,),
    )
    curves = diagnose(evaluation)["curves"]
    assert curves["recalls"] == [r / 100 for r in range(101)]
    assert curves["thresholds"] == [50, 75]
    assert list(curves["classes"]) == ["a", "b", "c"]
    np.testing.assert_allclose(curves["classes"]["a"]["50"], [1] * 51 + [2 / 3] * 50)
    np.testing.assert_allclose(curves["classes"]["a"]["75"], [1] * 51 + [0] * 50)
    assert curves["classes"]["b"] == {"50": [0.0] * 101, "75": [0.0] * 101}
    assert curves["classes"]["c"] == {"50": None, "75": None}
    np.testing.assert_allclose(curves["mean"]["50"], [1 / 2] * 51 + [1 / 3] * 50)


def test_calibration_of_a_small_case() -> None:
    told = diagnose(
        evaluated(
            [(1, "a", FIRST), (1, "b", SECOND), (2, "b", SECOND, "crowd")],
            [
                (1, "a", FIRST, 1.0),
                (1, "a", NOWHERE, 0.92),
                (1, "b", SECOND, 0.3),
                (1, "b", NOWHERE, 0.0),
                (2, "b", SECOND, 0.5),  # in the crowd: neither right nor wrong
            ],
            classes="abc",
        )
    )["calibration"]
    last, fourth, first = (told["bins"][n] for n in (9, 3, 0))
    assert last == {"low": 0.9, "high": 1.0, "score": 0.96, "precision": 0.5, "count": 2}
    assert (fourth["score"], fourth["precision"], fourth["count"]) == (0.3, 1.0, 1)
    assert (first["score"], first["precision"], first["count"]) == (0.0, 0.0, 1)
    assert told["bins"][5] == {**told["bins"][5], "score": None, "precision": None, "count": 0}
    # Off by .46 twice, by .7 once, by 0 once.
    assert told["ece"] == pytest.approx((0.46 * 2 + 0.7) / 4)
    assert told["mce"] == pytest.approx(0.7)
    assert told["per_class"] == {"a": pytest.approx(0.46), "b": pytest.approx(0.35), "c": None}


@pytest.mark.parametrize("seed", range(20))
def test_calibration_of_random_cases(seed: int) -> None:
    evaluation = random_evaluation(seed)
    found, told = statuses(evaluation), diagnose(evaluation)["calibration"]
    scores, right = evaluation.detections.scores[found.counted], found.hit[found.counted]
    if not len(scores):
        assert told["ece"] is None and told["bins"] == []
        return
    place = np.minimum((scores * 10 + 1e-9).astype(int), 9)
    off = [abs((scores - right)[place == n].sum()) for n in range(10)]
    assert [one["count"] for one in told["bins"]] == np.bincount(place, minlength=10).tolist()
    assert told["ece"] == pytest.approx(sum(off) / len(scores))


@pytest.mark.parametrize("score", [1.5, -0.1])
def test_scores_that_are_no_confidences_have_no_calibration(score: float) -> None:
    told = diagnose(evaluated([(1, "a", FIRST)], [(1, "a", FIRST, score)]))
    nothing = {"ece": None, "mce": None, "bins": [], "per_class": {"a": None, "b": None}}
    assert told["calibration"] == nothing
    assert told["AP50"] == pytest.approx(1)


def test_images_count_at_the_score_threshold_and_have_their_own_ids() -> None:
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "a", FIRST, 0.9), (1, "b", SECOND, 0.3), (1, "a", NOWHERE, 0.6)],
    )
    at_half = diagnose(evaluation)["images"]
    assert at_half["2"] == {"found": 0, "missed": 0, "false": 0, "AP50": None}
    ap = at_half["1"].pop("AP50")
    assert ap == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert at_half["1"] == {"found": 1, "missed": 1, "false": 1}
    at_all = diagnose(evaluation, score_threshold=0.1)["images"]
    assert at_all["1"] == {"found": 2, "missed": 0, "false": 1, "AP50": ap}


NO_CURVES = {"50": None, "75": None}


@pytest.mark.parametrize(
    ("images", "classes"), [([], []), ([5], []), ([], ["a"]), ([5], ["a"])], ids=str
)
def test_nothing_at_all_is_a_defined_diagnosis(images: list[int], classes: list[str]) -> None:
    truth: dict[str, Any] = {
        "images": [{"id": i, "height": 20, "width": 30} for i in images],
        "categories": [{"id": k, "name": name} for k, name in enumerate(classes)],
        "annotations": [],
    }
    told = diagnose(evaluate(truth, []))
    assert told["AP50"] is None
    assert all(error == {"count": 0, "cost": None} for error in told["errors"].values())
    assert told["confusion"]["names"] == [*classes, "background"]
    assert np.array(told["confusion"]["matrix"]).sum() == 0
    assert told["curves"]["mean"] == NO_CURVES
    assert told["curves"]["classes"] == dict.fromkeys(classes, NO_CURVES)
    assert told["calibration"]["ece"] is None
    assert told["label_errors"] == []
    nothing = {"found": 0, "missed": 0, "false": 0, "AP50": None}
    assert told["images"] == {str(i): nothing for i in images}


@pytest.mark.parametrize("seed", range(8))
def test_a_diagnosis_can_be_written_as_json(seed: int) -> None:
    told = diagnose(random_evaluation(seed))
    assert json.loads(json.dumps(told, allow_nan=False)) == told
