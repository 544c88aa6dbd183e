"""What was measured of networks trained alone, in words, tables and a picture."""

from pathlib import Path
from typing import Any

from detnet.search.standalone.text import (
    baselines_markdown,
    comparison_lines,
    draw_ranking,
    format_baselines,
    format_ranking,
)

COSTS = {"macs": 288_100_000, "params": 1_850_000}
RANKING: dict[str, Any] = {
    "confidence": 0.95,
    "rankings": {
        "full": {"tau": 1 / 3, "interval": [-0.5, 1.0], "compared": 3},
        "cheap": {"tau": None, "undefined": "all 3 candidates have the score 0"},
    },
    "networks": [
        {**COSTS, "name": "01", "path": "0 1", "AP": 0.2, "scores": {"full": 0.05, "cheap": 0.0}},
        {**COSTS, "name": "02", "path": "1 1", "AP": 0.3, "scores": {"full": 0.04, "cheap": 0.0}},
        {**COSTS, "name": "03", "path": "2 1", "AP": 0.4, "scores": {"full": 0.06, "cheap": 0.0}},
        {
            **COSTS,
            "name": "04",
            "path": "3 1",
            "AP": None,
            "scores": {"full": 0.01, "cheap": None},
            "error": "a loss is nan",
        },
    ],
}
BASELINES: dict[str, Any] = {
    "confidence": 0.95,
    "winner_mean": 0.31,
    "networks": [
        {
            **COSTS,
            "name": "the winner",
            "path": "0 1",
            "values": [0.30, 0.32],
            "AP": 0.31,
            "interval": [0.183, 0.437],
            "notes": ["is the largest, too"],
        },
        {
            **COSTS,
            "name": "random 1",
            "path": "1 1",
            "values": [0.29],
            "AP": 0.29,
            "interval": None,
        },
        {**COSTS, "name": "random 2", "path": "2 1", "values": [], "AP": None, "interval": None},
    ],
    "random": {"values": [0.29, 0.33], "mean": 0.31, "interval": [0.1, 0.5]},
    "differences": [
        {"name": "the random ones", "difference": 0.0, "interval": [-0.2, 0.2]},
        {"name": "all 3x3", "difference": 0.021, "interval": None},
    ],
}


def test_the_ranking_in_words() -> None:
    lines = format_ranking(RANKING).splitlines()
    assert lines[0].split() == [
        "network",
        "score,",
        "full",
        "score,",
        "cheap",
        "AP",
        "multiply-adds",
        "path",
    ]
    assert lines[1].split() == ["03", "6.00", "0.00", "40.0", "288.1", "M", "2", "1"]
    assert lines[4].split() == ["04", "1.00", "–", "–", "288.1", "M", "3", "1"]
    assert "0.33 (-0.50 to 1.00, 95 % interval, 3 networks)" in lines[6]
    assert lines[7].endswith("(cheap scoring) is not defined: all 3 candidates have the score 0")
    assert lines[8] == "04: a loss is nan"


def test_the_picture_is_the_same_each_time(tmp_path: Path) -> None:
    pictures = [draw_ranking(tmp_path / f"{n}.svg", RANKING, "full").read_bytes() for n in "ab"]
    assert pictures[0] == pictures[1]
    assert pictures[0].count(b"<use ") >= 3
    assert draw_ranking(tmp_path / "c.svg", RANKING, "cheap").stat().st_size > 1000


def test_the_differences_in_words() -> None:
    assert comparison_lines(BASELINES) == [
        "the winner less the random ones: +0.0 points of AP (-20.0 to +20.0, 95 % interval, "
        "Welch's)",
        "the winner less all 3x3: +2.1 points of AP",
        "1 of 2 random networks lie below its mean",
        "the winner: is the largest, too",
    ]


def test_the_tables() -> None:
    lines = baselines_markdown(BASELINES).splitlines()
    head = "| network | multiply-adds | params | AP of each seed | AP | interval | path |"
    assert lines[:2] == [head, "|---|---|---|---|---|---|---|"]
    row = "| the winner | 288.1 M | 1.85 M | 30.0 32.0 | 31.0 | 18.3 to 43.7 | `0 1` |"
    assert lines[2] == row
    assert lines[4] == "| random 2 | 288.1 M | 1.85 M | – | – | – | `2 1` |"
    assert lines[5].startswith("| the random ones together |  |  | 29.0 to 33.0 | 31.0 |")
    assert lines[7] == "- " + comparison_lines(BASELINES)[0]
    assert all(len(line.split("|")) == 9 for line in lines[:6])
    text = format_baselines(BASELINES).splitlines()
    assert text[1].split()[:2] == ["the", "winner"] and text[1].endswith("0 1")
