"""What became of detections and objects: the evaluation's matches, at all scores."""

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.evaluation.diagnosis.diagnose import diagnose
from detnet.evaluation.diagnosis.outcomes import find_outcomes, find_overlaps
from tests.evaluation.diagnosis.cases import (
    FIRST,
    NOWHERE,
    PART_OF_FIRST,
    SECOND,
    evaluated,
    random_evaluation,
)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_outcomes_of_a_small_case(iou_type: str) -> None:
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "a", SECOND, "crowd"), (2, "b", SECOND)],
        [(1, "a", FIRST, 0.8), (1, "a", FIRST, 0.9), (1, "a", SECOND, 0.7), (2, "a", SECOND, 0.6)],
        images=3,
        iou_type=iou_type,
    )
    found = find_outcomes(evaluation)
    assert found.hit.tolist() == [False, True, False, False]
    assert found.counted.tolist() == [True, True, False, True]  # the third is in the crowd
    assert found.truth_of.tolist() == [-1, 0, -1, -1]
    assert found.found_by.tolist() == [1, -1, -1]
    assert found.sought.tolist() == [True, False, True]


@pytest.mark.parametrize("most", [(), (300,)])
def test_what_counts_is_what_counts_in_an_ap(most: tuple[int, ...]) -> None:
    many = [(1, "a", NOWHERE, 0.9)] * 120
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "b", SECOND)],
        [(1, "a", FIRST, 0.1), *many, (1, "b", SECOND, 0.1)],
        max_dets=most,
    )
    found = find_outcomes(evaluation)
    assert found.counted.tolist() == [False] + [True] * 100 + [False] * 20 + [True]
    assert found.found_by.tolist() == [-1, 121]
    told = diagnose(evaluation)
    assert told["AP50"] == pytest.approx(evaluation.scores().headline["AP50"])
    assert sum(one["count"] for one in told["calibration"]["bins"]) == 101


@pytest.mark.parametrize("seed", range(30))
def test_surer_detections_match_as_if_they_were_alone(seed: int) -> None:
    evaluation = random_evaluation(seed)
    found = find_outcomes(evaluation)
    sure = np.flatnonzero(evaluation.detections.scores >= 0.5)
    alone = find_outcomes(random_evaluation(seed, lowest_score=0.5))
    np.testing.assert_array_equal(alone.truth_of, found.truth_of[sure])
    np.testing.assert_array_equal(alone.counted, found.counted[sure])
    hits = np.flatnonzero(found.hit)
    np.testing.assert_array_equal(found.found_by[found.truth_of[hits]], hits)


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_overlaps_are_of_all_classes_and_a_crowds_by_share(iou_type: str) -> None:
    evaluation = evaluated(
        [(1, "a", FIRST), (1, "b", (10, 10, 100, 200), "crowd"), (2, "a", FIRST)],
        [(2, "a", NOWHERE, 0.9), (1, "b", PART_OF_FIRST, 0.8)],
        iou_type=iou_type,
    )
    near = find_overlaps(evaluation, np.array([0, 1]))
    assert near.rows.tolist() == [1, 1] and near.objects.tolist() == [0, 1]
    np.testing.assert_allclose(near.ious, [0.4, 1.0])
    largest, objects = near.best(2)
    assert largest.tolist() == [0, 1] and objects.tolist() == [-1, 1]


def test_both_engines_have_one_diagnosis_and_another_threshold_is_one_line() -> None:
    one = [(1, "a", FIRST)], [(1, "a", PART_OF_FIRST, 0.9)]
    slow = diagnose(evaluated(*one, engine="pycocotools"))
    assert slow == diagnose(evaluated(*one))
    quick = evaluated([(1, "a", FIRST)], [(1, "a", FIRST, 0.9)], iou_thresholds=(0.33,))
    with pytest.raises(InputError, match=r"0\.34 was not evaluated; choose one of 0\.33, 0\.5"):
        find_outcomes(quick, iou_threshold=0.34)
    assert diagnose(quick, iou_threshold=0.33)["AP50"] == pytest.approx(1)
    with pytest.raises(InputError, match="score_threshold nan"):
        diagnose(quick, score_threshold=float("nan"))
