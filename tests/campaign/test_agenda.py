"""Who does what next: rounds, pre-trainings first, failures, workers that are no more."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detnet.campaign.agenda import RunAgenda, open_campaign_study, worker_name
from detnet.campaign.carry_out import RunOutcome, RunScorer, read_outcome
from detnet.campaign.plan import RESULT, Campaign
from detnet.errors import InputError
from detnet.search.records import write_record
from detnet.search.study.study import Candidate, SearchStudy
from detnet.search.study.worker import CheckStop, work_off


@pytest.fixture
def campaign(planned: Campaign, tmp_path: Path) -> Campaign:
    """The planned campaign in an empty folder."""
    return replace(planned, folder=tmp_path)


@pytest.fixture
def study(campaign: Campaign) -> Iterator[SearchStudy]:
    with open_campaign_study(campaign) as opened:
        yield opened


def finish(campaign: Campaign, number: int, **outcome: Any) -> None:
    write_record(campaign.place(campaign.plan.runs[number]) / RESULT, RunOutcome(**outcome))


def play(
    campaign: Campaign,
    study: SearchStudy,
    agenda: RunAgenda,
    result: Callable[[int], RunOutcome | Exception] = lambda number: RunOutcome(),
    stop: Callable[[], bool] = lambda: False,
) -> list[str]:
    """Does what the agenda says, without training; gives the folders in their order."""
    tried: list[str] = []

    def score(candidate: Candidate, check_stop: CheckStop) -> tuple[float, ...]:
        tried.append(campaign.plan.runs[candidate.slot].folder)
        found = result(candidate.slot)
        if isinstance(found, Exception):
            raise found
        write_record(campaign.folder / tried[-1] / RESULT, found)
        return (0.5,)

    over = work_off(
        study, agenda, score, stop=stop, on_event=lambda event: None, worker=worker_name()
    )
    assert over or stop()
    return tried


def test_all_is_done_once_and_in_order(campaign: Campaign, study: SearchStudy) -> None:
    agenda = RunAgenda(campaign, study, allow=None)
    assert play(campaign, study, agenda) == [run.folder for run in campaign.runs]
    assert play(campaign, study, agenda) == []


def test_the_folder_says_what_is_done_and_a_lost_database_costs_nothing(
    campaign: Campaign, study: SearchStudy
) -> None:
    for number in range(6):
        finish(campaign, number)
    tried = play(campaign, study, RunAgenda(campaign, study, allow=None))
    assert tried == [run.folder for run in campaign.runs[6:]]
    (campaign.place(campaign.runs[7]) / RESULT).unlink()
    again = play(campaign, study, RunAgenda(campaign, study, allow=None))
    assert again == [campaign.runs[7].folder], "what was deleted is done again"


def test_what_needs_a_lost_pre_training_is_lost_too(campaign: Campaign, study: SearchStudy) -> None:
    finish(campaign, 0, error="loss is nan")
    run, notes = campaign.runs[2], list[str]()
    assert run.needs == campaign.runs[0].folder

    def stop() -> None:
        raise AssertionError("it was not done")

    scorer = RunScorer(campaign, stop=lambda: False, on_event=lambda e: notes.append(e["text"]))
    scorer(Candidate(0, 2, (2,)), stop)
    found = read_outcome(campaign, run)
    assert found is not None and found.error == "detnet59 pre-training, seed 0: loss is nan"
    assert notes[-1].endswith(f"{found.error}; it is left out")
    agenda = RunAgenda(campaign, study, allow=None)
    assert len(play(campaign, study, agenda)) == len(campaign.runs) - 2
    assert all(map(campaign.is_done, campaign.runs)) and agenda.failures() == {}


def test_a_run_that_fails_is_tried_again_then_left_then_given_another_chance(
    campaign: Campaign, study: SearchStudy
) -> None:
    def result(number: int) -> RunOutcome | Exception:
        return RuntimeError("out of\nmemory") if number == 3 else RunOutcome()

    agenda = RunAgenda(campaign, study, allow=None)
    tried = play(campaign, study, agenda, result)
    assert tried.count(campaign.runs[3].folder) == 2 and len(tried) == 9
    (number, why), *others = agenda.failures().items()
    assert number == 3 and not others and "RuntimeError: out of memory" in why
    assert "failed: RuntimeError" in agenda.told(campaign.runs[3])
    later = RunAgenda(campaign, study, allow=None)
    assert play(campaign, study, later) == []
    with later.leading():
        assert later.failures() == {}
        assert play(campaign, study, later) == [campaign.runs[3].folder]
        assert later.failures() == {}


def test_a_worker_of_this_machine_that_is_no_more_is_noticed_at_once(
    campaign: Campaign, study: SearchStudy
) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    agenda = RunAgenda(campaign, study, allow=None)
    machine = worker_name().rpartition("-")[0]
    for process in (gone.pid, os.getpid()):
        agenda.advance()
        study.ask().set_user_attr("worker", f"{machine}-{process}")
    agenda.advance()
    first, again = [trial for trial in study.get_trials() if "worker" in trial.user_attrs]
    assert (first.state.name, again.state.name) == ("FAIL", "RUNNING")
    assert first.user_attrs["slot"] == again.user_attrs["slot"], "it is the first to be taken again"


def test_process_numbers_of_another_container_say_nothing(
    campaign: Campaign, study: SearchStudy
) -> None:
    """Containers with the host's network have its name too, and count their processes from 1."""
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    agenda = RunAgenda(campaign, study, allow=None)
    agenda.advance()
    study.ask().set_user_attr("worker", f"{socket.gethostname()}-0badc0de-{gone.pid}")
    agenda.advance()
    assert [t.state.name for t in study.get_trials() if "worker" in t.user_attrs] == ["RUNNING"]


def test_rounds_are_begun_as_they_are_allowed(campaign: Campaign, study: SearchStudy) -> None:
    asked: list[int] = []

    def allow(number: int) -> bool:
        asked.append(number)
        return number < 1

    agenda = RunAgenda(campaign, study, allow=allow)
    other = RunAgenda(campaign, study, allow=None)
    with agenda.leading():
        assert not other.advance() and not study.queue, "a worker waits for the round to be allowed"
        assert play(campaign, study, agenda) == [run.folder for run in campaign.runs[:4]]
        assert asked == [0, 1]
    assert play(campaign, study, other) == [], "it took part in the budget that is spent"
    later = RunAgenda(campaign, study, allow=None)
    assert play(campaign, study, later) == [run.folder for run in campaign.runs[4:]]


def test_a_round_that_was_enqueued_by_others_waits_for_the_budget_too(
    campaign: Campaign, study: SearchStudy
) -> None:
    """A command without a budget enqueues all rounds, and leaves them there where it is stopped."""
    RunAgenda(campaign, study, allow=None).advance()
    assert len(study.queue) == 4, "pre-trainings of both rounds"
    study.queue = study.queue[-1:]
    study.ask().set_user_attr("worker", "elsewhere-00000000-1")  # it is at the second round
    agenda = RunAgenda(campaign, study, allow=lambda number: number < 1)
    with agenda.leading():
        agenda.advance()
        assert len(study.queue) == 2, "the budget does not wait for what it did not allow"
        assert play(campaign, study, agenda) == [run.folder for run in campaign.runs[:4]]


def lead(planned: Campaign, folder: Path) -> subprocess.Popen[str]:
    """A command whose budget allows no round, in a process of its own that can be killed."""
    program = f"""
import time
from dataclasses import replace
from pathlib import Path
from detnet.campaign.agenda import RunAgenda, open_campaign_study
from detnet.campaign.plan import open_campaign

campaign = replace(open_campaign(Path({str(planned.folder)!r})), folder=Path({str(folder)!r}))
with open_campaign_study(campaign) as study, RunAgenda(
    campaign, study, allow=lambda number: False
).leading():
    print("leads", flush=True)
    time.sleep(600)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "leads\n"
    return process


@pytest.mark.parametrize("budget", [True, False])
def test_a_command_does_not_begin_beside_one_with_a_budget(
    campaign: Campaign, study: SearchStudy, budget: bool
) -> None:
    """It would end that budget, or let everybody begin all rounds."""
    first = RunAgenda(campaign, study, allow=lambda number: number < 1)
    allow = (lambda number: True) if budget else None
    with first.leading():
        first.advance()
        with pytest.raises(InputError, match="with a budget; take part by `detnet campaign worker"):
            RunAgenda(campaign, study, allow=allow).leading().__enter__()
        assert play(campaign, study, first) == [run.folder for run in campaign.runs[:4]]
    later = RunAgenda(campaign, study, allow=allow)
    with later.leading():
        assert play(campaign, study, later) == [run.folder for run in campaign.runs[4:]]


@pytest.mark.parametrize("place", ["here", "elsewhere"])
def test_a_budget_ends_with_its_command_even_if_it_is_killed(
    planned: Campaign, campaign: Campaign, study: SearchStudy, place: str
) -> None:
    """Here its process is missed at once, elsewhere its heartbeat."""
    process = lead(planned, campaign.folder)
    try:
        told: list[str] = []
        worker = RunAgenda(campaign, study, allow=None, tell=told.append)
        (leader,) = study.get_trials()
        if place == "elsewhere":
            study._storage.set_trial_user_attr(leader._trial_id, "worker", "elsewhere-00000000-1")
        end = time.monotonic() + 5
        assert not play(campaign, study, worker, stop=lambda: time.monotonic() > end)
        name = study.get_trials()[0].user_attrs["worker"]
        assert told == [f"waiting for round 1 to be begun by {name}, which has the budget"]
    finally:
        process.kill()
        process.communicate()
    assert play(campaign, study, worker) == [run.folder for run in campaign.runs]


def test_what_became_of_a_run_is_told_in_a_line(campaign: Campaign, study: SearchStudy) -> None:
    agenda = RunAgenda(campaign, study, allow=None)
    finish(campaign, 0, seconds=7.0)
    finish(campaign, 2, scores={"AP": 0.314}, seconds=200.0)
    assert agenda.told(campaign.runs[0]) == "run 2 of 8: detnet59 pre-training, seed 0: 7.0 s"
    assert agenda.told(campaign.runs[2]) == "run 2 of 8: detnet59 on scenes, seed 0: AP 31.4, 3 min"
