"""Networks that were trained alone, on a search's page."""

from dataclasses import replace
from typing import Any

from detnet.report.search.measured import baselines_view, validation_view
from detnet.search.records import Baselines, Ranking, Validation, WelchDifference
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


def test_tau_comes_with_its_interval_and_pairs() -> None:
    view = validation_view(validation(), "AP")
    assert view is not None and (view["trained"], view["count"]) == (2, 3)
    full, cheap = view["budgets"]
    assert (full["tau"], full["interval"], view["sure"]) == ("0.50", "−0.25 to 0.90", "90 %")
    assert full["drawing"].count("data-tip") == 2, "what was not trained has no point"
    assert (cheap["tau"], cheap["undefined"]) == ("–", "all are equal")
    assert [row["real"] for row in view["rows"]] == ["34.0", "30.0", "–"]
    assert view["rows"][0]["scores"] == ["25.00", "12.50"]


def test_baselines_have_means_seeds_and_differences() -> None:
    view = baselines_view(baselines())
    assert view is not None
    winner, lone, _, together = view["rows"]
    assert (winner["real"], winner["interval"]) == ("35.0", "20.0 to 50.0")
    assert winner["values"] == "34.0, 36.0"
    assert (lone["interval"], lone["notes"]) == ("", "a note")
    assert together["together"] and together["real"] == "31.0"
    assert view["differences"] == [
        {"name": "random 1", "points": "+5.0", "interval": "−1.0 to 11.0"}
    ]


def test_they_are_on_the_page() -> None:
    content, page = made_page(full_search(validation=validation(), baselines=baselines()))
    for words in ("Ranking", "full scoring: τ 0.50", "all are equal", "Baselines", "winner less …"):
        assert words in page.text
    assert "<i>was" not in content


def test_nothing_is_made_of_nothing() -> None:
    assert validation_view(None, "AP") is None and baselines_view(None) is None
