"""Differences as charts and tables: places on a common axis."""

from dataclasses import replace

import pytest

from detnet.evaluation.comparison.bootstrap import NOISE
from detnet.report.comparison_view import Row, letter, pair_views, points, size_tables
from detnet.report.rendering import minus
from tests.report.test_comparison_text import comparison


def test_charts() -> None:
    view = pair_views(found := comparison(["exact", "shifted"]))[0]
    titles = [title for title, _ in view.charts]
    assert titles == [
        "Average precision, COCO's numbers",
        "Average recall, COCO's numbers",
        "Average precision, by size and IoU",
        "Average recall, by size and IoU",
    ]
    assert view.letter == "B" and 0 < view.told[0] <= view.told[1]
    for _, chart in view.charts:
        assert 0 < chart.zero < 100
        assert [minor for _, text, minor in chart.ticks if text == "0"] == [False]
        for row in chart.rows:
            assert row.span[0] <= row.span[1]
            if row.at is not None:
                assert (row.at < chart.zero) == (row.difference < 0)
                assert row.span[0] - 0.01 <= row.at <= row.span[1] + 0.01
    groups = [row.group for row in view.charts[2][1].rows]
    assert [group for group in groups if group] == ["all", "medium"]
    assert [row.label for row in view.classes.rows] == list(found["scores"][0]["per_class"])[:1]


def test_far_intervals_are_cut_off() -> None:
    found = comparison(["exact", "shifted"])
    headline = found["differences"][0]["headline"]
    one = {"first": 0.5, "other": 0.5, "verdict": "cannot be told from noise"}
    for key in ("AP", "AP50", "AP75"):
        headline[key] = {**one, "difference": 0.01, "low": -0.01, "high": 0.02}
    headline["APs"] = {**one, "difference": 0.3, "low": -0.4, "high": 0.5}
    headline["APm"] = {**one, "difference": 0.0, "low": None, "high": None}
    headline["APl"] = None
    rows = pair_views(found)[0].charts[0][1].rows
    near, far, without = rows[0], rows[3], rows[4]
    assert len(near.ends) == 2 and near.span[1] - near.span[0] > 15
    assert far.at is None and far.ends == [] and far.span == [0, 100]
    assert without.span == [] and without.interval == "-" and without.points == "0.0"
    assert len(rows) == 5


def test_rows_without_anything_do_not_cut_the_others_off() -> None:
    found = comparison(["exact", "shifted"])
    headline = found["differences"][0]["headline"]
    one = {"first": 0.5, "other": 0.5, "verdict": "cannot be told from noise"}
    for key in headline:
        headline[key] = {**one, "difference": 0.0, "low": 0.0, "high": 0.0}
    for key in ("AP", "AP50"):
        headline[key] = {**one, "difference": -0.1, "low": -0.15, "high": -0.05}
    chart = pair_views(found)[0].charts[0][1]
    assert all(row.at is not None and len(row.ends) == 2 for row in chart.rows)
    shown = [(text, minor) for _, text, minor in chart.ticks]
    assert shown == [("−15", False), ("−10", True), ("−5", True), ("0", False)]


def test_tables() -> None:
    tables = size_tables(comparison(["exact", "shifted", "half"], max_dets=(300,)))
    assert [table.title for table in tables][
        2
    ] == "Average precision, 300 results per image and class"
    assert tables[0].columns == ["mean", ".50", ".60", ".70", ".80", ".85"]
    block = tables[0].blocks[0]
    assert [who for who, _ in block.scores] == ["A", "B", "C"]
    assert [who for who, _ in block.differences] == ["B - A", "C - A"]
    assert block.scores[0][1][1] == pytest.approx(1)
    assert [block.size for block in tables[0].blocks if not block.empty] == ["all", "medium"]


def test_minus() -> None:
    assert minus("-") == "–" and minus("-1.2 to +3.0") == "−1.2 to +3.0"


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0, "0.0"), (-0.0004, "0.0"), (0.123, "+12.3"), (-1, "-100")],
)
def test_points(value: float, text: str) -> None:
    assert points(value) == text


def test_letters_and_intervals() -> None:
    assert [letter(n) for n in (0, 25, 26)] == ["A", "Z", "27"]
    one = Row("AP", 0.5, 0.5, 0.0, -0.02, 0.001, "higher")
    assert one.interval == "-2.0 to +0.1" and one.word == "higher"
    assert replace(one, low=None, high=None).interval == "-"


def test_a_difference_that_can_be_told_from_zero_shows_its_side() -> None:
    one = Row("AP", 0.5, 0.4996, -0.0004, -0.0007, -0.0001, "lower")
    assert (one.points, one.interval) == ("-0.04", "-0.1 to -0.01")
    assert replace(one, high=0.0001, verdict=NOISE).points == "0.0"
