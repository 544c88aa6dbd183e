"""Validation: the plan comes first and stays, trainings are shared and resumed, τ is told."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.search.standalone import validate as module
from detnet.search.standalone.sharing import claimed, write_json
from detnet.search.standalone.statistics import kendall_tau
from detnet.search.standalone.text import format_ranking, ranking_line
from detnet.search.standalone.validate import validate
from tests.search.settings_of_search import make_run


def quiet(event: dict[str, Any]) -> None:
    pass


@pytest.fixture
def run(scored_run: Path, scenes: Path, tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", scored_run, scenes)


class Kill(Exception):
    """Stands for kill -9."""


def killing(text: str) -> Callable[[dict[str, Any]], None]:
    def watch(event: dict[str, Any]) -> None:
        if text in event.get("text", event["event"]):
            raise Kill

    return watch


def plan_of(run: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((run / "validate" / "plan.json").read_text())
    return found


def test_the_plan_is_written_before_anything_is_scored(run: Path) -> None:
    with pytest.raises(Kill):
        validate(run, watch=killing("trainings of networks alone"))
    plan = plan_of(run)
    assert plan["seed"] == 3 and len(plan["networks"]) == 10
    assert not list((run / "validate").glob("*/score_*.json"))
    paths = [network["path"] for network in plan["networks"]]
    assert len(set(paths)) == 10
    assert all(network["macs"] <= 2e6 for network in plan["networks"])

    with pytest.raises(Kill):  # more networks are added to these
        validate(run, count=13, watch=killing("trainings of networks alone"))
    longer = plan_of(run)
    assert longer["networks"][:10] == plan["networks"] and len(longer["networks"]) == 13
    with pytest.raises(InputError, match="13 networks are planned"):
        validate(run, count=12, watch=quiet)
    with pytest.raises(InputError, match="drawn with seed 3, not 4"):
        validate(run, seed=4, watch=quiet)
    assert plan_of(run) == longer


def test_other_draws_by_other_seeds_and_too_few(run: Path) -> None:
    with pytest.raises(InputError, match="at least 10"):
        validate(run, count=9, watch=quiet)
    plans = []
    for seed in (1, 2):
        with pytest.raises(Kill):
            validate(run, seed=seed, watch=killing("trainings of networks alone"))
        plans.append(plan_of(run)["networks"])
        shutil.rmtree(run / "validate")
    assert plans[0] != plans[1]


def test_other_settings_are_refused(run: Path) -> None:
    with pytest.raises(Kill):
        validate(run, watch=killing("trainings of networks alone"))
    config = run / "config.yaml"
    config.write_text(config.read_text().replace("iterations: 2", "iterations: 3"))
    with pytest.raises(InputError, match="train iterations 2, the settings now say 3"):
        validate(run, watch=quiet)


def test_torchrun_is_refused(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(InputError, match="not for torchrun"):
        validate(run, watch=quiet)


def test_networks_are_scored_trained_and_ranked(run: Path) -> None:
    """Most were scored and trained by others, who measured anything; two and one are left."""
    with pytest.raises(Kill):
        validate(run, watch=killing("trainings of networks alone"))
    plan = plan_of(run)["networks"]
    real = [0.1, 0.3, 0.2, 0.5, 0.4, 0.6, 0.8, 0.7, 0.9]
    for number, (network, score) in enumerate(zip(plan[:9], real, strict=True)):
        folder = run / "validate" / network["name"]
        write_json(folder / "result.json", {"AP": score})
        if number < 8:
            write_json(folder / "score_full.json", {"score": 0.01 * number})
    events: list[dict[str, Any]] = []
    found = validate(run, watch=events.append)
    assert found is not None
    assert found == json.loads((run / "validate" / "validation.json").read_text())
    assert sum(event["event"] == "start" for event in events) == 2
    rows = found["networks"]
    assert [row["path"] for row in rows] == [network["path"] for network in plan]
    assert [row["AP"] for row in rows[:9]] == real
    assert rows[9]["seconds_of"]["train"] > 0 and 0 <= rows[9]["AP"] <= 1
    assert all(0 <= row["score"] <= 1 for row in rows)
    assert (run / "validate" / "10" / "score_full.json").exists()
    scores = [row["score"] for row in rows]
    assert found["tau"] == kendall_tau(scores, [row["AP"] for row in rows])
    assert (run / "validate" / "ranking_full.svg").exists()
    assert "10 networks)" in format_ranking(found)


@pytest.mark.slow
def test_killed_and_shared_it_ends_alike(run: Path) -> None:
    """Both ways of scoring, ten trainings; the first is killed, others are at the second."""
    events: list[dict[str, Any]] = []
    with pytest.raises(Kill):
        validate(run, ways=["cheap", "full"], watch=killing("training 2 of 10"))
    first = (run / "validate" / "01" / "result.json").read_bytes()
    done = run / "validate" / "02"
    with claimed(done) as mine:
        assert mine
        write_json(done / "result.json", {**json.loads(first), "AP": 0.01})
        found = validate(run, ways=["cheap", "full"], watch=events.append)
    assert found is not None and found["count"] == 10
    assert (run / "validate" / "01" / "result.json").read_bytes() == first
    assert sum(event["event"] == "start" for event in events) == 2 * 8
    rows = found["networks"]
    assert [row["name"] for row in rows] == [f"{number:02d}" for number in range(1, 11)]
    assert all(set(row["scores"]) == {"cheap", "full"} for row in rows)
    assert all(row["score"] == row["scores"]["cheap"] for row in rows)
    pictures = sorted(path.name for path in (run / "validate").glob("*.svg"))
    assert pictures == ["ranking_cheap.svg", "ranking_full.svg"]


def test_the_ranking_is_of_the_networks_that_have_both_scores() -> None:
    rows = [
        {"scores": {"full": score}, "AP": real}
        for score, real in [(0.1, 0.2), (0.2, 0.1), (0.3, 0.5), (None, 0.1), (0.2, None)]
    ]
    found = module._ranking(rows, "full")
    assert found["tau"] == kendall_tau([0.1, 0.2, 0.3], [0.2, 0.1, 0.5])
    assert found["compared"] == 3
    assert found["interval"][0] <= found["tau"] <= found["interval"][1]
    nothing = module._ranking(rows[:1], "full")
    assert nothing["tau"] is None and "at least two" in nothing["undefined"]
    assert "not defined" in ranking_line({"rankings": {"full": nothing}}, "full")
