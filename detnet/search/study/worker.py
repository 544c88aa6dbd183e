"""A worker takes candidates of a search and scores them, until the search is over.

It also supplies what the storage lacks, so that nothing hangs on the worker that began: a
generation is planned once, by whoever writes its plan first, and each slot of the plan that has no
attempt waiting, running or settled gets a new one.
"""

import contextlib
import math
import time
import traceback
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError
from optuna.trial import FrozenTrial, TrialState

from detnet.errors import InputError
from detnet.search.methods.method import Method, Scored
from detnet.search.study.storage import quiet, reaching
from detnet.search.study.study import (
    RETRIES,
    Candidate,
    CandidateRecord,
    NothingWaiting,
    SearchStudy,
    Slot,
    failure,
    is_open,
    is_settled,
    make_record,
    objectives_of,
    read_attempts,
)

if TYPE_CHECKING:
    from detnet.search.costs.constraints import Constraints

CheckStop = Callable[[], None]
Score = Callable[[Candidate, CheckStop], Sequence[float]]
OnEvent = Callable[[dict[str, Any]], None]
Attempts = dict[Slot, list[FrozenTrial]]
Plan = list[tuple[tuple[int, ...], dict[str, float]]]  # path and costs of each slot

_LONGEST_PAUSE_S = 2.0
_STOP_EVERY_S = 0.05  # how often a waiting worker looks whether it shall end
_LONGEST_ERROR = 500


class _Stopped(BaseException):
    """Ends a score from within; no Exception, so that a scorer's own `except` lets it pass."""


def work(
    study: SearchStudy,
    method: Method,
    score: Score,
    *,
    constraints: "Constraints",
    retries: int = 2,
    stop: Callable[[], bool],
    on_event: OnEvent,
    worker: str,
) -> bool:
    """Scores candidates until the search is over, together with any number of other workers.

    Workers may join, be stopped or be killed at any time: with the same method and the same
    scores, the candidates are the same.

    Args:
        study: from `open_study`.
        method: chooses the candidates of each generation.
        score: gives a candidate's values, one per objective. Its second argument is to be called
            from time to time, and ends the score where the worker shall end. Anything raised, and
            any value that is not finite, is a failure; an `InputError` is the user's mistake and
            ends the worker.
        constraints: tells the costs to record.
        retries: how often a candidate that failed is tried again before it is left out.
        stop: asked between candidates and within scores; once it says True the candidate goes
            back to the study, and the worker ends.
        on_event: called with each event: "generation", "candidate" and "note".
        worker: this worker's name, recorded with its candidates.

    Returns:
        True when the search is over, False when it was stopped.

    Raises:
        InputError: of the scorer, or the storage was lost, or nothing could be scored.
        KeyboardInterrupt: and whatever else ends the process, after handing the candidate back.
    """
    with quiet(), reaching(study.url):
        generations = Generations(study, method, constraints, retries=retries, on_event=on_event)
        one = _Worker(study, generations, score, stop=stop, on_event=on_event, name=worker)
        pause, over = _STOP_EVERY_S, generations.advance()
        while not over and not stop():
            if one.take():
                pause, over = _STOP_EVERY_S, generations.advance()
                one.tell()
                continue
            _fail_stale(study)
            _sleep(pause, stop)
            pause, over = min(1.5 * pause, _LONGEST_PAUSE_S), generations.advance()
        return over


class Generations:
    """The generations of a study, as one worker sees them.

    Args:
        study: which all workers share.
        method: chooses the candidates of a generation from those before.
        constraints: tells their costs.
        retries: how often a candidate that failed is tried again; the first worker's number holds
            for the whole search.
        on_event: called with "generation" and "note" events.
    """

    def __init__(
        self,
        study: SearchStudy,
        method: Method,
        constraints: "Constraints",
        *,
        retries: int,
        on_event: Callable[[dict[str, Any]], None],
    ) -> None:
        self._study, self._method, self._legality = study, method, constraints
        self._on_event = on_event
        self._plans: dict[int, Plan] = {}
        self._announced = -1
        self._best_before: dict[int, float | None] = {}
        self._slots: Attempts = {}
        with study.lock():
            if RETRIES not in study.user_attrs:
                study.set_user_attr(RETRIES, retries)
        self.retries = int(study.user_attrs[RETRIES])

    def advance(self) -> bool:
        """Enqueues what is missing now; True when the search is over.

        Raises:
            InputError: no candidate of a generation could be scored.
        """
        slots = self._read()
        index = self._current(slots)
        if index >= self._method.generations:
            return True
        plan = self._plan(index, slots)
        if not plan:
            return True
        if self._lacking(index, plan, slots):
            with self._study.lock():
                slots = self._read()  # another may have been faster
                for slot in self._lacking(index, plan, slots):
                    self._enqueue(index, slot, *plan[slot], slots.get((index, slot), []))
            self._read()
        self._announce(index, plan)
        return False

    def records(self, index: int) -> list[CandidateRecord]:
        """What was known of one generation's candidates when `advance` last looked."""
        slots = sorted(slot for slot in self._slots if slot[0] == index)
        return [make_record(self._slots[slot], self.retries) for slot in slots]

    def best(self, index: int) -> float | None:
        """The best score up to a generation, when `advance` last looked; None before the first."""
        if index not in self._best_before:  # those before are settled: read once
            self._best_before[index] = _best(one for i in range(index) for one in self.records(i))
        now = _best(self.records(index))
        return max((s for s in (self._best_before[index], now) if s is not None), default=None)

    def format_path(self, path: tuple[int, ...]) -> str:
        """A path as it is written for people."""
        return self._legality.space.format_path(path)

    def _read(self) -> Attempts:
        self._slots = slots = read_attempts(self._study)
        waiting = (slots[slot][-1] for slot in sorted(slots))
        self._study.queue = [
            trial._trial_id for trial in waiting if trial.state == TrialState.WAITING
        ]
        return slots

    def _current(self, slots: Attempts) -> int:
        """The first generation that is not settled."""
        index = max((generation for generation, _ in slots), default=-1)
        if index < 0:
            return 0
        plan = self._plan(index, slots)
        attempts = [slots.get((index, slot), []) for slot in range(len(plan))]
        if not all(one and is_settled(one, self.retries) for one in attempts):
            return index
        self._require_a_value(attempts)
        return index + 1

    def _plan(self, index: int, slots: Attempts) -> Plan:
        """A generation's candidates; the plan written first holds, should two workers differ.

        They do where the limit is on a latency that each measures.
        """
        if index not in self._plans:
            key = f"generation {index}"
            stored = self._study.user_attrs.get(key)
            if stored is None:
                paths = self._method.generation(index, self._history(index, slots))
                plan = [(list(path), self._legality.costs_of(path)) for path in paths]
                with self._study.lock():
                    if key not in self._study.user_attrs:
                        self._study.set_user_attr(key, plan)
                stored = self._study.user_attrs[key]
            self._plans[index] = [(tuple(path), costs) for path, costs in stored]
        return self._plans[index]

    def _history(self, index: int, slots: Attempts) -> list[Scored]:
        return [make_record(slots[one], self.retries) for one in sorted(slots) if one[0] < index]

    def _lacking(self, index: int, plan: Plan, slots: Attempts) -> list[int]:
        return [
            slot
            for slot in range(len(plan))
            if (index, slot) not in slots
            or not (is_open(slots[index, slot]) or is_settled(slots[index, slot], self.retries))
        ]

    def _enqueue(
        self,
        index: int,
        slot: int,
        path: tuple[int, ...],
        costs: dict[str, float],
        before: list[FrozenTrial],
    ) -> None:
        trial = optuna.trial.create_trial(
            state=TrialState.WAITING,
            user_attrs={
                "generation": index,
                "slot": slot,
                "attempt": before[-1].user_attrs["attempt"] + 1 if before else 0,
                "path": list(path),
                "costs": costs,
            },
        )
        if hasattr(trial, "set_constraint"):  # Optuna 5; only for its dashboard
            for name, cost in costs.items():
                limit = getattr(self._legality.limits, name, None)
                if limit is not None:
                    trial.set_constraint(name, cost - limit)
        self._study.add_trial(trial)
        if before and failure(before[-1]) is not None:
            text = f"candidate {slot} of generation {index} is tried again: {failure(before[-1])}"
            self._on_event({"event": "note", "text": text})

    def _require_a_value(self, candidates: Sequence[list[FrozenTrial]]) -> None:
        if candidates and all(one[-1].state != TrialState.COMPLETE for one in candidates):
            raise InputError(
                f"study {self._study.study_name!r}: all {len(candidates)} candidates of a "
                f"generation failed, the last with {failure(candidates[-1][-1])!r}; mend the cause "
                "and search again in a new run folder"
            )

    def _announce(self, index: int, plan: Plan) -> None:
        if index > self._announced:
            self._announced = index
            counts = {"generations": self._method.generations, "candidates": len(plan)}
            self._on_event({"event": "generation", "generation": index, **counts})


def _best(records: Iterable[CandidateRecord]) -> float | None:
    return max((one.values[0] for one in records if one.values is not None), default=None)


class _Worker:
    """Takes and scores one candidate at a time."""

    def __init__(
        self,
        study: SearchStudy,
        generations: Generations,
        score: Score,
        *,
        stop: Callable[[], bool],
        on_event: OnEvent,
        name: str,
    ) -> None:
        self._study, self._generations, self._score = study, generations, score
        self._stop, self._on_event, self._name = stop, on_event, name
        self._objectives = len(objectives_of(study))
        self._candidate: Candidate | None = None
        self._ended_by: BaseException | None = None
        self._lost = False

    def take(self) -> bool:
        """Scores the next candidate; False if none was waiting."""
        self._ended_by, self._lost = None, False
        try:
            self._study.optimize(self._objective, n_trials=1)
        except NothingWaiting:
            return False
        except (ValueError, AssertionError, UpdateFinishedTrialError):
            # Optuna refuses the result: this machine slept or hung for so long that the candidate
            # was given to another worker. The objective itself lets out nothing of the kind, so
            # any of what Optuna says then (it does not expect this case) means that.
            self._lost = True
        return True

    def tell(self) -> None:
        """Tells the watcher what became of the candidate, or raises what ended the worker."""
        candidate = self._candidate
        assert candidate is not None
        if self._ended_by is not None and not isinstance(self._ended_by, _Stopped):
            raise self._ended_by
        if self._ended_by is not None or self._lost:
            what = "was given to another worker meanwhile" if self._lost else "was handed back"
            where = f"candidate {candidate.slot} of generation {candidate.generation}"
            self._on_event({"event": "note", "text": f"{where} {what}"})
            return
        records = self._generations.records(candidate.generation)
        record = records[candidate.slot]
        told = ("generation", "slot", "path", "state", "values", "costs", "seconds")
        self._on_event(
            {
                "event": "candidate",
                **{name: getattr(record, name) for name in told},
                "error": None if record.state == "done" else record.error,
                "settled": sum(one.state in ("done", "failed") for one in records),
                "candidates": len(records),
                "text": self._generations.format_path(candidate.path),
                "best": self._generations.best(candidate.generation),
            }
        )

    def _objective(self, trial: optuna.Trial) -> Sequence[float]:
        """Scores a candidate for Optuna; no values means that it failed."""
        attrs = trial.user_attrs
        candidate = Candidate(attrs["generation"], attrs["slot"], tuple(attrs["path"]))
        self._candidate = candidate
        try:
            trial.set_user_attr("worker", self._name)
            return self._checked(self._score(candidate, self._check_stop))
        except (UpdateFinishedTrialError, StorageInternalError):
            raise
        except InputError as error:
            self._hand_back(trial, error)
        except Exception as error:
            trial.set_user_attr("error", _describe(error))
        except BaseException as error:
            self._hand_back(trial, error)
        return ()

    def _check_stop(self) -> None:
        if self._stop():
            raise _Stopped

    def _hand_back(self, trial: optuna.Trial, error: BaseException) -> None:
        self._ended_by = error
        with contextlib.suppress(UpdateFinishedTrialError):
            trial.set_user_attr("handed_back", True)

    def _checked(self, values: Sequence[float]) -> list[float]:
        numbers = [float(value) for value in values]
        if len(numbers) != self._objectives:
            raise ValueError(f"{len(numbers)} values for {self._objectives} objectives")
        if not all(map(math.isfinite, numbers)):
            raise ArithmeticError(f"score is not finite: {', '.join(map(str, numbers))}")
        return numbers


def _describe(error: Exception) -> str:
    """An error in one line, with the place it came from."""
    text = " ".join(str(error).split())[:_LONGEST_ERROR]
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({frames[-1].filename}:{frames[-1].lineno})" if frames else ""
    return f"{type(error).__name__}: {text}{place}"


def _fail_stale(study: SearchStudy) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ExperimentalWarning)
        optuna.storages.fail_stale_trials(study)


def _sleep(seconds: float, stop: Callable[[], bool]) -> None:
    end = time.monotonic() + seconds
    while not stop() and time.monotonic() < end:
        time.sleep(_STOP_EVERY_S)
