"""What the page draws of a diagnosis, from hand-made ones."""

import re
from typing import Any

import pytest

from detnet.engine.run_records import RunRecord
from detnet.report.charts import HEIGHT, WIDTH
from detnet.report.diagnosis import draw_curves
from detnet.report.run import PageContent, render


def diagnosis(**changes: Any) -> Any:
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
            "classes": {"a": {"50": step, "75": None}, "b": {"50": None, "75": None}},
            "mean": {"50": step, "75": step},
        },
        "calibration": {"ece": 0.1, "mce": 0.2, "bins": [], "per_class": {"a": 0.1, "b": None}},
        **changes,
    }


def page(**changes: Any) -> str:
    record = RunRecord("a run", {}, {}, [], [])
    return render(record, PageContent(diagnoses=[("Boxes", diagnosis(**changes))]))


def of_classes(names: list[str], matrix: list[list[int]]) -> str:
    return page(confusion={"names": [*names, "background"], "matrix": matrix})


def test_bars_share_a_scale() -> None:
    widths = re.findall(r'class="bar-cell"><i style="width: ([\d.]+)%', page())
    assert widths == ["25.0", "100.0"]
    nothing = page(errors={"missed": {"count": 0, "cost": None}})
    assert 'width: 0.0%"></i></td><td>–</td>' in nothing


def test_confusion_is_shaded_by_shares_of_a_row() -> None:
    content = page()
    assert re.findall(r'<td style="--share: (\d+)%"', content)[:3] == ["60", "20", "20"]
    assert content.count('class="strong"') == 3 and "Most often confused" not in content


def test_most_often_confused_are_classes() -> None:
    rows = [[0, 3, 0, 0, 0, 0, 0, 8], [1, *[0] * 7], *[[0] * 8] * 5, [9, *[0] * 7]]
    content = of_classes(list("abcdefg"), rows)
    found = content[content.index("Most often confused") : content.index("What is taken for what")]
    assert re.findall(r'row">(. → .)<.*?width: ([\d.]+)%', found) == [
        ("a → b", "100.0"),
        ("b → a", "33.3"),
    ]
    assert "No class is taken for another" in of_classes(list("abcdefg"), [[0] * 8] * 8)


@pytest.mark.parametrize(("classes", "numbers"), [(16, True), (17, False)])
def test_many_classes_become_a_map(classes: int, numbers: bool) -> None:
    names = [f"n{index}" for index in range(classes)]
    rows = [[0] * (classes + 1) for _ in range(classes + 1)]
    rows[1][2], rows[1][1] = 1, 3
    content = of_classes(names, rows)
    assert ('class="map"' not in content) == numbers
    if not numbers:
        assert 'opacity="0.34"><title>n1 → n2: 1</title>' in content


def test_curves_keep_their_corners() -> None:
    curves = draw_curves(diagnosis()["curves"])
    corners = f"0,0 {WIDTH / 2:g},0 {WIDTH * 0.51:g},{HEIGHT} {WIDTH},{HEIGHT}"
    assert curves.lines == [[corners, corners], [corners, ""]]
    assert curves.names == ["a"], "b has nothing to find"
    assert curves.drawing.count("<polyline") == 2


def test_classes_are_named_by_how_far_off_they_are() -> None:
    calibration = {"ece": 0.1, "mce": 0.2, "per_class": {"a": 0.1, "b": 0.3, "c": None}}
    bins = [{"low": 0.0, "high": 0.5, "score": 0.2, "precision": 0.1, "count": 4}]
    bins += [{"low": 0.5, "high": 1.0, "score": None, "precision": None, "count": 0}]
    content = page(calibration={**calibration, "bins": bins})
    assert "Furthest off: b 30.0, a 10.0." in content
    assert re.findall(r'class="count" .*? height="([\d.]+)"', content) == ["100.0", "0.0"]
    assert "no detections" in page(calibration={**calibration, "bins": []})
