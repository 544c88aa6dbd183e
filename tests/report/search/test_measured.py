"""Networks that were trained alone, on a search's page."""

import re
from dataclasses import replace
from typing import Any

from detnet.report.search.charts import ranking_chart
from detnet.search.records import (
    Baselines,
    Ranking,
    RankingDifference,
    Validation,
    WelchDifference,
)
from detnet.search.standalone.spread import measure_spread
from tests.report.search.test_page import full_search, made_page
from tests.search.standalone.test_text import BASELINES, VALIDATION, compared, validated


def validation() -> Validation:
    undefined: Any = {"compared": 2, "undefined": "all are equal"}
    return replace(
        VALIDATION,
        confidence=0.9,
        rankings={
            "full": Ranking(tau=0.5, interval=(-0.25, 0.9), compared=2),
            "cheap": Ranking(tau=None, interval=None, **undefined),
        },
        networks=(
            validated("1", "000 000", 0.30, 0.2, 0.1),
            validated("2", "000 001", 0.34, 0.25, 0.125),
            validated("3", "000 002", None, 0.22, 0.11, error="a loss <i>was</i> not finite"),
        ),
    )


def baselines() -> Baselines:
    return replace(
        BASELINES,
        networks=(
            compared("the winner", "000 000", (0.34, 0.36), "winner", interval=(0.2, 0.5)),
            compared("random 1", "000 000", (0.3,), notes=("a note",)),
            compared("random 2", "000 000", (0.32,)),
        ),
        differences=(
            WelchDifference(
                name="random 1", kind="random", difference=0.05, interval=(-0.01, 0.11)
            ),
        ),
    )


def section(content: str, begin: str, end: str) -> list[list[str]]:
    """The cells of a part's tables, their tags left out."""
    part = content[content.index(f'id="{begin}"') : content.index(f'id="{end}"')]
    rows = re.findall(r"<tr>(.*?)</tr>", part)
    return [
        [re.sub("<[^>]*>", "", cell) for cell in re.findall(r"<t[hd][^>]*>.*?</t[hd]>", row)]
        for row in rows
    ]


def test_tau_comes_with_its_interval_and_pairs() -> None:
    content, page = made_page(full_search(validation=validation()))
    assert "2 of 3 networks, drawn at random" in page.text
    assert "full scoring: τ 0.50 (−0.25 to 0.90, 90 % interval)" in page.text
    assert "cheap scoring: τ –" in page.text and "2 networks: all are equal" in page.text
    head, *rows = section(content, "validation", "phases")[:4]
    assert head[:4] == ["path", "AP alone", "AP shared, full", "AP shared, cheap"]
    assert [row[1] for row in rows] == ["34.0", "30.0", "–"]
    assert rows[0][2:4] == ["25.00", "12.50"]


def test_what_was_not_trained_has_no_point() -> None:
    drawing = ranking_chart(validation(), "full", "AP")
    assert drawing.count("data-tip") == 2
    assert "AP with shared weights 20.00\nAP trained alone 30.0" in drawing
    nothing = replace(validation(), networks=validation().networks[2:])
    assert ranking_chart(nothing, "full", "AP") == ""


def test_several_seeds_are_told_and_drawn() -> None:
    first, second, _ = validation().networks
    networks = (replace(first, values=(0.28, 0.32)), replace(second, values=(0.35, 0.33)))
    spread = measure_spread([one.values for one in networks])
    macs = Ranking(tau=0.25, interval=(-0.5, 0.75), compared=2)
    less = RankingDifference(name="full", other="macs", difference=0.25, interval=(-0.3, 1))
    more: dict[str, Any] = {"spread": spread, "by_macs": macs, "differences": (less,)}
    more["taken"] = "/runs/2026-11-20/my-tau-2"
    found = replace(validation(), networks=networks, **more)
    content, page = made_page(full_search(validation=found))
    assert "Networks differ by" in page.text and "With 2 seeds no score is expected" in page.text
    assert "Multiply-adds alone, without any training, rank them with τ 0.25 (−0.50 to" in page.text
    assert "τ of full scoring less that of multiply-adds: +0.25 (−0.30 to +1.00" in page.text
    assert "The networks were drawn and trained for /runs/2026-11-20/my-tau-2" in page.text
    head, *rows = section(content, "validation", "phases")[:3]
    assert head[2] == "of each seed" and [row[2] for row in rows] == ["35.0, 33.0", "28.0, 32.0"]
    drawing = ranking_chart(found, "full", "AP")
    assert drawing.count("<polyline") == 2 and drawing.count('class="dot pt faint"') == 4
    assert "AP trained alone 30.0, by seeds 28.0, 32.0" in drawing
    assert drawing.count("data-tip") == 2, "a network is told once"


def test_baselines_have_means_seeds_and_differences() -> None:
    content, _ = made_page(full_search(baselines=baselines()))
    _, winner, lone, _, together, _, difference = section(content, "baselines", "phases")[:7]
    assert winner[2:5] == ["35.0", "20.0 to 50.0", "34.0, 36.0"]
    assert lone[0] == "random 1 a note" and lone[3] == "–"
    assert together[0] == "the random ones" and together[2] == "31.0"
    assert difference == ["random 1", "+5.0", "−1.0 to +11.0"]


def test_a_difference_of_networks_is_signed_as_on_a_terminal() -> None:
    one = baselines().differences[0]
    told = replace(one, difference=-0.02, interval=(-0.04, -0.0004))
    content, _ = made_page(full_search(baselines=replace(baselines(), differences=(told,))))
    assert section(content, "baselines", "phases")[6] == [one.name, "−2.0", "−4.0 to −0.04"]


def test_they_are_on_the_page() -> None:
    content, page = made_page(full_search(validation=validation(), baselines=baselines()))
    for words in ("Ranking", "full scoring: τ 0.50", "all are equal", "Baselines", "winner less …"):
        assert words in page.text
    assert "<i>was" not in content
