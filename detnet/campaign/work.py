"""Carries a campaign out by workers of this machine and others, within a budget if there is one."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import torch

from detnet.campaign.agenda import RunAgenda, open_campaign_study, worker_name
from detnet.campaign.answers import questions_on_too_little
from detnet.campaign.carry_out import RunScorer
from detnet.campaign.costs import CampaignClock, format_costs
from detnet.campaign.plan import Campaign, open_campaign
from detnet.engine.interrupt import Interrupt
from detnet.errors import InputError
from detnet.search.standalone.processes import start_workers, with_leader
from detnet.search.standalone.sharing import require_one_process
from detnet.search.study.storage import quiet, reaching
from detnet.search.study.study import SearchStudy
from detnet.search.study.worker import work_off
from detnet.text import count, duration
from detnet.training.run_state import OnEvent

CampaignEnd = Literal["complete", "interrupted", "spent", "failed"]

_POLL_S = 0.5, 2.0  # each look reads the whole study: seldom, where runs take minutes
_HOUR = 3600.0


def run_campaign(
    campaign: Campaign,
    *,
    workers: int = 1,
    budget_h: float | None = None,
    storage: str | None = None,
    estimate: bool = True,
    on_event: OnEvent,
) -> CampaignEnd:
    """Does all runs that are left, together with workers that others start.

    Args:
        workers: processes of this machine, each with the campaign's threads, on machines with
            several GPUs with one of these.
        budget_h: hours after which it ends; a further round of seeds is begun only where it is
            expected to be done by then.
        storage: where workers meet; by default where the settings say, or in the folder.
        estimate: measure a few steps of each training, to say at the start what it takes.
        on_event: called with the trainings' events, and "note".

    Returns:
        "complete" when all is done, "interrupted" by a signal, "failed" when runs were given up,
        else "spent": the budget allowed no more.

    Raises:
        InputError: an argument, the storage, or the settings of a run cannot be used.
    """
    require_one_process("campaign")
    if workers < 1 or budget_h is not None and not 0 < budget_h < math.inf:
        raise InputError(
            f"--workers {workers} --budget {budget_h}: give a number of workers and of hours"
        )
    ends = None if budget_h is None else time.monotonic() + budget_h * _HOUR
    with open_campaign_study(campaign, storage) as study, quiet(), reaching(study.url):
        for line in questions_on_too_little(campaign):
            _note(on_event, line)
        if estimate:
            _note(on_event, "measuring a few steps of each training (--no-estimate leaves it out)")
        clock = CampaignClock(campaign, estimate=estimate)
        for line in format_costs(clock, workers=workers):
            _note(on_event, line)
        allow = None if ends is None else _within(ends, clock, workers, on_event)
        tell = partial(_note, on_event) if workers == 1 else None
        agenda = RunAgenda(campaign, study, allow=allow, tell=tell)
        with Interrupt() as interrupt, agenda.leading(), _ending(ends, on_event) as spent:
            if workers == 1:
                _work(campaign, study, agenda, on_event)
            else:
                _watch(campaign, agenda, workers, storage, on_event)
        failures = agenda.failures()
        for number, why in failures.items():
            _note(on_event, f"{campaign.plan.runs[number].title}: failed: {why}")
    if all(map(campaign.is_done, campaign.runs)):
        return "complete"
    if interrupt.set and not spent.is_set():
        return "interrupted"
    return "failed" if failures else "spent"


def join_campaign(folder: Path, *, storage: str | None = None, on_event: OnEvent) -> bool:
    """Takes part in a campaign as one more worker.

    Args:
        storage: where workers meet; by default where the settings say, or in the folder.

    Returns:
        False when it was interrupted; its run can be gone on with.

    Raises:
        InputError: there is no campaign, or its plugins or the storage cannot be used.
    """
    require_one_process("campaign worker")
    campaign = open_campaign(folder, plugins=True)
    with open_campaign_study(campaign, storage) as study, Interrupt(), with_leader(on_event):
        agenda = RunAgenda(campaign, study, allow=None, tell=partial(_note, on_event))
        return _work(campaign, study, agenda, on_event)


def _work(
    campaign: Campaign,
    study: SearchStudy,
    agenda: RunAgenda,
    on_event: OnEvent,
) -> bool:
    def heard(name: str) -> None:
        _note(on_event, f"{name} heard: what is under way is saved, and then it ends")

    torch.set_num_threads(campaign.config.threads)
    with Interrupt(heard) as interrupt:

        def stop() -> bool:
            return interrupt.set

        scorer = RunScorer(campaign, stop=stop, on_event=on_event)
        return work_off(
            study,
            agenda,
            scorer,
            stop=stop,
            on_event=on_event,
            worker=worker_name(),
        )


def _watch(
    campaign: Campaign,
    agenda: RunAgenda,
    workers: int,
    storage: str | None,
    on_event: OnEvent,
) -> None:
    """Starts workers, and tells what they do until all is over."""
    told = {run.folder for run in campaign.runs if campaign.is_done(run)}
    command = ["campaign", "worker", str(campaign.folder)]
    command += ["--storage", storage] if storage else []
    logs = [campaign.folder / f"worker-{number}.log" for number in range(workers)]
    begins = [log.stat().st_size if log.exists() else 0 for log in logs]
    with (
        Interrupt() as interrupt,
        start_workers(
            command, range(workers), threads=campaign.config.threads, logs=campaign.folder
        ) as processes,
    ):
        _note(on_event, f"{count(workers, 'worker')}; their logs are in {campaign.folder}")
        over, wait = False, _POLL_S[0]
        while True:
            for run in campaign.runs:
                if run.folder not in told and campaign.is_done(run):
                    told.add(run.folder)
                    wait = _POLL_S[0]
                    _note(on_event, agenda.told(run))
            if over or interrupt.set:
                return
            alive = any(process.poll() is None for process in processes)
            over = agenda.advance()
            if not over and not alive:
                break
            time.sleep(wait)
            wait = min(1.2 * wait, _POLL_S[1])
    codes = [abs(process.returncode) for process in processes]
    worst = codes.index(max(codes))
    log, said = logs[worst], logs[worst].read_bytes()[begins[worst] :]
    last = said.decode(errors="replace").strip().splitlines()[-1:]
    raise InputError(f"{log}: all workers ended: {(last or ['nothing was said'])[0]}")


def _within(
    ends: float, clock: CampaignClock, workers: int, on_event: OnEvent
) -> Callable[[int], bool]:
    """Whether a round is expected to be done before the budget is spent."""

    def allow(number: int) -> bool:
        left = ends - time.monotonic()
        takes = clock.seconds_of_round(number, workers=workers)
        if takes == 0 or left <= 0:  # it is done, or measuring took the whole budget
            return left > 0
        text = f"round {number + 1} takes about {duration(takes, none='?')}, {duration(left)} left"
        if takes is not None and takes > left and number:
            _note(on_event, f"{text}: not begun; start again with another budget to go on")
            return False
        beyond = takes is not None and takes > left
        _note(on_event, text + (": more than the budget, what is done is kept" if beyond else ""))
        return left > 0

    return allow


@contextmanager
def _ending(ends: float | None, on_event: OnEvent) -> Iterator[threading.Event]:
    """Ends what is under way, as a signal would, when the budget is spent; within `Interrupt`.

    Gives an event that is set when this has happened.
    """
    spent = threading.Event()
    if ends is None:
        yield spent
        return

    def end() -> None:
        spent.set()
        _note(on_event, "the budget is spent")
        os.kill(os.getpid(), signal.SIGTERM)

    left = ends - time.monotonic()
    timer = threading.Timer(min(max(0.0, left), threading.TIMEOUT_MAX), end)
    timer.daemon = True
    timer.start()
    try:
        yield spent
    finally:
        timer.cancel()
        timer.join()  # a signal that is on its way comes while it is heard


def _note(on_event: OnEvent, text: str) -> None:
    on_event({"event": "note", "text": text})
