"""Plans of standalone trainings: chosen once, then carried out by any number of processes."""

import json
import statistics
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from detnet.engine.interrupt import Interrupt
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.begun import is_complete
from detnet.search.records import StandalonePlan, TrainingBudget, read_record, write_record
from detnet.search.standalone.processes import helped
from detnet.search.standalone.sharing import Job, in_turn, share
from detnet.search.standalone.training import (
    StandaloneTraining,
    measured_on,
    seconds_of,
    train_standalone,
)
from detnet.search.trainings import images_of
from detnet.text import duration
from detnet.training.run_config import RunConfig
from detnet.training.run_state import OnEvent

Plan = TypeVar("Plan", bound=StandalonePlan)


def resolve_plan(
    place: Path,
    kind: type[Plan],
    choose: Callable[[Plan | None], Plan],
    first: Callable[[Plan], StandaloneTraining],
) -> Plan:
    """Chooses networks and writes them down before any is trained; later calls go on with these.

    Args:
        place: file of the plan.
        kind: of plan.
        choose: makes the plan; is given the one that there is, which it may add to or refuse.
        first: gives the first of its trainings by the settings as they are now.

    Raises:
        InputError: of `choose`, or the settings are no longer those of the trainings before, or
            there is nothing to measure networks on.
    """
    with in_turn(place.parent):
        before = read_plan(place, kind)
        plan = choose(before)
        now = first(plan).budget
        if plan is not before:
            measured_on(first(plan).settings[1])
            plan = replace(plan, budget=plan.budget or now)
            write_record(place, plan)
    _require_same_budget(plan.budget, now, place)
    return plan


def read_plan(place: Path, kind: type[Plan]) -> Plan | None:
    """The plan that was written down; None before.

    Raises:
        InputError: it is damaged.
    """
    return read_record(kind, place) if place.exists() else None


def _require_same_budget(before: TrainingBudget, now: TrainingBudget, where: Path) -> None:
    """Refuses to go on with other settings than the trainings before had.

    Args:
        before: of the plan.
        where: the plan's file.

    Raises:
        InputError: naming the first that differs.
    """
    for kind, name, old, new in differences(before, now):
        raise InputError(
            f"{where}: planned with {kind} {name} {old}, the settings now say {new}; restore them, "
            f"or delete {where.parent} to begin anew"
        )


def differences(
    before: TrainingBudget, now: TrainingBudget
) -> Iterator[tuple[str, str, object, object]]:
    """Yields kind of training, name and both values of each setting that two budgets differ in."""
    now = json.loads(json.dumps(now))
    for kind in sorted({*before, *now}):
        old, new = before.get(kind) or {}, now.get(kind) or {}
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                yield kind, name, old.get(name), new.get(name)


def carry_out_plan(
    trainings: Sequence[StandaloneTraining],
    on_event: OnEvent,
    *,
    workers: int = 1,
    command: Sequence[str],
    logs: Path,
    beside: Callable[[], Sequence[Job]] = tuple,
    beside_first: bool = True,
) -> bool:
    """Does all trainings together with other processes; False when interrupted.

    Args:
        trainings: of the plan.
        on_event: called with their events, and "note".
        workers: processes of this machine that it takes, this one among them.
        command: arguments of `detnet` for one of the others.
        logs: folder of what the others say.
        beside: gives what else is to be done of the networks, when it is to be done. What others
            keep from being done first, since they train those networks, is done last.
        beside_first: whether it can be done before the networks are trained.
    """

    def train(training: StandaloneTraining, place: str) -> bool:
        on_event({"event": "note", "text": f"training {place}: {training.title}"})
        return train_standalone(training, stop=stop, on_event=on_event)

    def stop() -> bool:
        return interrupt.set

    jobs = [
        Job(one.title, one.folder, one.result, partial(train, one, f"{number} of {len(trainings)}"))
        for number, one in enumerate(trainings, 1)
    ]
    on_event({"event": "note", "text": expectation(trainings, workers=workers)})
    helpers = helped(command, workers, logs=logs, on_event=on_event)
    with Interrupt() as interrupt, helpers:
        if beside_first and not share(beside(), stop=stop, on_event=on_event, wait=False):
            return False
        if not share(jobs, stop=stop, on_event=on_event):
            return False
        return share(beside(), stop=stop, on_event=on_event)


def expectation(trainings: Sequence[StandaloneTraining], *, workers: int = 1) -> str:
    """Says in one line what is left to train, and about how long that will take.

    A training takes as long as the mean of those that are complete; as long as none is, its images
    are reckoned at the pace that the search's supernet was trained with, one network a step too.
    """
    done = sum(one.result.exists() for one in trainings)
    text = f"{len(trainings)} trainings of networks alone"
    text += f", {done} of them done" if done else ""
    if done == len(trainings):
        return text
    before, train = trainings[0].settings  # the others' are as long
    run = trainings[0].run.folder
    # One that diverged is done, too, though its training is not complete.
    open_ = [one for one in trainings if not one.result.exists()]
    trained, needed = {one.train_folder for one in trainings}, {one.train_folder for one in open_}
    seconds = [_left(trained, needed, train, run / "finetune")]
    if before is not None:
        trained = {one.pretrain_folder for one in trainings}
        needed = {one.pretrain_folder for one in open_}
        seconds.append(_left(trained, needed, before, run / "pretrain"))
    known = [value for value in seconds if value is not None]
    if len(known) < len(seconds):
        return f"{text}; how long they take is known after the first"
    left = duration(sum(known) / workers)
    by = "one process" if workers == 1 else f"{workers} processes, if each is as fast as one alone"
    return f"{text}; about {left} left for {by}, evaluation not counted"


def _left(folders: set[Path], needed: set[Path], config: RunConfig, supernet: Path) -> float | None:
    """Seconds of the needed trainings that are not complete; None if there is nothing to go by."""
    complete = {folder for folder in folders if is_complete(folder)}
    left = len(needed - complete)
    if not left:
        return 0.0
    if complete:
        return left * statistics.fmean(map(seconds_of, complete))
    pace = _pace(supernet)
    if pace is None:
        return None
    images_per_s, images_per_epoch = pace
    return left * images_of(config, images_per_epoch) / images_per_s


def _pace(supernet: Path) -> tuple[float, float] | None:
    """Images a second of a training, and images of its epoch."""
    events = RunFolder(supernet).read_metrics() if supernet.is_dir() else []
    steps: list[dict[str, Any]] = [
        event for event in events if event["event"] == "step" and event.get("images_per_s")
    ]
    if not steps:
        return None
    last = steps[-1]
    images = last["images_per_s"] * (last["data_s"] + last["step_s"])
    pace = statistics.median(float(event["images_per_s"]) for event in steps)
    return pace, images * last["iteration"] / last["epoch"]
