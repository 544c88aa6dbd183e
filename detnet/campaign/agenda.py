"""What a campaign's workers do next: rounds of seeds, in each the pre-trainings first.

The study, on the storage that searches use, says who is at what; whether a run is done is said by
its folder alone, so that a database that was lost costs nothing.
"""

import os
import socket
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.storages._heartbeat import get_heartbeat_thread
from optuna.trial import FrozenTrial, TrialState

from detnet.campaign.carry_out import read_outcome
from detnet.campaign.plan import Campaign
from detnet.campaign.runs import CampaignRun
from detnet.errors import InputError
from detnet.search.study.study import (
    Candidate,
    SearchStudy,
    failure,
    is_open,
    is_settled,
    open_study,
    read_attempts,
)
from detnet.text import duration, percent

_LEADER = "leader"  # attribute of the study: trial that stands for the command with a budget
_ROUNDS = "rounds"  # attribute: how many that command lets begin
_SPENT = "spent"  # attribute: how many budgets were
_AGAIN = "again"  # attribute: the first attempt that counts, by slot, of runs that had failed
_BOOT = Path("/proc/sys/kernel/random/boot_id")

_NAMED = 3  # runs that a waiting worker names

Allow = Callable[[int], bool]


def open_campaign_study(campaign: Campaign, storage: str | None = None) -> SearchStudy:
    """Opens the study in which a campaign's workers meet, or makes it.

    Args:
        storage: where it is; by default where the settings say, or in the folder.

    Raises:
        InputError: the storage cannot be reached.
    """
    return open_study(
        storage or campaign.storage,
        f"campaign {campaign.plan.identity}",
        heartbeat_s=campaign.config.heartbeat_s,
    )


@dataclass(frozen=True)
class _Left:
    """Runs that are not done, by their place in the plan.

    Args:
        running: that somebody is at, of rounds that may be begun, as the next two.
        waiting: trials of those that can be taken.
        lacking: that are to be enqueued.
        left: all that can be done, also in later rounds.
    """

    running: list[int] = field(default_factory=list)
    waiting: list[int] = field(default_factory=list)
    lacking: list[int] = field(default_factory=list)
    left: list[int] = field(default_factory=list)

    @property
    def at_hand(self) -> bool:
        return bool(self.running or self.waiting or self.lacking)


class RunAgenda:
    """A campaign's runs as one worker sees them.

    Args:
        study: which all workers share.
        allow: asked with a round's number, from 0, before its first run; those who are not asked go
            by what the study says.
        tell: called with what a worker waits for.
    """

    def __init__(
        self,
        campaign: Campaign,
        study: SearchStudy,
        *,
        allow: Allow | None,
        tell: Callable[[str], None] | None = None,
    ) -> None:
        self._campaign, self._study, self._allow, self._tell = campaign, study, allow, tell
        self._attempts: dict[int, list[FrozenTrial]] = {}
        self._leader: str | None = None  # who has a budget, as last read
        self._told = ""
        self._spent_before = self._spent

    @contextmanager
    def leading(self) -> Iterator[None]:
        """Gives runs that had failed another chance; until the end `allow` decides for everybody.

        Then workers elsewhere go on with all rounds, and so they do if this process dies. After a
        budget only those that begin later do: who took part in it ends with what it is at, so that
        the table stays balanced.

        Raises:
            InputError: another command leads, which two budgets would end.
        """
        with self._study.lock():
            self._read()
            if self._leader:
                folder = self._campaign.folder
                raise InputError(
                    f"{folder}: {self._leader} is at it with a budget; take part by `detnet "
                    f"campaign worker {folder}`, or begin when that command has ended"
                )
            again = {**self._study.user_attrs.get(_AGAIN, {})}
            for number, attempts in self._attempts.items():
                if attempts and not is_open(attempts):
                    again[str(number)] = attempts[-1].user_attrs["attempt"] + 1
            self._study.set_user_attr(_AGAIN, again)
            leader = None if self._allow is None else self._enlist()
            self._study.set_user_attr(_ROUNDS, 0)
            self._study.set_user_attr(_LEADER, leader)
        if leader is None:
            yield
            return
        try:
            with get_heartbeat_thread(leader, self._study._storage):
                yield
        finally:
            self._study.set_user_attr(_SPENT, self._spent + 1)
            self._fail(leader)

    def advance(self) -> bool:
        """Enqueues what can be done now; True when all is, or no further round may be begun."""
        if self._spent > self._spent_before:
            return True
        self._read()
        found = self._look()
        while found.left and not found.at_hand and self._allow is not None:
            rounds = self._rounds
            if rounds >= self._campaign.rounds or not self._allow(rounds):
                return True
            self._study.set_user_attr(_ROUNDS, rounds + 1)
            found = self._look()
        if found.lacking:
            with self._study.lock():
                self._read()  # another may have been faster
                for number in self._look().lacking:
                    self._enqueue(number)
            self._read()
            found = self._look()
        self._study.queue = found.waiting
        if not found.left or not found.at_hand and self._rounds >= self._campaign.rounds:
            return True
        self._tell_waiting(found)
        return False

    def name_of(self, candidate: Candidate) -> str:
        """A run in words."""
        return self._campaign.plan.runs[candidate.slot].title

    def outcome(self, candidate: Candidate) -> dict[str, Any]:
        """What became of a run by what study and folder say now."""
        self._read()
        return {"event": "note", "text": self.told(self._campaign.plan.runs[candidate.slot])}

    def told(self, run: CampaignRun) -> str:
        """What became of a run, in a line."""
        done = sum(map(self._campaign.is_done, self._campaign.runs))
        where = f"run {done} of {len(self._campaign.asked)}: {run.title}"
        found = read_outcome(self._campaign, run)
        if found is None:
            number = self._campaign.plan.runs.index(run)
            why = [text for text in map(failure, self._attempts.get(number, [])) if text]
            return f"{run.title}: failed: {why[-1] if why else 'handed back'}"
        if found.error:
            return f"{where}: {found.error}"
        score = found.scores.get("AP")
        reached = f"AP {percent(score)}, " if score is not None else ""
        return f"{where}: {reached}{duration(found.seconds)}"

    def failures(self) -> dict[int, str]:
        """Why runs were given up, by their place in the plan, when `advance` last looked."""
        return {
            number: why
            for number in self._campaign.asked
            if (why := self._given_up(number)) is not None
        }

    @property
    def _spent(self) -> int:
        """How many budgets of this campaign have ended."""
        return int(self._study.user_attrs.get(_SPENT, 0))

    @property
    def _rounds(self) -> int:
        """How many rounds may be begun."""
        if self._allow is None and self._leader is None:
            return self._campaign.rounds
        return int(self._study.user_attrs.get(_ROUNDS, self._campaign.rounds))

    def _read(self) -> None:
        """Looks who is at what; a process of this machine that is no more is told at once."""
        found = read_attempts(self._study)
        gone = [one[-1] for one in found.values() if _is_gone(one[-1])]
        for trial in gone:
            self._fail(trial._trial_id)
        if gone:
            found = read_attempts(self._study)
        self._attempts = {slot: attempts for (_, slot), attempts in found.items()}
        self._leader = self._find_leader()

    def _find_leader(self) -> str | None:
        """Who has a budget and is alive."""
        number = self._study.user_attrs.get(_LEADER)
        if number is None:
            return None
        trial = self._study._storage.get_trial(number)
        if _is_gone(trial):
            self._fail(number)
        elif trial.state == TrialState.RUNNING:
            return str(trial.user_attrs["worker"])
        return None

    def _enlist(self) -> int:
        """Makes a trial that this process is at while it leads, to be missed as a worker is."""
        attrs = {"worker": worker_name()}
        trial = optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attrs)
        number = self._study._storage.create_new_trial(self._study._study_id, trial)
        self._study._claim(number)
        return number

    def _fail(self, trial_id: int) -> None:
        with suppress(UpdateFinishedTrialError):
            self._study._storage.set_trial_state_values(trial_id, TrialState.FAIL)

    def _look(self) -> _Left:
        """What is left by the folders and by what was read of the study."""
        campaign, rounds, found = self._campaign, self._rounds, _Left()
        undone: set[str] = set()
        hopeless: set[str] = set()
        for number in campaign.asked:  # a pre-training stands before what needs it
            run, attempts = campaign.plan.runs[number], self._attempts.get(number, [])
            if campaign.is_done(run):
                continue
            undone.add(run.folder)
            if self._given_up(number) is not None or run.needs in hopeless:
                hopeless.add(run.folder)
                continue
            found.left.append(number)
            state = attempts[-1].state if attempts else TrialState.FAIL
            if campaign.round_of(run) >= rounds:  # whatever an earlier command made of it
                continue
            if state == TrialState.RUNNING:
                found.running.append(number)
            elif state == TrialState.WAITING:
                found.waiting.append(attempts[-1]._trial_id)
            elif run.needs not in undone:
                found.lacking.append(number)
        return found

    def _tell_waiting(self, found: _Left) -> None:
        """Says once what nothing can be done before."""
        if self._tell is None or found.waiting:
            return
        text = f"waiting for round {self._rounds + 1} to be begun by {self._leader}"
        text += ", which has the budget"
        if found.running:
            titles = [self._campaign.plan.runs[number].title for number in found.running]
            others = len(titles) - _NAMED
            text = f"waiting for what others are at: {'; '.join(titles[:_NAMED])}"
            text += f" and {others} more" if others > 0 else ""
        if text != self._told:
            self._tell(text)
        self._told = text

    def _given_up(self, number: int) -> str | None:
        """Why a run is not tried again; None where it is."""
        again = int(self._study.user_attrs.get(_AGAIN, {}).get(str(number), 0))
        counted = [
            one for one in self._attempts.get(number, []) if one.user_attrs["attempt"] >= again
        ]
        if not counted or counted[-1].state != TrialState.FAIL:
            return None
        if not is_settled(counted, self._campaign.config.retries):
            return None
        return failure(counted[-1])

    def _enqueue(self, number: int) -> None:
        before = self._attempts.get(number, [])
        attrs: dict[str, Any] = {
            "generation": 0,
            "slot": number,
            "attempt": before[-1].user_attrs["attempt"] + 1 if before else 0,
            "path": [number],
            "costs": {},
        }
        self._study.add_trial(optuna.trial.create_trial(state=TrialState.WAITING, user_attrs=attrs))


def worker_name() -> str:
    """By which others know this process."""
    return f"{_machine()}-{os.getpid()}"


@cache
def _machine() -> str:
    """The name under which process numbers mean the same: containers may share the host's."""
    signs = ""
    with suppress(OSError):  # elsewhere than on Linux
        signs = _BOOT.read_text() + os.readlink("/proc/self/ns/pid")
    return f"{socket.gethostname()}-{zlib.crc32(signs.encode()):08x}"


def _is_gone(trial: FrozenTrial) -> bool:
    """Whether a run is in the hands of a process of this machine that has ended.

    Elsewhere the heartbeat tells, minutes later.
    """
    machine, _, process = str(trial.user_attrs.get("worker", "")).rpartition("-")
    if trial.state != TrialState.RUNNING or machine != _machine():
        return False
    try:
        os.kill(int(process), 0)
    except ProcessLookupError:
        return True
    except (OSError, ValueError):
        return False
    return False
