"""A worker takes candidates of a search and scores them, until the search is over."""

import contextlib
import math
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

import optuna
from optuna.exceptions import ExperimentalWarning, StorageInternalError, UpdateFinishedTrialError

from detnet.errors import InputError
from detnet.search.methods.method import Method
from detnet.search.study.generations import Generations
from detnet.search.study.storage import quiet, reaching
from detnet.search.study.study import (
    Candidate,
    NothingWaiting,
    SearchStudy,
    objectives_of,
)
from detnet.text import one_line

if TYPE_CHECKING:
    from detnet.search.costs.constraints import Constraints

CheckStop = Callable[[], None]
Score = Callable[[Candidate, CheckStop], Sequence[float]]
OnEvent = Callable[[dict[str, Any]], None]

_LONGEST_PAUSE_S = 2.0
_STOP_EVERY_S = 0.05  # how often a waiting worker looks whether it shall end


class Agenda(Protocol):
    """What is to be done in a study, and in which order."""

    def advance(self) -> bool:
        """Enqueues what is missing now; True when all is over."""

    def name_of(self, candidate: Candidate) -> str:
        """A candidate in words."""

    def outcome(self, candidate: Candidate) -> dict[str, Any]:
        """The event that tells what became of a candidate, whose score has just ended."""


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
    return work_off(study, generations, score, stop=stop, on_event=on_event, worker=worker)


def work_off(
    study: SearchStudy,
    agenda: Agenda,
    score: Score,
    *,
    stop: Callable[[], bool],
    on_event: OnEvent,
    worker: str,
) -> bool:
    """Does what an agenda has to be done, as `work` does generations.

    Raises:
        InputError: of the scorer, or the storage was lost.
        KeyboardInterrupt: and whatever else ends the process, after handing the candidate back.
    """
    with quiet(), reaching(study.url):
        one = _StudyWorker(study, agenda, score, stop=stop, on_event=on_event, name=worker)
        pause, over = _STOP_EVERY_S, agenda.advance()
        while not over and not stop():
            if one.take():
                one.tell()  # first: the next generation, which `advance` may announce, is after it
                pause, over = _STOP_EVERY_S, agenda.advance()
                continue
            _fail_stale(study)
            _sleep(pause, stop)
            pause, over = min(1.5 * pause, _LONGEST_PAUSE_S), agenda.advance()
        return over


class _StudyWorker:
    """Takes and scores one candidate at a time."""

    def __init__(
        self,
        study: SearchStudy,
        agenda: Agenda,
        score: Score,
        *,
        stop: Callable[[], bool],
        on_event: OnEvent,
        name: str,
    ) -> None:
        self._study, self._agenda, self._score = study, agenda, score
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
            where = self._agenda.name_of(candidate)
            self._on_event({"event": "note", "text": f"{where} {what}"})
            return
        self._on_event(self._agenda.outcome(candidate))

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
    text = one_line(error, 500)
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
