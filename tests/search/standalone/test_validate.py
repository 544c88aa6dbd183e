"""Validation: the plan comes first and stays, trainings are shared and resumed, τ is told."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.search.records import StandaloneResult, SupernetScore, write_record
from detnet.search.run import SearchRun
from detnet.search.standalone.sharing import claimed
from detnet.search.standalone.statistics import kendall_tau
from detnet.search.standalone.validate import format_validation, rank, ranking_line, validate
from tests.search.settings_of_search import make_run
from tests.search.standalone.test_text import VALIDATION, validated


def quiet(event: dict[str, Any]) -> None:
    pass


@pytest.fixture
def run(scored_run: Path, scenes: Path, tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", scored_run, scenes)


class Kill(Exception):
    """Stands for kill -9."""


def killing(text: str) -> Callable[[dict[str, Any]], None]:
    def on_event(event: dict[str, Any]) -> None:
        if text in event.get("text", event["event"]):
            raise Kill

    return on_event


def plan_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "validate" / "plan.json").read_text())
    return found


def test_the_plan_is_written_before_anything_is_scored(run: Path) -> None:
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    plan = plan_of(run)
    assert plan["seed"] == 3 and len(plan["networks"]) == 10
    assert not list((run / "validate").glob("*/score_*.json"))
    paths = [network["path"] for network in plan["networks"]]
    assert len(set(paths)) == 10
    assert all(network["macs"] <= 2e6 for network in plan["networks"])

    with pytest.raises(Kill):  # more networks are added to these
        validate(run, count=13, on_event=killing("trainings of networks alone"))
    longer = plan_of(run)
    assert longer["networks"][:10] == plan["networks"] and len(longer["networks"]) == 13
    with pytest.raises(InputError, match="13 networks are planned"):
        validate(run, count=12, on_event=quiet)
    with pytest.raises(InputError, match="drawn with seed 3, not 4"):
        validate(run, seed=4, on_event=quiet)
    assert plan_of(run) == longer


def test_seeds_are_added_to_all_networks(run: Path) -> None:
    told: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        told.append(event.get("text", ""))
        killing("trainings of networks alone")(event)

    for seeds, trainings in ((1, 10), (3, 30)):
        with pytest.raises(Kill):
            validate(run, seeds=seeds, on_event=listen)
        assert told[-1].startswith(f"{trainings} trainings of networks alone")
    assert {tuple(one["seeds"]) for one in plan_of(run)["networks"]} == {(3, 4, 5)}
    with pytest.raises(InputError, match=r"--seeds 2: 3 are planned"):
        validate(run, seeds=2, on_event=quiet)
    with pytest.raises(Kill):  # as planned
        validate(run, count=11, on_event=listen)
    assert told[-1].startswith("33 trainings")


def test_several_seeds_tell_how_far_networks_differ(run: Path) -> None:
    """All was scored and trained by others, who measured anything."""
    with pytest.raises(Kill):
        validate(run, seeds=2, on_event=killing("trainings of networks alone"))
    rng = np.random.default_rng(0)
    for number, network in enumerate(plan_of(run)["networks"]):
        folder = run / "validate" / network["name"]
        costs = {"path": network["path"], "macs": network["macs"], "params": network["params"]}
        write_record(folder / "score_full.json", SupernetScore(score=0.01 * number, seconds=1.0))
        for seed, place in ((3, folder), (4, folder / "seed4")):
            ap = 0.3 + 0.02 * number + 0.01 * rng.random()
            found = StandaloneResult(**costs, name="x", seed=seed, AP=ap)
            write_record(place / "result.json", found)
    found = validate(run, on_event=quiet)
    assert found is not None and found == SearchRun.open(run).validation
    spread = found.spread
    assert spread is not None and (spread.networks, spread.seeds) == (10, 2)
    assert spread.of_networks == pytest.approx(0.06, rel=0.1) and spread.of_seeds < 0.006
    first = found.networks[0]
    assert len(first.values) == 2 and sum(first.values) / 2 == pytest.approx(first.AP)
    text = format_validation(found)
    assert "by seeds" in text and "Networks differ by" in text and found.rankings["full"].tau == 1


def test_other_draws_by_other_seeds_and_too_few(run: Path) -> None:
    with pytest.raises(InputError, match="at least 10"):
        validate(run, count=9, on_event=quiet)
    plans = []
    for seed in (1, 2):
        with pytest.raises(Kill):
            validate(run, seed=seed, on_event=killing("trainings of networks alone"))
        plans.append(plan_of(run)["networks"])
        shutil.rmtree(run / "validate")
    assert plans[0] != plans[1]


def test_other_settings_are_refused(run: Path) -> None:
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("iterations: 2", "iterations: 3"))
    with pytest.raises(InputError, match="train iterations 2, the settings now say 3"):
        validate(run, on_event=quiet)


def test_torchrun_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="not for torchrun"):
        validate(run, on_event=quiet)


def test_networks_are_scored_trained_and_ranked(run: Path) -> None:
    """Most were scored and trained by others, who measured anything; two and one are left."""
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    plan = plan_of(run)["networks"]
    real = [0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.8, 0.7, 0.9]
    for number, (network, score) in enumerate(zip(plan[:9], real, strict=True)):
        folder = run / "validate" / network["name"]
        costs = {"path": network["path"], "macs": network["macs"], "params": network["params"]}
        write_record(folder / "result.json", StandaloneResult(**costs, name="x", seed=3, AP=score))
        if number < 8:
            write_record(
                folder / "score_full.json", SupernetScore(score=0.01 * number, seconds=1.0)
            )
    events: list[dict[str, Any]] = []
    found = validate(run, on_event=events.append)
    assert found is not None
    assert found == SearchRun.open(run).validation
    assert sum(event["event"] == "start" for event in events) == 2
    rows = found.networks
    assert [row.path for row in rows] == [network["path"] for network in plan]
    assert [row.AP for row in rows[:9]] == real
    assert rows[9].seconds["train"] > 0 and 0 <= (rows[9].AP or 0.0) <= 1
    assert all(0 <= (row.scores["full"] or 0.0) <= 1 for row in rows)
    assert (run / "validate" / "10" / "score_full.json").exists()
    scores = [row.scores["full"] or 0.0 for row in rows]
    assert found.rankings["full"].tau == kendall_tau(scores, [row.AP or 0.0 for row in rows])
    assert "10 networks)" in format_validation(found)


@pytest.mark.slow
def test_killed_and_shared_it_ends_alike(run: Path) -> None:
    """Both ways of scoring, ten trainings; the first is killed, others are at the second."""
    events: list[dict[str, Any]] = []
    with pytest.raises(Kill):
        validate(run, budgets=["cheap", "full"], on_event=killing("training 2 of 10"))
    first = (run / "validate" / "01" / "result.json").read_bytes()
    done = run / "validate" / "02"
    with claimed(done) as mine:
        assert mine
        (done / "result.json").write_text(json.dumps({**json.loads(first), "AP": 0.01}))
        found = validate(run, budgets=["cheap", "full"], on_event=events.append)
    assert found is not None and len(found.networks) == 10
    assert (run / "validate" / "01" / "result.json").read_bytes() == first
    assert sum(event["event"] == "start" for event in events) == 2 * 8
    rows = found.networks
    assert [row.name for row in rows] == [f"{number:02d}" for number in range(1, 11)]
    assert all(set(row.scores) == {"cheap", "full"} for row in rows)


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
