"""Validation: the plan comes first and stays, trainings are shared and resumed, τ is told."""

import json
import os
import shutil
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.errors import InputError
from detnet.report.search.state import read_search
from detnet.search.records import StandaloneResult, SupernetScore, read_record, write_record
from detnet.search.run import SearchRun
from detnet.search.standalone.sharing import claimed
from detnet.search.standalone.statistics import kendall_tau
from detnet.search.standalone.validate import format_validation, validate, validation_so_far
from tests.search.settings_of_search import make_run


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


def write_results(run: Path, *, second: int = 0) -> list[float]:
    """All networks as trained by the first seed, and so many by the second; AP of the first."""
    reached = [0.3 + 0.01 * (number * 7 % 10) for number in range(10)]
    for number, (network, ap) in enumerate(zip(plan_of(run)["networks"], reached, strict=True)):
        folder = run / "validate" / network["name"]
        costs = {"path": network["path"], "macs": network["macs"], "params": network["params"]}
        write_record(folder / "score_full.json", SupernetScore(score=ap, seconds=1.0))
        for seed, place in ((3, folder), (4, folder / "seed4"))[: 1 + (number < second)]:
            found = StandaloneResult(**costs, name="x", seed=seed, AP=ap + 0.1 * (seed - 3))
            write_record(place / "result.json", found)
    return reached


def test_what_is_known_so_far_is_told(run: Path) -> None:
    """The second seed gives ten points more, which the four networks that have it do not gain."""
    with pytest.raises(Kill):
        validate(run, seeds=2, on_event=killing("trainings of networks alone"))
    assert validation_so_far(SearchRun.open(run)) is None
    reached = write_results(run, second=4)
    told: list[str] = []

    def interrupt(event: dict[str, Any]) -> None:
        told.append(event.get("text", ""))
        if told[-1].startswith("training 15 of 20"):
            os.kill(os.getpid(), signal.SIGTERM)

    assert validate(run, on_event=interrupt) is None
    assert "So far: 14 of 20 trainings are done" in told
    found = validation_so_far(SearchRun.open(run))
    assert found is not None and (found.done, found.planned) == (14, 20)
    assert [one.AP for one in found.networks] == reached and found.rankings["full"].tau == 1
    assert found.spread is not None and (found.spread.networks, found.spread.seeds) == (4, 2)
    assert read_search(run).validation == found
    shutil.rmtree(run / "validate" / "10")  # not even the first seed is complete
    fewer = validation_so_far(SearchRun.open(run))
    assert fewer is not None and [one.AP for one in fewer.networks] == reached[:9]


def test_networks_that_could_not_be_measured_are_not_planned(scenes: Path, tmp_path: Path) -> None:
    run = make_run(tmp_path / "none", None, scenes, val_split="none")
    with pytest.raises(InputError, match="no validation split to measure .*val_split none"):
        validate(run, on_event=quiet)
    assert not (run / "validate" / "plan.json").exists()


def test_torchrun_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="not for torchrun"):
        validate(run, on_event=quiet)


def test_networks_are_scored_trained_and_ranked(run: Path) -> None:
    """Most were scored and trained by others, who measured anything; two and one are left.

    One of the two was scored by another supernet.
    """
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    plan = plan_of(run)["networks"]
    real = [0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.8, 0.7, 0.9]
    for number, (network, score) in enumerate(zip(plan[:9], real, strict=True)):
        folder = run / "validate" / network["name"]
        costs = {"path": network["path"], "macs": network["macs"], "params": network["params"]}
        write_record(folder / "result.json", StandaloneResult(**costs, name="x", seed=3, AP=score))
        by = {} if number < 8 else {"supernet": "another"}
        score = SupernetScore(score=0.01 * number, seconds=1.0, by=by)
        write_record(folder / "score_full.json", score)
    events: list[dict[str, Any]] = []
    found = validate(run, on_event=events.append)
    assert found is not None
    told = [event["text"] for event in events if event["event"] == "note"]
    assert "1 score of before by other settings, found anew" in told
    ninth = read_record(SupernetScore, run / "validate" / "09" / "score_full.json")
    assert ninth.by["supernet"] == SearchRun.open(run).supernet_hash and ninth.seconds != 1.0
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


def test_networks_may_be_trained_before_their_supernet(run: Path) -> None:
    """Nine were trained by others; the tenth is, the scores come when the supernet is there."""
    supernet, aside = run / "finetune", run.parent / "finetune"
    supernet.rename(aside)
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    for number, network in enumerate(plan_of(run)["networks"][:9]):
        costs = {"path": network["path"], "macs": network["macs"], "params": network["params"]}
        found = StandaloneResult(**costs, name="x", seed=3, AP=0.1 * number)
        write_record(run / "validate" / network["name"] / "result.json", found)
    stale = run / "validate" / "01" / "score_cheap.json"
    write_record(stale, SupernetScore(score=0.9, seconds=1.0, by={"supernet": "another"}))
    told: list[str] = []

    def hear(event: dict[str, Any]) -> None:
        told.append(event.get("text", event["event"]))

    with pytest.raises(InputError, match="no trained supernet; let the phases before"):
        validate(run, budgets=["cheap"], on_event=hear)
    assert "the supernet is not trained yet: scores come last" in told
    assert stale.exists(), "without a supernet no score is found anew"
    assert sum(text.startswith("training ") for text in told) == 1
    result = (run / "validate" / "10" / "result.json").read_bytes()
    aside.rename(supernet)
    told.clear()
    ranked = validate(run, budgets=["cheap"], on_event=hear)
    assert ranked is not None and ranked.rankings["cheap"].compared == 10
    assert "1 score of before by other settings, found anew" in told
    assert not any(text.startswith("training ") for text in told)
    assert (run / "validate" / "10" / "result.json").read_bytes() == result


def test_scores_outlast_their_supernet(run: Path) -> None:
    """An archive keeps the scores without the supernet; one that comes back later decides."""
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    reached = write_results(run)
    by = {"supernet": SearchRun.open(run).supernet_hash, "seed": 3}
    by |= {"recalibration_images": 64, "recalibration_batch": 2}
    scores = [run / "validate" / f"{number:02d}" / "score_full.json" for number in range(1, 11)]
    for place, score in zip(scores, reached, strict=True):
        write_record(place, SupernetScore(score=score, seconds=1.0, by=by))
    before = [place.read_bytes() for place in scores]
    aside = (run / "finetune").rename(run.parent / "finetune")
    found = validate(run, on_event=quiet)
    assert found is not None and found.rankings["full"].tau == 1
    assert [place.read_bytes() for place in scores] == before

    write_record(scores[0], SupernetScore(score=0.9, seconds=1.0, by={"supernet": "another"}))
    (run / "validate" / "10" / "result.json").unlink()
    told: list[str] = []

    def trained_meanwhile(event: dict[str, Any]) -> None:
        told.append(event.get("text", event["event"]))
        if told[-1].startswith("training 10 of 10"):
            aside.rename(run / "finetune")

    assert validate(run, on_event=trained_meanwhile) is not None
    assert "1 score of before by other settings, found anew" in told
    again = read_record(SupernetScore, scores[0])
    assert again.by == by and again.score != 0.9 and scores[1].read_bytes() == before[1]


@pytest.mark.slow
def test_two_workers_share_the_trainings(run: Path) -> None:
    events: list[dict[str, Any]] = []
    found = validate(run, workers=2, on_event=events.append)
    assert found is not None and all(row.AP is not None for row in found.networks)
    told = [event["text"] for event in events if event["event"] == "note"]
    assert any(text.startswith("1 further worker, 1 thread each") for text in told)
    here = sum(text.startswith("training ") for text in told)
    there = (run / "validate" / "worker-1.log").read_text().count("\ntraining ")
    assert here and there and here + there == 10
    assert found == SearchRun.open(run).validation


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
