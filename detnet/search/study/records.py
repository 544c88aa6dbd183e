"""What a study knows of its candidates, told apart by generation and slot.

A candidate that failed, was handed back or lost its worker is tried again as a new trial of Optuna
with a new number, so a candidate's identity is (generation, slot) and not a trial's number.
"""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import FrozenTrial, TrialState

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


@dataclass(frozen=True)
class CandidateRecord:
    """What is known of one candidate.

    Args:
        state: "failed" is for good; a candidate that will be tried again is "waiting".
        values: one per objective; None unless it is "done".
        costs: "macs", "params" and what else the limits know.
        seconds: scoring took, of the last attempt that ended; None before.
        worker: who tried it last.
        error: of the last attempt that failed, even if a later one did not.
        attempts: how many have begun, without those handed back.
    """

    generation: int
    slot: int
    path: tuple[int, ...]
    state: State
    values: tuple[float, ...] | None
    costs: dict[str, float]
    seconds: float | None
    worker: str | None
    error: str | None
    attempts: int

    @property
    def score(self) -> float | None:
        """The first value, higher is better; None before it is done, and for what is no number."""
        if self.values is None or not math.isfinite(self.values[0]):
            return None
        return self.values[0]


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
