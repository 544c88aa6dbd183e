"""The diagnosis as a whole: curves, calibration, images, and the cases where there is nothing."""

import json
from typing import Any

import numpy as np
import pytest

from detnet.evaluation.coco import evaluate
from detnet.evaluation.diagnosis.diagnose import diagnose
from tests.evaluation.diagnosis.cases import (
    FIRST,
    NOWHERE,
    SECOND,
    by_hotcoco,
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


def test_an_images_ap_ranks_its_classes_together() -> None:
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "b", SECOND), (2, "a", FIRST)],
        [(1, "b", NOWHERE, 0.9), (1, "a", FIRST, 0.8), (3, "a", FIRST, 0.8)],
        images=3,
    )
    images = diagnose(evaluation)["images"].values()
    # False, right of two objects: 1/2 at 51 of 101 recalls.
    assert [image["AP50"] for image in images] == [pytest.approx(51 / 202), 0.0, None]


@pytest.mark.parametrize("seed", range(30))
def test_images_are_hotcocos(seed: int) -> None:
    evaluation = random_evaluation(seed, ties=False)
    told = diagnose(evaluation, score_threshold=-1.0)["images"]
    theirs = by_hotcoco(evaluation).image_diagnostics()["img_summary"]
    for number, mine in enumerate(told.values(), 1):
        image = theirs.get(number, {"tp": 0, "fp": 0, "fn": 0})
        assert (mine["found"], mine["false"]) == (image["tp"], image["fp"])
        assert mine["missed"] == image["fn"]
        if mine["AP50"] is not None:
            assert mine["AP50"] == pytest.approx(image["ap"])


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
