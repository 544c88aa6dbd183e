"""What the page draws of a diagnosis, from hand-made ones."""

from typing import Any

import pytest

from detnet.report.charts import HEIGHT, WIDTH
from detnet.report.diagnosis import NUMBERS_UP_TO, diagnosis_view


def diagnosis(**changes: Any) -> dict[str, Any]:
    recalls = [index / 100 for index in range(101)]
    step = [1.0 if recall <= 0.5 else 0.0 for recall in recalls]
    kind = {"count": 3, "cost": 0.02}
    return {
        "iou_threshold": 0.5,
        "score_threshold": 0.5,
        "AP50": 0.5,
        "errors": {"background": kind, "missed": {"count": 9, "cost": 0.08}},
        "confusion": {
            "names": ["a", "b", "background"],
            "matrix": [[6, 2, 2], [1, 0, 0], [4, 0, 0]],
        },
        "curves": {
            "recalls": recalls,
            "thresholds": [50, 75],
            "classes": {"a": {"50": step, "75": None}, "b": None},
            "mean": {"50": step, "75": step},
        },
        "calibration": {"ece": 0.1, "mce": 0.2, "bins": [], "per_class": {"a": 0.1, "b": None}},
        **changes,
    }


def test_bars_share_a_scale() -> None:
    errors = diagnosis_view(diagnosis())["errors"]
    assert [error["share"] for error in errors] == [0.25, 1.0]
    nothing = {"missed": {"count": 0, "cost": None}}
    assert diagnosis_view(diagnosis(errors=nothing))["errors"][0]["share"] == 0


def test_confusion_is_shaded_by_shares_of_a_row() -> None:
    view = diagnosis_view(diagnosis())["confusion"]
    assert [share for _, share, _ in view["rows"][0]["cells"]] == [0.6, 0.2, 0.2]
    assert view["confused"] == [(2, 1.0, "a", "b"), (1, 0.5, "b", "a")], "background is no class"
    assert view["numbers"]


@pytest.mark.parametrize(
    ("classes", "numbers"), [(NUMBERS_UP_TO, True), (NUMBERS_UP_TO + 1, False)]
)
def test_many_classes_become_a_map(classes: int, numbers: bool) -> None:
    names = [*map(str, range(classes)), "background"]
    confusion = {"names": names, "matrix": [[0] * len(names)] * len(names)}
    view = diagnosis_view(diagnosis(confusion=confusion))["confusion"]
    assert view["numbers"] == (classes == NUMBERS_UP_TO) and view["confused"] == []


def test_curves_keep_their_corners() -> None:
    curves = diagnosis_view(diagnosis())["curves"]
    corners = f"0,0 {WIDTH / 2:g},0 {WIDTH * 0.51:g},{HEIGHT} {WIDTH},{HEIGHT}"
    assert curves["lines"] == [[corners, corners], [corners, ""]]
    assert curves["names"] == ["a"], "b has nothing to find"
    assert curves["drawing"].count("<polyline") == 2


def test_classes_are_named_by_how_far_off_they_are() -> None:
    calibration = {"ece": 0.1, "mce": 0.2, "per_class": {"a": 0.1, "b": 0.3, "c": None}}
    bins = [{"low": 0.0, "high": 0.5, "score": 0.2, "precision": 0.1, "count": 4}]
    bins += [{"low": 0.5, "high": 1.0, "score": None, "precision": None, "count": 0}]
    view = diagnosis_view(diagnosis(calibration={**calibration, "bins": bins}))["calibration"]
    assert view["classes"] == [("b", 0.3), ("a", 0.1)]
    assert [bar["share"] for bar in view["bars"]] == [1.0, 0.0]
