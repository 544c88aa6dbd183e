"""The plan of a validation: drawn first, only added to, and taken over from another search."""

import shutil
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.search.records import SupernetScore, read_record, write_record
from detnet.search.standalone.validate import format_validation, validate
from tests.search.settings_of_search import make_run
from tests.search.standalone.test_validate import Kill, killing, plan_of, quiet, write_results


@pytest.fixture
def run(scored_run: Path, scenes: Path, tmp_path: Path) -> Path:
    return make_run(tmp_path / "run", scored_run, scenes)


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


def test_networks_of_another_search_are_not_trained_again(
    run: Path, scored_run: Path, scenes: Path, tmp_path: Path
) -> None:
    other = make_run(tmp_path / "other", scored_run, scenes)
    with pytest.raises(InputError, match=r"run/validate/plan\.json: no such file"):
        validate(other, trained=run, on_event=quiet)
    with pytest.raises(Kill):
        validate(run, on_event=killing("trainings of networks alone"))
    write_results(run)
    config = other / "config.yaml"
    before = config.read_text()
    config.write_text(before.replace("iterations: 2", "iterations: 3"))
    with pytest.raises(InputError, match="trained with train iterations 2, here it is 3"):
        validate(other, trained=run, on_event=quiet)
    assert not (other / "validate" / "plan.json").exists()
    config.write_text(before.replace("seed: 3", "seed: 4"))  # another supernet, so to say
    with pytest.raises(Kill):
        validate(other, trained=run, on_event=killing("10 of them done"))
    assert plan_of(other) == {**plan_of(run), "taken": str(run)}
    for one in (run / "validate").glob("*/score_full.json"):  # this supernet has them upside down
        score = 1 - (read_record(SupernetScore, one).score or 0.0)
        write_record(other / one.relative_to(run), SupernetScore(score=score, seconds=1.0))
    found = validate(other, on_event=quiet)
    assert found is not None and found.rankings["full"].tau == -1 and found.taken == str(run)
    assert found.rankings[f"full of {run.name}"].tau == 1
    told = format_validation(found)
    assert f"The networks were drawn and trained for {run}" in told
    assert f"tau of full scoring less that of full scoring of {run.name}: -2.00" in told


def test_a_plan_grows_with_that_of_the_other_search(
    run: Path, scored_run: Path, scenes: Path, tmp_path: Path
) -> None:
    """Theirs has a further seed, then a further network; what it has trained is taken."""
    other = make_run(tmp_path / "other", scored_run, scenes)
    told: list[str] = []

    def listen(event: dict[str, Any]) -> None:
        told.append(event.get("text", ""))
        killing("trainings of networks alone")(event)

    for asked, second, done in (
        ({"count": 10}, 0, "10 trainings of networks alone, 10 of them done"),
        ({"seeds": 2}, 4, "20 trainings of networks alone, 14 of them done"),
        ({"count": 11}, None, "22 trainings of networks alone, 14 of them done"),
    ):
        with pytest.raises(Kill):
            validate(run, **asked, on_event=killing("trainings of networks alone"))
        if second is not None:
            write_results(run, second=second)
        with pytest.raises(Kill):
            validate(other, trained=run, on_event=listen)
        assert plan_of(other)["networks"] == plan_of(run)["networks"]
        assert told[-1].startswith(done)
    shutil.rmtree(other / "validate")
    with pytest.raises(Kill):
        validate(other, seed=9, on_event=killing("trainings of networks alone"))
    with pytest.raises(InputError, match="plans other networks or seeds than"):
        validate(other, trained=run, on_event=quiet)


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
