"""What was measured of networks trained alone, in words and tables."""

from typing import Any

from detnet.search.records import (
    Baselines,
    ComparedNetwork,
    Ranking,
    StandaloneResult,
    ValidatedNetwork,
    Validation,
    WelchDifference,
)
from detnet.search.standalone.baselines import (
    baselines_markdown,
    comparison_lines,
    format_baselines,
)
from detnet.search.standalone.validate import format_validation

COSTS: dict[str, Any] = {"macs": 288_100_000, "params": 1_850_000}


def validated(
    name: str, path: str, ap: float | None, full: float | None, cheap: float | None, **more: Any
) -> ValidatedNetwork:
    scores = {"full": full, "cheap": cheap}
    return ValidatedNetwork(**COSTS, name=name, path=path, seed=0, AP=ap, scores=scores, **more)


VALIDATION = Validation(
    seed=0,
    confidence=0.95,
    resamples=2000,
    rankings={
        "full": Ranking(tau=1 / 3, interval=(-0.5, 1.0), compared=3),
        "cheap": Ranking(
            tau=None, interval=None, compared=3, undefined="all 3 candidates have the score 0"
        ),
    },
    networks=(
        validated("01", "0 1", 0.2, 0.05, 0.0),
        validated("02", "1 1", 0.3, 0.04, 0.0),
        validated("03", "2 1", 0.4, 0.06, 0.0),
        validated("04", "3 1", None, 0.01, None, error="a loss is nan"),
    ),
)


def compared(
    name: str, path: str, values: tuple[float, ...], kind: str = "random", **more: Any
) -> ComparedNetwork:
    mean = sum(values) / len(values) if values else None
    results = tuple(
        StandaloneResult(**COSTS, name=name, path=path, seed=seed, AP=value)
        for seed, value in enumerate(values or (None,))
    )
    fields: dict[str, Any] = {"interval": None, "trainings": results, **COSTS, **more}
    fields["seeds"] = tuple(range(len(results)))
    return ComparedNetwork(name=name, path=path, kind=kind, values=values, AP=mean, **fields)


BASELINES = Baselines(
    seeds=2,
    within=0.05,
    share_pretraining=False,
    confidence=0.95,
    networks=(
        compared(
            "the winner",
            "0 1",
            (0.30, 0.32),
            "winner",
            interval=(0.183, 0.437),
            notes=("is the largest, too",),
        ),
        compared("random 1", "1 1", (0.29,)),
        compared("random 2", "2 1", ()),
        compared("random 3", "2 2", (0.33,)),
    ),
    differences=(
        WelchDifference(
            name="the random ones", kind="random", difference=0.0, interval=(-0.2, 0.2)
        ),
        WelchDifference(name="all 3x3", kind="first", difference=0.021, interval=None),
    ),
)


def test_the_ranking_in_words() -> None:
    lines = format_validation(VALIDATION).splitlines()
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


def test_the_differences_in_words() -> None:
    assert comparison_lines(BASELINES) == [
        "the winner less the random ones: 0.0 points of AP (-20.0 to +20.0, 95 % interval, "
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
    assert lines[6].startswith("| the random ones together |  |  | 29.0 to 33.0 | 31.0 |")
    assert lines[8] == "- " + comparison_lines(BASELINES)[0]
    assert all(len(line.split("|")) == 9 for line in lines[:7])
    text = format_baselines(BASELINES).splitlines()
    assert text[1].split()[:2] == ["the", "winner"] and text[1].endswith("0 1")
