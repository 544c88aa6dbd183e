"""Scores beside the share that is right: a case worked out by hand, and equal to hotcoco's."""

import pytest

from detnet.evaluation.diagnosis.diagnose import diagnose
from tests.evaluation.diagnosis.cases import (
    FIRST,
    NOWHERE,
    SECOND,
    by_hotcoco,
    evaluated,
    random_evaluation,
)


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


@pytest.mark.parametrize("seed", range(40))
def test_calibration_is_hotcocos(seed: int) -> None:
    evaluation = random_evaluation(seed)
    told = diagnose(evaluation)["calibration"]
    theirs = by_hotcoco(evaluation).calibration(10, 0.5)
    if not theirs["num_detections"]:
        assert told["ece"] is None and told["bins"] == []
        return
    assert told["ece"] == pytest.approx(theirs["ece"])
    assert told["mce"] == pytest.approx(theirs["mce"])
    for mine, other in zip(told["bins"], theirs["bins"], strict=True):
        assert mine["count"] == other["count"]
        assert (mine["score"] or 0) == pytest.approx(other["avg_confidence"])
        assert (mine["precision"] or 0) == pytest.approx(other["avg_accuracy"])
    there = {name: error for name, error in told["per_class"].items() if error is not None}
    assert there == pytest.approx(theirs["per_category"])


@pytest.mark.parametrize("score", [1.5, -0.1])
def test_scores_that_are_no_confidences_have_no_calibration(score: float) -> None:
    told = diagnose(evaluated([(1, "a", FIRST)], [(1, "a", FIRST, score)]))
    nothing = {"ece": None, "mce": None, "bins": [], "per_class": {"a": None, "b": None}}
    assert told["calibration"] == nothing
    assert told["AP50"] == pytest.approx(1)
