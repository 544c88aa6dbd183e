"""Same seed and same scores, same candidates: whoever works, stops, fails or is killed."""

import signal
import sqlite3
from collections.abc import Iterator
from itertools import accumulate
from pathlib import Path
from typing import Any

import optuna
import pytest

from detnet.errors import InputError
from detnet.search.costs.constraints import Limits
from detnet.search.methods.method import Evolution, RandomSearch
from detnet.search.study.study import (
    Candidate,
    SearchStudy,
    open_study,
    read_attempts,
    read_candidates,
)
from detnet.search.study.worker import CheckStop, work
from tests.search.players import Known, kill_at_random, method, outcome, play, score, start


@pytest.fixture
def study(tmp_path: Path) -> Iterator[SearchStudy]:
    with open_study(str(tmp_path / "s.db"), heartbeat_s=1, identity={"seed": 3}) as opened:
        yield opened


def expected(generations: int, population: int = 6) -> list[tuple[Any, ...]]:
    """What a search without any study gives."""
    from detnet.search.methods.method import Scored

    history: list[Scored] = []
    rows: list[tuple[Any, ...]] = []
    for index in range(generations):
        for slot, path in enumerate(method(generations, population).generation(index, history)):
            values = score(Candidate(index, slot, path), lambda: None)
            costs = Known().costs_of(path)
            rows.append((index, slot, path, values, tuple(costs.items())))
        history = [Scored(row[2], row[3], dict(row[4])) for row in rows]
    return rows


def test_one_worker_scores_every_candidate_once(study: SearchStudy) -> None:
    events: list[dict[str, Any]] = []
    assert play(study, events=events)
    assert outcome(study) == expected(2)
    assert len(study.get_trials()) == 12
    records = read_candidates(study)
    assert {(one.state, one.attempts, one.worker) for one in records} == {("done", 1, "here")}
    assert all(one.seconds is not None and one.seconds >= 0 for one in records)
    assert [one["generation"] for one in events if one["event"] == "generation"] == [0, 1]
    told = [one for one in events if one["event"] == "candidate"]
    assert [one["settled"] for one in told] == [1, 2, 3, 4, 5, 6] * 2
    so_far = list(accumulate((one["values"][0] for one in told), max))
    assert [one["best"] for one in told] == so_far
    assert so_far[5] > min(one["values"][0] for one in told[6:])  # a generation's own would differ
    assert play(study), "a search that is over is over for the next worker, too"
    assert len(study.get_trials()) == 12


def test_a_generation_is_announced_after_what_became_of_those_before(study: SearchStudy) -> None:
    events: list[dict[str, Any]] = []
    assert play(study, events=events)
    order = [(one["event"], one["generation"]) for one in events]
    assert order == [
        *(("generation", 0), *[("candidate", 0)] * 6),
        *(("generation", 1), *[("candidate", 1)] * 6),
    ]


def test_a_candidate_that_fails_is_tried_again_and_then_left_out(study: SearchStudy) -> None:
    tries: list[tuple[int, int]] = []

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        tries.append((candidate.generation, candidate.slot))
        if tries[-1] == (0, 1):
            raise RuntimeError("out of\nmemory")
        if tries[-1] == (0, 2):
            return (float("nan"),)
        if tries[-1] == (0, 3) and tries.count((0, 3)) == 1:
            raise KeyError("once")
        return score(candidate, check_stop)

    events: list[dict[str, Any]] = []
    assert play(study, scoring, generations=2, retries=1, events=events)
    zero, one, two, three = read_candidates(study)[:4]
    assert (one.state, one.values, one.attempts) == ("failed", None, 2)
    assert one.error is not None and one.error.startswith("RuntimeError: out of memory (")
    assert f"{Path(__file__).name}:" in one.error
    assert two.state == "failed" and "not finite: nan" in str(two.error)
    assert (three.state, three.attempts, zero.attempts) == ("done", 2, 1)
    assert three.error is not None and "once" in three.error
    assert tries.count((0, 1)) == 2 and len(read_candidates(study)) == 12
    assert any("is tried again: KeyError" in one.get("text", "") for one in events)


def test_the_first_workers_retries_hold(study: SearchStudy) -> None:
    study.set_user_attr("retries", 0)
    failing = [(0, 0)]

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        if (candidate.generation, candidate.slot) in failing:
            raise RuntimeError
        return score(candidate, check_stop)

    assert play(study, scoring, generations=1, retries=5)
    assert read_candidates(study)[0].attempts == 1


def test_a_generation_without_any_score_ends_the_search(study: SearchStudy) -> None:
    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        raise RuntimeError("no device")

    with pytest.raises(InputError, match=r"the last 6 candidates all failed.* no device") as caught:
        play(study, scoring, retries=0)
    assert "\n" not in str(caught.value) and "generations" not in str(caught.value)


def test_a_generation_without_any_score_after_others_can_be_the_last(study: SearchStudy) -> None:
    """A worker whose device broke would leave out all that is left; what is scored is not lost."""

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        if candidate.generation == 1:
            raise RuntimeError("no device")
        return score(candidate, check_stop)

    for _ in range(2):
        with pytest.raises(InputError, match=r"the last 6 .* or set generations to 2 to end with "):
            play(study, scoring, generations=3, retries=0)
    assert play(study, scoring, generations=2, retries=0)
    assert [one.state for one in read_candidates(study)] == ["done"] * 6 + ["failed"] * 6


def test_the_last_paths_of_a_space_may_fail(study: SearchStudy) -> None:
    """Sixteen paths in fives: the fourth generation is the one that is left."""
    constraints = Known(genes=2)

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        if candidate.generation == 3:
            raise RuntimeError("diverged")
        return score(candidate, check_stop)

    for generations in (4, 9):
        assert work(
            study,
            RandomSearch(constraints, population=5, generations=generations),
            scoring,
            constraints=constraints,
            retries=0,
            stop=lambda: False,
            on_event=lambda event: None,
            worker="here",
        )
    assert [one.state for one in read_candidates(study)] == ["done"] * 15 + ["failed"]


def test_a_users_mistake_ends_the_worker_and_costs_nothing(study: SearchStudy) -> None:
    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        raise InputError("images/7.jpg is missing")

    for _ in range(4):
        with pytest.raises(InputError, match=r"7\.jpg"):
            play(study, scoring)
    first = read_candidates(study)[0]
    assert (first.state, first.attempts, first.error) == ("waiting", 0, None)
    assert play(study)
    assert outcome(study) == expected(2)


def test_stopping_within_a_score_hands_the_candidate_back(study: SearchStudy) -> None:
    stopped = False

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        nonlocal stopped
        stopped = candidate.slot == 4
        try:
            check_stop()
        except Exception:
            pytest.fail("a scorer's own `except` swallows the stop")
        assert candidate.slot != 4, "the score goes on after the stop"
        return score(candidate, check_stop)

    events: list[dict[str, Any]] = []
    assert not play(study, scoring, stop=lambda: stopped, events=events)
    states = [one.state for one in read_candidates(study)]
    assert states == ["done"] * 4 + ["waiting"] * 2
    assert events[-1] == {"event": "note", "text": "candidate 4 of generation 0 was handed back"}
    assert play(study)
    assert outcome(study) == expected(2)
    assert {one.attempts for one in read_candidates(study)} == {1}


def test_ctrl_c_within_a_score_hands_the_candidate_back(study: SearchStudy) -> None:
    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        play(study, scoring)
    assert {one.state for one in read_candidates(study)} == {"waiting"}


def test_stopped_before_it_began(study: SearchStudy) -> None:
    assert not play(study, stop=lambda: True)
    assert {one.attempts for one in read_candidates(study)} == {0}


def test_a_result_that_comes_too_late_is_another_workers(study: SearchStudy) -> None:
    """As after a laptop's sleep: the candidate was declared dead while it was scored."""
    slept: list[Candidate] = []

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        if not slept:
            slept.append(candidate)
            trial = read_attempts(study)[0, 0][-1]
            study._storage.set_trial_state_values(trial._trial_id, optuna.trial.TrialState.FAIL)
            return (1e9,)
        return score(candidate, check_stop)

    events: list[dict[str, Any]] = []
    assert play(study, scoring, events=events)
    assert outcome(study) == expected(2)
    assert any("given to another worker" in one.get("text", "") for one in events)


def test_several_objectives_and_the_limits_as_constraints(tmp_path: Path) -> None:
    constraints = Known(limits=Limits(macs=30.0))
    chosen = Evolution(
        constraints, population=4, generations=1, parents=2, mutations=1, crossovers=1
    )

    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        return (*score(candidate, check_stop), float(sum(candidate.path)))

    with open_study(str(tmp_path / "s.db"), objectives=("score", "macs")) as study:
        assert work(
            study,
            chosen,
            scoring,
            constraints=constraints,
            stop=lambda: False,
            on_event=lambda event: None,
            worker="a",
        )
        assert all(
            one.values and one.values[1] == one.costs["macs"] for one in read_candidates(study)
        )
        if hasattr(optuna.trial.FrozenTrial, "set_constraint"):
            for trial in study.get_trials():
                assert trial.constraints == {"macs": trial.user_attrs["costs"]["macs"] - 30.0}


def test_nothing_is_printed(study: SearchStudy, capfd: pytest.CaptureFixture[str]) -> None:
    def scoring(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        if candidate.slot == 0:
            raise RuntimeError("boom")
        return score(candidate, check_stop)

    assert play(study, scoring, generations=1)
    assert capfd.readouterr() == ("", "")


def _age_heartbeats(database: Path) -> None:
    """Lets an hour pass."""
    with sqlite3.connect(database, timeout=30) as connection:
        connection.execute("UPDATE trial_heartbeats SET heartbeat = datetime('now', '-1 hour')")
    connection.close()


def _killed_at(statement: int, folder: Path) -> bool:
    """Kills a worker before a statement; whether it was killed, and the search came out right."""
    folder.mkdir()
    storage = str(folder / "s.db")
    worker = start(storage, "victim", 1, 0.0, statement)
    worker.join(60)
    with open_study(storage, heartbeat_s=1, identity={"seed": 3}) as study:
        if read_candidates(study):
            _age_heartbeats(folder / "s.db")
        assert play(study, generations=1)
        assert outcome(study) == expected(1), statement
        assert len(read_attempts(study)) == 6
        assert len(study.get_trials()) <= 7, "only the victim's candidate is tried again"
    return worker.exitcode == -signal.SIGKILL


@pytest.mark.parametrize("statement", [45, 130, 160, 230])
def test_a_worker_killed_at_a_statement(tmp_path: Path, statement: int) -> None:
    assert _killed_at(statement, tmp_path / "run")


@pytest.mark.slow
def test_a_worker_killed_before_any_statement(tmp_path: Path) -> None:
    statement = 1
    while _killed_at(statement, tmp_path / f"run{statement}"):
        statement += 3
    assert statement > 300


def test_workers_killed_at_random(tmp_path: Path) -> None:
    storage = str(tmp_path / "s.db")
    killed = kill_at_random(storage, kills=2, generations=2, seed=1)
    assert killed > 0
    with open_study(storage) as study:
        assert outcome(study) == expected(2)


@pytest.mark.slow
def test_many_workers_killed_at_random(tmp_path: Path) -> None:
    storage = str(tmp_path / "s.db")
    assert kill_at_random(storage, kills=30, generations=12, seed=2) > 20
    with open_study(storage) as study:
        assert outcome(study) == expected(12)
