"""τ of scores with what networks reach alone, and what it must be held against."""

from dataclasses import replace

import numpy as np
import pytest

from detnet.search.records import ValidatedNetwork
from detnet.search.standalone.ranking import (
    bound_lines,
    compare_rankings,
    rank,
    ranking_line,
    validation_lines,
)
from detnet.search.standalone.statistics import kendall_tau
from tests.search.standalone.test_text import VALIDATION, validated


def networks(count: int) -> list[ValidatedNetwork]:
    """Full scores know what is reached, cheap ones half of it, multiply-adds nothing."""
    rng = np.random.default_rng(0)
    reached, noise, macs = rng.random((3, count))
    return [
        replace(validated("x", "0 0", ap, ap, ap + other), macs=size)
        for ap, other, size in zip(reached, noise, macs, strict=True)
    ]


def test_the_ranking_is_of_the_networks_that_have_both_scores() -> None:
    rows = [
        validated(str(score), "0 0", real, score, None)
        for score, real in [(0.1, 0.2), (0.2, 0.1), (0.3, 0.5), (None, 0.1), (0.2, None)]
    ]
    found = rank(rows, "full")
    assert found.tau == kendall_tau([0.1, 0.2, 0.3], [0.2, 0.1, 0.5])
    assert found.compared == 3 and found.interval is not None
    assert found.interval[0] <= found.tau <= found.interval[1]
    nothing = rank(rows[:1], "full")
    assert nothing.tau is None and "at least two" in str(nothing.undefined)
    assert "not defined" in ranking_line(replace(VALIDATION, rankings={"full": nothing}), "full")


def test_sizes_rank_too_and_a_score_is_held_against_them() -> None:
    rows = networks(40)
    macs = rank(rows, "macs")
    assert macs.tau == kendall_tau([one.macs for one in rows], [one.AP or 0.0 for one in rows])
    differences = {(one.name, one.other): one for one in compare_rankings(rows, [("full", "macs")])}
    (one,) = differences.values()
    assert one.difference == pytest.approx(1 - (macs.tau or 0.0)) and one.interval[0] > 0.5
    found = replace(VALIDATION, by_macs=macs, differences=(one,))
    low, high = one.interval
    assert (
        f"Multiply-adds alone, without any training, rank them with tau {macs.tau:.2f}"
        in (bound_lines(found)[0])
    )
    told = f"tau of full scoring less that of multiply-adds: {one.difference:+.2f} ({low:+.2f}"
    assert bound_lines(found)[1].startswith(told)
    assert validation_lines(found)[-2:] == bound_lines(found)


def test_two_ways_of_scoring_are_compared_on_the_networks_that_have_both() -> None:
    rows = networks(30)
    lost = [replace(rows[0], scores={"full": None, "cheap": 0.1}), *rows[1:]]
    (cheap,) = compare_rankings(lost, [("cheap", "full")])
    there = [one for one in rows[1:]]
    tau = {
        name: kendall_tau([one.scores[name] or 0.0 for one in there], [o.AP or 0.0 for o in there])
        for name in ("cheap", "full")
    }
    assert cheap.difference == pytest.approx(tau["cheap"] - tau["full"]) and cheap.difference < 0
    assert cheap.interval[0] < cheap.difference < cheap.interval[1] < 0
    assert compare_rankings(VALIDATION.networks, [("cheap", "full")]) == ()  # all scores are equal
