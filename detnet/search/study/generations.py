"""The generations of a study as one worker sees them, who supplies what the storage lacks.

So nothing hangs on the worker that began: a generation is planned once, by whoever writes its plan
first, and each slot of the plan that has no attempt waiting, running or settled gets a new one.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import optuna
from optuna.trial import FrozenTrial, TrialState

from detnet.errors import InputError
from detnet.search.methods.method import Method, Scored
from detnet.search.study.study import (
    RETRIES,
    Candidate,
    CandidateRecord,
    SearchStudy,
    Slot,
    failure,
    is_open,
    is_settled,
    make_record,
    read_attempts,
)

if TYPE_CHECKING:
    from detnet.search.costs.constraints import Constraints

Attempts = dict[Slot, list[FrozenTrial]]
Plan = list[tuple[tuple[int, ...], dict[str, float]]]  # path and costs of each slot

_IN_A_ROW = 5  # candidates that fail one after the other, at least, before a search is given up


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
        self.retries = int(study.hold(RETRIES, retries))

    def advance(self) -> bool:
        """Enqueues what is missing now; True when the search is over.

        Raises:
            InputError: as many of the last candidates as a generation has could not be scored, and
                there are generations left, or nothing was scored before.
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
        """What was known of one generation's candidates when the study was last read."""
        slots = sorted(slot for slot in self._slots if slot[0] == index)
        return [make_record(self._slots[slot], self.retries) for slot in slots]

    def best(self, index: int) -> float | None:
        """The best score up to a generation when the study was last read; None before any."""
        if index not in self._best_before:  # those before are settled: read once
            self._best_before[index] = _best(one for i in range(index) for one in self.records(i))
        now = _best(self.records(index))
        return max((s for s in (self._best_before[index], now) if s is not None), default=None)

    def name_of(self, candidate: Candidate) -> str:
        """A candidate in words."""
        return f"candidate {candidate.slot} of generation {candidate.generation}"

    def outcome(self, candidate: Candidate) -> dict[str, Any]:
        """What became of a candidate by what the study says now."""
        self._read()
        records = self.records(candidate.generation)
        record = records[candidate.slot]
        told = ("generation", "slot", "path", "state", "values", "costs", "seconds")
        return {
            "event": "candidate",
            **{name: getattr(record, name) for name in told},
            "error": None if record.state == "done" else record.error,
            "settled": sum(one.state in ("done", "failed") for one in records),
            "candidates": len(records),
            "text": self._legality.space.format_path(candidate.path),
            "best": self.best(candidate.generation),
        }

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
        self._require_scores(index, slots)
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

    def _require_scores(self, index: int, slots: Attempts) -> None:
        """Gives up where nothing can be scored any more: all that is left would fail, too.

        The few paths that are left of a small space may fail, and so may the last generation.
        """
        records = [make_record(slots[one], self.retries) for one in sorted(slots)]
        last = records[-max(self._method.population, _IN_A_ROW) :]
        scored = any(one.values is not None for one in records)
        over = index + 1 >= self._method.generations
        if any(one.values is not None for one in last) or (scored and over):
            return
        otherwise = f", or set generations to {index + 1} to end with what is scored"
        raise InputError(
            f"study {self._study.study_name!r}: the last {len(last)} candidates all failed, the "
            f"last with {last[-1].error!r}; mend the cause and search again in a new run folder"
            + (otherwise if scored else "")
        )

    def _announce(self, index: int, plan: Plan) -> None:
        if index > self._announced:
            self._announced = index
            counts = {"generations": self._method.generations, "candidates": len(plan)}
            self._on_event({"event": "generation", "generation": index, **counts})


def _best(records: Iterable[CandidateRecord]) -> float | None:
    return max((one.values[0] for one in records if one.values is not None), default=None)
