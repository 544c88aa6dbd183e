"""Charts: axes with round numbers, curves in place, nothing for nothing."""

import math
import re
from typing import Any
from xml.etree import ElementTree

import pytest

from detnet.report.charts import (
    HEIGHT,
    WIDTH,
    Chart,
    Line,
    chart_file,
    line_chart,
    nice_ticks,
    smoothed,
    thinned,
    training_charts,
)


@pytest.mark.parametrize(
    ("low", "high", "ticks"),
    [
        (0, 1, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 0.87, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (0, 12000, [0, 2500, 5000, 7500, 10000, 12500]),
        (-1, 1, [-1, -0.5, 0, 0.5, 1]),
        (0, 0, [0, 0.2, 0.4, 0.6, 0.8, 1.0]),
        (3e8, 3e8, [3e8, 3.1e8, 3.2e8, 3.3e8]),
    ],
)
def test_ticks_are_round_and_cover(low: float, high: float, ticks: list[float]) -> None:
    assert nice_ticks(low, high) == pytest.approx(ticks)


@pytest.mark.parametrize("size", [1e-30, 1e-13, 1e20])
def test_tiny_and_huge_values_have_an_axis(size: float) -> None:
    svg = line_chart([Line("loss", [(0, 4 * size), (50, 2 * size)], "one")], x_name="iteration")
    assert f'points="0,{HEIGHT * 0:g} {WIDTH},{HEIGHT / 2:g}"' in svg
    assert f'<span style="top:50.00%">{2 * size:g}</span>' in svg


def test_twelve_curves_are_told_apart() -> None:
    step = {"event": "step", "iteration": 1, **{f"loss_{n}": 1.0 for n in range(12)}}
    parts = training_charts([step, {**step, "iteration": 2}])[0]
    assert parts.title == "Its parts" and len({style for _, style in parts.legend}) == 12


def test_lines_of_one_name_are_named_once_to_those_who_cannot_see_them() -> None:
    lines = [Line(name, [(0, 1.0), (1, 2.0)], "one") for name in ("a", "b", "a", "b")]
    assert 'aria-label="a, b"' in line_chart(lines, x_name="epoch")


def test_a_curve_is_placed_within_the_axes() -> None:
    svg = line_chart([Line("<loss>", [(0, 4.0), (50, 2.0), (100, 1.0)], "one")], x_name="iteration")
    tree = ElementTree.fromstring(svg)
    points = tree.find(".//polyline").get("points").split()  # type: ignore[union-attr]
    places = [tuple(map(float, point.split(","))) for point in points]
    assert [x for x, _ in places] == sorted(x for x, _ in places)
    assert [y for _, y in places] == sorted(y for _, y in places), "a falling loss goes down"
    assert all(0 <= x <= WIDTH and 0 <= y <= HEIGHT for x, y in places)
    assert tree.find(".//svg").get("aria-label") == "<loss>"  # type: ignore[union-attr]


def test_fractions_are_written_as_percent() -> None:
    svg = line_chart([Line("AP", [(1, 0.2), (2, 0.5)], "one")], x_name="iteration", percent=True)
    assert ">40%<" in svg


def test_what_is_not_finite_is_left_out() -> None:
    points = [(1, 1.0), (2, float("nan")), (3, float("inf")), (4, 2.0)]
    svg = line_chart([Line("loss", points, "one")], x_name="iteration")
    assert len(re.findall('class="dot', svg)) == 2 and "nan" not in svg
    assert line_chart([Line("loss", [], "one")], x_name="iteration") == ""
    assert line_chart([Line("loss", [(1, float("nan"))], "one")], x_name="iteration") == ""


def test_one_point_and_flat_curves_are_drawn() -> None:
    for points in ([(0, 0.0)], [(5, 3.0)], [(1, 0.0), (2, 0.0)]):
        assert 'class="dot' in line_chart([Line("loss", points, "one")], x_name="iteration")


def test_smoothing_is_a_moving_mean() -> None:
    points = [(index, float(index % 2)) for index in range(80)]
    flat = smoothed(points)
    assert [x for x, _ in flat] == [x for x, _ in points]
    assert [y for _, y in flat[10:]] == pytest.approx([0.5] * 70)
    assert smoothed([(3, 7.0)]) == [(3, 7.0)]


@pytest.mark.parametrize("count", [19, 20, 45, 200, 211])
@pytest.mark.parametrize("high", [0.5, 3e9, 1e20])
def test_a_high_loss_counts_as_long_as_it_is_in_the_window(count: int, high: float) -> None:
    points = [(n, high if n == 3 else 1 + n / 7) for n in range(count)]
    losses, window = [y for _, y in points], max(1, count // 20)
    expected = [
        math.fsum(losses[max(0, n + 1 - window) : n + 1]) / min(n + 1, window) for n in range(count)
    ]
    assert [y for _, y in smoothed(points)] == pytest.approx(expected, rel=1e-12)


def test_thinning_keeps_the_ends() -> None:
    points = [(float(index), 0.0) for index in range(10_001)]
    thin = thinned(points)
    assert len(thin) <= 402 and thin[0] == points[0] and thin[-1] == points[-1]
    assert thinned(points[:400]) == points[:400]


def test_axes_may_be_given() -> None:
    line = Line("precision", [(0.0, 1.0), (0.5, 0.25)], "one")
    html = line_chart(
        [line], x_name="recall", percent=True, x_percent=True, x_range=(0, 1), y_range=(0, 1)
    )
    points = ElementTree.fromstring(html).find(".//polyline").get("points")  # type: ignore[union-attr]
    assert points == f"0,0 {WIDTH / 2:g},{HEIGHT * 0.75:g}"
    assert html.count(">100%<") == 2
    assert "dot" not in line_chart([line], x_name="recall", dots=False)


def test_a_file_of_its_own_says_what_it_shows() -> None:
    lines = [Line("a & b", [(1, 20.0), (2, 45.0)], ""), Line("c", [(1, 10.0)], "")]
    drawing = ElementTree.fromstring(chart_file(lines, x_name="epoch", y_name="AP, percent"))
    texts = [element.text for element in drawing if element.tag.endswith("text")]
    assert texts[-2:] == ["a & b", "c"] and {"epoch", "AP, percent", "50"} <= {*texts}
    first, second = (e for e in drawing if e.tag.endswith("polyline"))
    assert first.get("stroke") != second.get("stroke")
    (x1, y1), (x2, y2) = (map(float, p.split(",")) for p in (first.get("points") or "").split())
    assert x1 < x2 and y1 > y2


def events() -> list[dict[str, Any]]:
    """Ten steps and three evaluations, of which the second was the best."""
    steps = [
        {"event": "step", "iteration": n, "loss": 3 / n, "loss_mask": 1 / n, "loss_box_reg": 2 / n}
        for n in range(1, 11)
    ]
    found = {4: (0.25, 0.5), 7: (0.375, 0.25), 10: (0.3125, 0.4375)}
    evaluations = [
        {"event": "evaluation", "iteration": n, "AP": box, "segm_AP": mask, "val_loss": 1.5}
        for n, (box, mask) in found.items()
    ]
    return [*steps, *evaluations]


def charts(of: list[dict[str, Any]]) -> dict[str, Chart]:
    return {chart.title: chart for chart in training_charts(of)}


def test_only_what_was_logged_is_drawn() -> None:
    found = charts(events())
    assert list(found) == [
        "Loss", "Its parts", "Average precision on val", "Average precision of masks on val",
    ]  # fmt: skip
    assert [name for name, _ in found["Loss"].legend] == ["each step", "moving mean", "on val"]
    assert [name for name, _ in found["Its parts"].legend] == ["mask", "box_reg"]
    assert not charts([])


def test_the_best_score_is_named_wherever_it_was() -> None:
    found = charts(events())
    assert found["Average precision on val"].note == "best AP 37.5 at iteration 7"
    assert found["Average precision of masks on val"].note == "best AP 50.0 at iteration 4"
