"""Networks that were trained alone, on a search's page."""

from typing import Any

from detnet.report.search.measured import baselines_view, validation_view
from tests.report.search.test_page import full_search, made_page


def validation() -> dict[str, Any]:
    networks = [
        {"path": f"000 00{n}", "macs": 1e8 + n, "AP": ap, "scores": {"full": s, "cheap": s / 2}}
        for n, (ap, s) in enumerate([(0.30, 0.2), (0.34, 0.25), (None, 0.22)])
    ]
    networks[2]["error"] = "a loss <i>was</i> not finite"
    return {
        "confidence": 0.9,
        "networks": networks,
        "rankings": {
            "full": {"tau": 0.5, "interval": [-0.25, 0.9], "compared": 2},
            "cheap": {"tau": None, "interval": None, "compared": 2, "undefined": "all are equal"},
        },
    }


def baselines() -> dict[str, Any]:
    about = {"path": "000 000", "macs": 2.9e8}
    winner = {"name": "the winner", "AP": 0.35, "values": [0.34, 0.36], "interval": [0.2, 0.5]}
    lone = {"name": "random 1", "AP": 0.3, "values": [0.3], "interval": None, "notes": ["a note"]}
    return {
        "networks": [{**about, **winner}, {**about, **lone}],
        "random": {"name": "the random ones", "values": [0.3, 0.32], "mean": 0.31},
        "differences": [{"name": "random 1", "difference": 0.05, "interval": [-0.01, 0.11]}],
    }


def test_tau_comes_with_its_interval_and_pairs() -> None:
    view = validation_view(validation(), "AP")
    assert view is not None and (view["trained"], view["count"]) == (2, 3)
    full, cheap = view["ways"]
    assert (full["tau"], full["interval"], view["sure"]) == ("0.50", "−0.25 to 0.90", "90 %")
    assert full["drawing"].count("data-tip") == 2, "what was not trained has no point"
    assert (cheap["tau"], cheap["undefined"]) == ("–", "all are equal")
    assert [row["real"] for row in view["rows"]] == ["34.0", "30.0", "–"]
    assert view["rows"][0]["scores"] == ["25.00", "12.50"]


def test_baselines_have_means_seeds_and_differences() -> None:
    view = baselines_view(baselines(), "AP")
    assert view is not None
    winner, lone, together = view["rows"]
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
    assert validation_view({}, "AP") is None and baselines_view({"networks": []}, "AP") is None
