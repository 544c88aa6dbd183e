"""What a search has found, as numbers."""

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from detnet.engine.runs import RunRecord
from detnet.report.search.records import CandidateRow, GeneRow, KnownNetwork, PhaseRow, SearchRecord
from detnet.report.search.summary import best, front, generations, preferences, state, summarise

KINDS = ("shufflenet_3x3", "xception_3x3", "<b>own</b>")


def made_genes() -> list[GeneRow]:
    """Two stages of three blocks."""
    return [
        GeneRow(stage, f"block {index}", KINDS, ("S3", "X3", "<3"), f"{channels} /2")
        for stage, channels in (("c2", 16), ("c3", 40))
        for index in range(3)
    ]


def candidate(
    generation: int, slot: int, path: str, score: float | None, macs: float, **more: Any
) -> CandidateRow:
    indices = tuple(map(int, path))
    text = f"{path[:3]} {path[3:]}"
    done = "failed" if score is None else "done"
    fields: dict[str, Any] = {"state": done, "seconds": 2.0, "worker": "w", **more}
    return CandidateRow(
        generation, slot, indices, text, score=score, costs={"macs": macs}, **fields
    )


def made_search(candidates: Sequence[CandidateRow] = (), **more: Any) -> SearchRecord:
    config = {"method": "evolution", "population": 3, "generations": 2, "max_macs": 300e6}
    config["space"] = "own"
    fields: dict[str, Any] = {"config": config, "genes": made_genes(), **more}
    return SearchRecord("run", candidates=candidates or some(), **fields)


def some() -> list[CandidateRow]:
    """Two generations of three; one failed, one runs, one waits."""
    return [
        candidate(0, 0, "000000", 0.20, 250e6),
        candidate(0, 1, "111000", 0.24, 290e6, seconds=4.0),
        candidate(0, 2, "111111", None, 299e6, error="NaN", attempts=3),
        candidate(1, 0, "111001", 0.22, 295e6, worker="v"),
        candidate(1, 1, "100000", None, 255e6, state="running", seconds=None),
        candidate(1, 2, "200000", None, 252e6, state="waiting", seconds=None, worker=None),
    ]


def a_thousand() -> list[CandidateRow]:
    rng = np.random.default_rng(3)
    return [
        candidate(number // 50, number % 50, "".join(map(str, rng.integers(0, 3, 6))), *pair)
        for number, pair in enumerate(zip(rng.random(1000), rng.random(1000) * 3e8, strict=True))
    ]


def test_progress_counts_states_and_keeps_the_best_so_far() -> None:
    first, second = generations(some())
    assert first["best"] == first["best_so_far"] == second["best_so_far"] == 0.24
    assert second["best"] == second["quantiles"]["0.5"] == 0.22
    assert first["quantiles"]["0.5"] == pytest.approx(0.22)
    assert [first[name] for name in ("done", "failed", "running", "waiting")] == [2, 1, 0, 0]
    assert [second[name] for name in ("done", "failed", "running", "waiting")] == [1, 0, 1, 1]


def test_the_front_is_what_a_slow_search_finds() -> None:
    candidates = a_thousand()[:200]

    def beaten(one: CandidateRow) -> bool:
        assert one.score is not None
        return any(
            other.score is not None
            and one.score is not None
            and other.score >= one.score
            and other.costs["macs"] <= one.costs["macs"]
            and (other.score, -other.costs["macs"]) != (one.score, -one.costs["macs"])
            for other in candidates
        )

    expected = {one.path for one in candidates if not beaten(one)}
    found = front(candidates, ["macs"])
    assert {one.path for one in found} == expected and 1 < len(found) < 50
    assert [one.score for one in found] == sorted((one.score for one in found), reverse=True)
    assert front(some(), ["macs"])[0].score == 0.24
    assert len(front(some(), ["macs"])) == 2, "failed ones are on no front"
    assert front(some(), ["latency_ms"]) == front(some(), []) == []


def test_preferences_are_shares_of_the_best_tenth_and_of_all() -> None:
    candidates = [candidate(0, n, "000111", n / 100, 1e6) for n in range(19)]
    candidates += [candidate(0, 19 + n, "222111", 0.5 + n / 100, 1e6) for n in range(1, 2)]
    found = preferences(made_search(candidates))
    assert found is not None and (found["best"], found["all"]) == (2, 20)
    c2, c3 = found["stages"]
    assert c2["best"] == [0.5, 0.0, 0.5] and c2["all"] == pytest.approx([0.95, 0, 0.05])
    assert c3["best"] == c3["all"] == [0, 1, 0]
    assert [gene["best"] for gene in found["genes"][:3]] == [[0.5, 0.0, 0.5]] * 3
    assert preferences(made_search([candidate(0, 0, "000000", None, 1)])) is None


def test_the_winner_is_named_by_the_run_or_is_the_best_so_far() -> None:
    going = made_search()
    assert state(going) == "going on" and best(going) is going.candidates[1]
    ended = made_search(winner={"path": "x"}, winner_path=(1, 1, 1, 0, 0, 1))
    assert state(ended) == "ended" and best(ended) is ended.candidates[3]
    assert state(SearchRecord("run")) == "not begun" and best(SearchRecord("run")) is None
    settled = made_search([candidate(n // 3, n % 3, f"00000{n % 3}", 0.1, 1) for n in range(6)])
    assert state(settled) == "ended"


def test_phases_tell_how_far_they_are() -> None:
    steps = [
        {"event": "step", "iteration": n, "epoch": n / 10, "loss": 2.0, "images_per_s": 4.0}
        for n in (10, 20)
    ]
    score = {"event": "evaluation", "iteration": 20, "AP": 0.3, "val_loss": 1.0}
    end = {"event": "end", "iteration": 20, "seconds": 77.0}
    config = {"iterations": 40, "batch_size": 8}
    phases = [
        PhaseRow("one", "a", RunRecord("a", config, {}, [*steps, score, end], [])),
        PhaseRow("two", "b", RunRecord("b", config, {}, steps, [])),
        PhaseRow("three", "c", None),
    ]
    one, two, three = summarise(made_search(phases=phases))["phases"]
    assert (one["state"], one["seconds"], one["scores"]) == ("complete", 77.0, {"AP": 0.3})
    assert (two["state"], two["share"], two["seconds"]) == ("under way", 0.5, 20 * 8 / 4.0)
    assert (three["state"], three["share"], three["seconds"]) == ("not begun", None, None)


def test_the_summary_is_one_json_object() -> None:
    known = [KnownNetwork("known", (1, 1, 0, 0, 0, 0), "110 000", {"macs": 1e6})]
    summary = json.loads(json.dumps(summarise(made_search(known=known)), allow_nan=False))
    assert summary["best"]["path"] == "111 000" and summary["best"]["score"] == 0.24
    assert summary["count"] == {"planned": 6, "done": 3, "failed": 1, "running": 1, "waiting": 1}
    assert summary["published"][0]["alike"] == 5
    assert [one["path"] for one in summary["candidates"]][:2] == ["000 000", "111 000"]
    assert summary["cost"]["seconds"] == 10.0 and summary["cost"]["retries"] == 2
    workers = [(one["worker"], one["candidates"]) for one in summary["cost"]["workers"]]
    assert workers == [("v", 1), ("w", 3)]
    empty = json.loads(json.dumps(summarise(SearchRecord("run")), allow_nan=False))
    assert empty["best"] is None and empty["candidates"] == [] and empty["preferences"] is None


def test_nsga2_weighs_all_its_objectives() -> None:
    candidates = []
    config = {"method": "nsga2", "objectives": ["macs", "params"], "population": 3}
    for number, (macs, params) in enumerate([(1e6, 5.0), (2e6, 3.0), (3e6, 4.0)]):
        path = (0, 0, 0, 0, 0, number)
        costs = {"macs": macs, "params": params}
        candidates.append(CandidateRow(0, number, path, f"{number}", "done", 0.2, costs))
    summary = summarise(made_search(candidates, config=config))
    assert summary["front"]["costs"] == ["macs", "params"]
    assert {one["path"] for one in summary["front"]["candidates"]} == {"0", "1"}
