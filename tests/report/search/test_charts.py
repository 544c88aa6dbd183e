"""A search's charts: what stands where."""

import re

import pytest

from detnet.report.search.charts import (
    cost_text,
    front_chart,
    percent,
    progress_chart,
    score_ticks,
)
from detnet.report.search.summary import generations
from tests.report.search.test_summary import candidate, made_search, some


@pytest.mark.parametrize(
    ("name", "value", "text"),
    [
        ("macs", 288_100_000, "288.1 M"),
        ("macs", 3.9378e9, "3.94 G"),
        ("params", 1.85e6, "1.85 M"),
        ("params", 12, "12"),
        ("latency_ms", 12.345, "12.3 ms"),
        ("latency_ms", 1234.5, "1,234 ms"),
        ("macs", None, "–"),
    ],
)
def test_costs_are_short(name: str, value: float | None, text: str) -> None:
    assert cost_text(name, value) == text


def test_ticks_lie_around_scores_that_hardly_differ() -> None:
    for scores in ([0.2345], [0.0, 0.0], [0.23, 0.235]):
        ticks = score_ticks(scores)
        assert ticks[0] <= min(scores) and max(scores) <= ticks[-1] and len(ticks) > 2
        assert len({percent(tick, ticks) for tick in ticks}) == len(ticks)


def test_progress_has_a_band_a_line_each_and_bars() -> None:
    drawing = progress_chart(generations(some()), some())
    best, median = (
        re.search(f'<polyline class="{style}" points="([^"]+)"', drawing)
        for style in ("one", "two")
    )
    assert best and median and 'class="middle"' in drawing
    x, y = zip(*(map(float, point.split(",")) for point in best[1].split()), strict=True)
    assert x == (250, 750) and y[0] == y[1], "the best so far does not fall"
    heights = {
        state: [float(h) for h in re.findall(f'state-{state}"[^>]+height="([^"]+)"', drawing)]
        for state in ("done", "failed", "running", "waiting")
    }
    assert heights["done"] == [66.7, 33.3] and heights["failed"] == [33.3]
    assert heights["running"] == heights["waiting"] == [33.3]


def test_one_generation_is_enough() -> None:
    candidates = [candidate(0, 0, "000000", 0.2, 1e6), candidate(0, 1, "000001", 0.3, 2e6)]
    drawing = progress_chart(generations(candidates), candidates)
    assert 'class="dot one"' in drawing and '<line class="middle"' in drawing
    assert progress_chart([], []) == ""


def test_the_front_is_a_staircase_up_to_the_right() -> None:
    state = made_search()
    drawing = front_chart(state, "macs")
    line = re.search(r'class="front-line" points="([^"]+)"', drawing)
    assert line
    x, y = zip(*(map(float, point.split(",")) for point in line[1].split()), strict=True)
    assert list(x) == sorted(x) and list(y) == sorted(y, reverse=True) and len(x) == 4
    limit = re.search(r'class="limit" x1="([\d.]+)"', drawing)
    assert limit and float(limit[1]) > max(x[:-1]), "all candidates are within the limit"
    assert "multiply-adds, M" in drawing
    assert front_chart(state, "latency_ms") == ""
