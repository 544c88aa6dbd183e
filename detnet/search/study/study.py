"""A search is an Optuna study: candidates wait in it, and any number of workers take them."""

import contextlib
import json
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState
from sqlalchemy.engine import URL

from detnet.errors import InputError
from detnet.search.methods.method import Scored
from detnet.search.study.storage import (
    Lock,
    SearchStorage,
    is_writable,
    open_storage,
    parse_storage,
    quiet,
    reaching,
    shown,
)
from detnet.text import one_line

_IDENTITY = "identity"
_OBJECTIVES = "objectives"


class StudyNotBegun(InputError):
    """There is no study yet."""


class NothingWaiting(Exception):
    """No candidate is waiting for a worker now."""


class SearchStudy(optuna.Study):
    """A study whose trials are all planned: asked for one more, it makes none up.

    Close it when it is no longer needed; it is a context manager, too.
    """

    def __init__(self, name: str, storage: SearchStorage, url: URL) -> None:
        # Neither is ever asked; the default sampler is slow to make.
        sampler = optuna.samplers.RandomSampler(seed=0)
        super().__init__(name, storage, sampler=sampler, pruner=optuna.pruners.NopPruner())
        self.url = url
        self.queue: list[int] = []  # ids of the trials that waited when the storage was last read
        self._engine = storage.engine
        self._lock = Lock(url, name)

    def ask(self, fixed_distributions: dict[str, Any] | None = None) -> optuna.Trial:
        """Claims the first trial of `queue` that still waits.

        Raises:
            NothingWaiting: none does.
        """
        while self.queue:
            trial_id = self.queue.pop(0)
            if self._claim(trial_id):
                return optuna.Trial(self, trial_id)
        raise NothingWaiting

    def _claim(self, trial_id: int) -> bool:
        # A trial without any heartbeat is never found stale, so a worker killed between its claim
        # and its first heartbeat would keep the candidate for ever: the heartbeat comes first.
        self._storage.record_heartbeat(trial_id)  # type: ignore[attr-defined]
        try:
            return self._storage.set_trial_state_values(trial_id, state=TrialState.RUNNING)
        except UpdateFinishedTrialError:
            return False

    def lock(self) -> contextlib.AbstractContextManager[None]:
        """Held by one worker at a time, to enqueue without doubles."""
        return self._lock()

    def hold(self, key: str, value: Any) -> Any:
        """Gives the value that the first worker had for a key, which holds for all."""
        with self.lock():
            if key not in self.user_attrs:
                self.set_user_attr(key, value)
        return self.user_attrs[key]

    def close(self) -> None:
        """Closes the connections to the database."""
        self._storage.remove_session()
        self._engine.dispose()

    def __enter__(self) -> "SearchStudy":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_study(
    storage: str,
    name: str = "search",
    *,
    objectives: Sequence[str] = ("score",),
    heartbeat_s: float = 60,
    identity: Mapping[str, Any] | None = None,
) -> SearchStudy:
    """Opens a study, or makes it where there is none.

    Args:
        storage: `sqlite:///FILE`, the path of an SQLite file, or `postgresql://…`.
        name: the study's, unique in the database.
        objectives: the first is maximised, the others are minimised.
        heartbeat_s: how often a worker shows that it is alive; after two missed ones its candidate
            goes to another. Counted in whole seconds, at least one.
        identity: what the study belongs to, of values JSON can hold. The first to open it writes
            it down, and the study refuses another.

    Raises:
        InputError: the storage cannot be reached, or the study is another search's.
    """
    url = parse_storage(storage)
    with _opening(url), Lock(url, name)():
        database = open_storage(url, heartbeat_s)
        directions: list[StudyDirection] = [StudyDirection.MAXIMIZE]
        directions += [StudyDirection.MINIMIZE] * (len(objectives) - 1)
        optuna.create_study(
            storage=database, study_name=name, directions=directions, load_if_exists=True
        )
        study = SearchStudy(name, database, url)
        try:
            _recognise(study, _OBJECTIVES, {"objectives": list(objectives)})
            if identity is not None:
                _recognise(study, _IDENTITY, identity)
        except InputError:
            study.close()
            raise
    return study


def load_study(storage: str, name: str = "search") -> SearchStudy:
    """Opens a study that is there, to look at it; where nothing may be written, only to read.

    Raises:
        StudyNotBegun: there is none.
        InputError: the storage cannot be reached.
    """
    url = parse_storage(storage)
    if url.drivername == "sqlite" and not Path(str(url.database)).is_file():
        raise StudyNotBegun(f"{url.database}: no such file; the search has not begun")
    writable = is_writable(url)
    with _opening(url), Lock(url, name)() if writable else contextlib.nullcontext():
        database = open_storage(url, heartbeat_s=60, read_only=not writable)
        try:
            return SearchStudy(name, database, url)
        except KeyError as error:
            database.engine.dispose()
            raise StudyNotBegun(
                f"storage {shown(url)}: no study {name!r}; the search has not begun"
            ) from error


def objectives_of(study: optuna.Study) -> tuple[str, ...]:
    """The names of a study's objectives, the first maximised, the others minimised."""
    return tuple(study.user_attrs[_OBJECTIVES]["objectives"])


@contextlib.contextmanager
def _opening(url: URL) -> Iterator[None]:
    with quiet(), reaching(url):
        try:
            yield
        except RuntimeError as error:  # Optuna's, of a database of another version
            if "optuna" not in str(error):
                raise
            raise InputError(f"storage {shown(url)}: {one_line(error)}") from error


def _recognise(study: SearchStudy, key: str, given: Mapping[str, Any]) -> None:
    """Writes down what the study belongs to, or compares it with what is written there."""
    wanted = json.loads(json.dumps(given))
    known = study.user_attrs.get(key)
    if known is None:
        study.set_user_attr(key, wanted)
        return
    differing = [
        f"{item} is {json.dumps(known.get(item))} there and {json.dumps(wanted.get(item))} here"
        for item in sorted({*known, *wanted})
        if known.get(item) != wanted.get(item)
    ]
    if differing:
        raise InputError(
            f"storage {shown(study.url)}: study {study.study_name!r} belongs to another search "
            f"({'; '.join(differing)}); give another storage, or the search it belongs to"
        )


State = Literal["waiting", "running", "done", "failed"]
Slot = tuple[int, int]

# A candidate whose scoring ends the process (memory) would end one worker after the other, while
# on machines that come and go its worker may well be taken away several times.
DEATHS = 10
RETRIES = "retries"  # attribute of the study: one number for all workers


@dataclass(frozen=True)
class Candidate:
    """A network to be scored."""

    generation: int
    slot: int
    path: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class CandidateRecord(Scored):
    """What is known of one candidate; it has values when it is "done".

    Args:
        state: "failed" is for good; a candidate that will be tried again is "waiting".
        seconds: scoring took, of the last attempt that ended; None before.
        worker: who tried it last.
        error: of the last attempt that failed, even if a later one did not.
        attempts: how many have begun, without those handed back.
    """

    generation: int
    slot: int
    state: State
    seconds: float | None
    worker: str | None
    error: str | None
    attempts: int


def read_candidates(study: optuna.Study) -> list[CandidateRecord]:
    """Reads all candidates, ordered by generation and slot."""
    retries = int(study.user_attrs.get(RETRIES, 0))
    slots = read_attempts(study)
    return [make_record(slots[slot], retries) for slot in sorted(slots)]


def read_attempts(study: optuna.Study) -> dict[Slot, list[FrozenTrial]]:
    """Reads the trials of each slot, one per attempt, in order.

    Of several trials for one attempt only the first counts: whoever sees a later one sees it, too,
    since the storage numbers trials one at a time. So doubles can do no harm.
    """
    slots: defaultdict[Slot, dict[int, FrozenTrial]] = defaultdict(dict)
    for trial in study.get_trials(deepcopy=False):  # by number
        attrs = trial.user_attrs
        if "slot" in attrs:
            slots[attrs["generation"], attrs["slot"]].setdefault(attrs["attempt"], trial)
    return {
        slot: [attempts[number] for number in sorted(attempts)] for slot, attempts in slots.items()
    }


def make_record(attempts: list[FrozenTrial], retries: int) -> CandidateRecord:
    """Sums up the attempts at one candidate."""
    last = attempts[-1]
    attrs = last.user_attrs
    begun = [trial for trial in attempts if trial.state != TrialState.WAITING]
    failures = [text for text in map(failure, attempts) if text is not None]
    done = last.state == TrialState.COMPLETE
    return CandidateRecord(
        generation=attrs["generation"],
        slot=attrs["slot"],
        path=tuple(attrs["path"]),
        state=_state(attempts, retries),
        values=tuple(last.values) if done else None,
        costs=dict(attrs["costs"]),
        seconds=_seconds(begun),
        worker=next(
            (t.user_attrs["worker"] for t in begun[::-1] if "worker" in t.user_attrs), None
        ),
        error=failures[-1] if failures else None,
        attempts=sum("handed_back" not in trial.user_attrs for trial in begun),
    )


def is_open(attempts: list[FrozenTrial]) -> bool:
    """Whether an attempt is waiting or running."""
    return not attempts[-1].state.is_finished()


def is_settled(attempts: list[FrozenTrial], retries: int) -> bool:
    """Whether nothing more is to be done: it has its values, or failed for good."""
    return attempts[-1].state == TrialState.COMPLETE or _gave_up(attempts, retries)


def failure(trial: FrozenTrial) -> str | None:
    """Why an attempt failed; None when it did not, or was handed back."""
    if trial.state != TrialState.FAIL or "handed_back" in trial.user_attrs:
        return None
    return trial.user_attrs.get("error", "its worker ended")


def _state(attempts: list[FrozenTrial], retries: int) -> State:
    last = attempts[-1].state
    if last == TrialState.COMPLETE:
        return "done"
    if last == TrialState.RUNNING:
        return "running"
    return "failed" if _gave_up(attempts, retries) else "waiting"


def _gave_up(attempts: list[FrozenTrial], retries: int) -> bool:
    if attempts[-1].state != TrialState.FAIL:
        return False
    failed = [trial for trial in attempts if failure(trial) is not None]
    errors = sum("error" in trial.user_attrs for trial in failed)
    return errors > retries or len(failed) - errors >= DEATHS


def _seconds(begun: Iterable[FrozenTrial]) -> float | None:
    durations = [trial.duration for trial in begun if trial.duration is not None]
    return durations[-1].total_seconds() if durations else None
