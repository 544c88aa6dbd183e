"""What a search has found, as numbers."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.backbones.spaces.shuffle_space import BlockKind, ShuffleSpace, ShuffleStage
from detnet.engine.run_records import RunRecord
from detnet.report.search.networks import PublishedNetwork
from detnet.report.search.state import Phase, SearchState
from detnet.report.search.summary import front, generations, preferences, summarise
from detnet.search.config import SearchConfig
from detnet.search.records import Winner
from detnet.search.run import SearchRun
from detnet.search.study.study import CandidateRecord

KINDS = ("shufflenet_3x3", "xception_3x3", "<b>own</b>")


SPACE = ShuffleSpace(
    8,
    (ShuffleStage("c2", 3, 16), ShuffleStage("c3", 3, 40)),
    choices=tuple(BlockKind(name, (3,), narrow=True) for name in KINDS),
)


def candidate(
    generation: int, slot: int, path: str, score: float | None, macs: float, **more: Any
) -> CandidateRecord:
    return CandidateRecord(
        generation=generation,
        slot=slot,
        path=tuple(map(int, path)),
        values=None if score is None else (score,),
        **{
            "state": "failed" if score is None else "done",
            "costs": {"macs": macs},
            "seconds": 2.0,
            "worker": "w",
            "error": None,
            "attempts": 1,
            **more,
        },
    )


def searching(space: Any = SPACE, **settings: Any) -> SearchRun:
    """A search whose folder holds nothing."""
    values = {"population": 3, "generations": 2, "max_macs": 300e6, **settings}
    run = SearchRun(Path("run"), SearchConfig(**values))
    run.__dict__["space"] = space
    return run


def made_search(
    candidates: Sequence[CandidateRecord] = (), run: SearchRun | None = None, **more: Any
) -> SearchState:
    return SearchState(run or searching(), candidates or some(), **more)


def published(name: str, path: str, macs: float = 1e6) -> PublishedNetwork:
    text = f"{path[:3]} {path[3:]}"
    indices = tuple(map(int, path))
    return PublishedNetwork(name=name, indices=indices, path=text, macs=macs, params=1e6)


def some() -> list[CandidateRecord]:
    """Two generations of three; one failed, one runs, one waits."""
    return [
        candidate(0, 0, "000000", 0.20, 250e6),
        candidate(0, 1, "111000", 0.24, 290e6, seconds=4.0),
        candidate(0, 2, "111111", None, 299e6, error="NaN", attempts=3),
        candidate(1, 0, "111001", 0.22, 295e6, worker="v"),
        candidate(1, 1, "100000", None, 255e6, state="running", seconds=None),
        candidate(1, 2, "200000", None, 252e6, state="waiting", seconds=None, worker=None),
    ]


def a_thousand() -> list[CandidateRecord]:
    rng = np.random.default_rng(3)
    return [
        candidate(number // 50, number % 50, "".join(map(str, rng.integers(0, 3, 6))), *pair)
        for number, pair in enumerate(zip(rng.random(1000), rng.random(1000) * 3e8, strict=True))
    ]


def test_progress_counts_states_and_keeps_the_best_so_far() -> None:
    first, second = generations(some())
    assert first.best == first.best_so_far == second.best_so_far == 0.24
    assert second.best == second.quantiles["0.5"] == 0.22
    assert first.quantiles["0.5"] == pytest.approx(0.22)
    assert [getattr(first, name) for name in ("done", "failed", "running", "waiting")] == [
        2,
        1,
        0,
        0,
    ]
    assert [getattr(second, name) for name in ("done", "failed", "running", "waiting")] == [
        1,
        0,
        1,
        1,
    ]


def test_the_front_is_what_a_slow_search_finds() -> None:
    candidates = a_thousand()[:200]

    def beaten(one: CandidateRecord) -> bool:
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
    assert found is not None and (found.best, found.all) == (2, 20)
    c2, c3 = found.stages
    assert c2.best == [0.5, 0.0, 0.5] and c2.all == pytest.approx([0.95, 0, 0.05])
    assert c3.best == c3.all == [0, 1, 0]
    assert [gene.best for gene in found.genes[:3]] == [[0.5, 0.0, 0.5]] * 3
    assert preferences(made_search([candidate(0, 0, "000000", None, 1.0)])) is None


def test_the_winner_is_named_by_the_run_or_is_the_best_so_far() -> None:
    going = made_search()
    assert going.progress == "going on" and going.best is going.candidates[1]
    winner = Winner(path="111 001", macs=5, params=6, score=0.2, generation=1, slot=0)
    ended = made_search(winner=winner)
    assert ended.progress == "ended" and ended.best is ended.candidates[3]
    nothing = SearchState(searching())
    assert nothing.progress == "not begun" and nothing.best is None
    settled = made_search([candidate(n // 3, n % 3, f"00000{n % 3}", 0.1, 1) for n in range(6)])
    assert settled.progress == "ended"


def test_phases_tell_how_far_they_are() -> None:
    steps = [
        {"event": "step", "iteration": n, "epoch": n / 10, "loss": 2.0, "images_per_s": 4.0}
        for n in (10, 20)
    ]
    score = {"event": "evaluation", "iteration": 20, "AP": 0.3, "val_loss": 1.0}
    end = {"event": "end", "iteration": 20, "seconds": 77.0}
    config = {"iterations": 40, "batch_size": 8}
    phases = [
        Phase("one", "a", RunRecord("a", config, {}, [*steps, score, end], [])),
        Phase("two", "b", RunRecord("b", config, {}, steps, [])),
        Phase("three", "c", None),
    ]
    one, two, three = summarise(made_search(phases=phases))["phases"]
    assert (one["state"], one["seconds"], one["scores"]) == ("complete", 77.0, {"AP": 0.3})
    assert (two["state"], two["share"], two["seconds"]) == ("under way", 0.5, 20 * 8 / 4.0)
    assert (three["state"], three["share"], three["seconds"]) == ("not begun", None, None)


def test_the_summary_is_one_json_object() -> None:
    known = [published("known", "110000")]
    summary = json.loads(json.dumps(summarise(made_search(published=known)), allow_nan=False))
    assert summary["best"]["path"] == "111 000" and summary["best"]["score"] == 0.24
    assert summary["count"] == {"planned": 6, "done": 3, "failed": 1, "running": 1, "waiting": 1}
    assert summary["published"][0]["alike"] == 5
    assert [one["path"] for one in summary["candidates"]][:2] == ["000 000", "111 000"]
    assert summary["cost"]["seconds"] == 10.0 and summary["cost"]["retries"] == 2
    workers = [(one["worker"], one["candidates"]) for one in summary["cost"]["workers"]]
    assert workers == [("v", 1), ("w", 3)]
    empty = json.loads(json.dumps(summarise(SearchState(searching())), allow_nan=False))
    assert empty["best"] is None and empty["candidates"] == [] and empty["preferences"] is None


def test_nsga2_weighs_all_its_objectives() -> None:
    candidates = [
        candidate(0, number, f"00000{number}", 0.2, macs, costs={"macs": macs, "params": params})
        for number, (macs, params) in enumerate([(1e6, 5.0), (2e6, 3.0), (3e6, 4.0)])
    ]
    run = searching(method="nsga2", objectives=["macs", "params"])
    summary = summarise(made_search(candidates, run))
    assert summary["front"]["costs"] == ["macs", "params"]
    assert {one["path"] for one in summary["front"]["candidates"]} == {"000 000", "000 001"}
