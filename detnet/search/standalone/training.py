"""Trains one network of a space standalone, as any detector, and measures what it reaches."""

import json
import os
import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, fields, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any, TypeVar

from detnet.engine import distributed
from detnet.engine.loop import NonFiniteLoss
from detnet.engine.machine import choose_precision
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.records import (
    SCORES,
    SpaceNetwork,
    StandaloneResult,
    TrainingBudget,
    write_record,
)
from detnet.search.run import SearchRun
from detnet.search.standalone.sharing import Busy, Job, claimed, share
from detnet.search.trainings import images_of, retrain_config, retrain_pretrain_config
from detnet.text import duration
from detnet.training.classification import train as classification
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection import train as detection
from detnet.training.detection.config import TrainConfig, find_val
from detnet.training.detection.evaluate import evaluate_file
from detnet.training.run_config import RunConfig
from detnet.training.run_state import OnEvent
from detnet.training.settings import combine, typed

# What may differ between two trainings of the same budget.
_PLACES = {"data", "weights", "backbone_options", "seed", "device", "workers", "plugins"}
_PLACES |= {"train_annotations", "train_images", "val_annotations", "val_images"}
_HABITS = {"log_every", "checkpoint_every", "evaluate_every", "tensorboard", "val_loss"}

Item = TypeVar("Item")


class _MeasuringStopped(Exception):
    """A signal came while a network was measured."""


@dataclass(frozen=True)
class StandaloneTraining:
    """A network of a search's space that is trained standalone, by the search's own settings.

    Args:
        run: the search.
        network: which.
        name: for people.
        seed: of its trainings.
        folder: of its trainings, `train/` in it; one process at a time works there.
        result: file for what it reaches, a `StandaloneResult`.
        pretrain_folder: the run folder of its pre-training, in `folder` or shared by several seeds.
        pretrain_seed: of its pre-training.
        changes: of settings, under "pretrain" and "train".
    """

    run: SearchRun
    network: SpaceNetwork
    name: str
    seed: int
    folder: Path
    result: Path
    pretrain_folder: Path
    pretrain_seed: int
    changes: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name}, seed {self.seed}"

    @property
    def train_folder(self) -> Path:
        return self.folder / "train"

    @cached_property
    def settings(self) -> tuple[PretrainConfig | None, TrainConfig]:
        """Of its pre-training, None from scratch, and of the training that begins from it."""
        config, path = self.run.config, self.network.path
        before: PretrainConfig | None = None
        if not config.from_scratch:
            before = _changed(
                retrain_pretrain_config(config, self.run.folder, path), self.changes.get("pretrain")
            )
            before = replace(before, seed=self.pretrain_seed)
        train = retrain_config(
            config, self.run.folder, path, self.pretrain_folder if before else None
        )
        return before, replace(_changed(train, self.changes.get("train")), seed=self.seed)

    @property
    def budget(self) -> TrainingBudget:
        """The settings that decide what it takes and reaches, for two to be compared by."""
        return {
            kind: {
                name: value
                for name, value in asdict(config).items()
                if name not in _PLACES | _HABITS
            }
            for kind, config in zip(("pretrain", "train"), self.settings, strict=True)
            if config is not None
        }


def share_trainings(
    trainings: Sequence[StandaloneTraining], *, stop: Callable[[], bool], on_event: OnEvent
) -> bool:
    """Does all trainings together with other processes; False when interrupted."""

    def train(training: StandaloneTraining, place: str) -> bool:
        on_event({"event": "note", "text": f"training {place}: {training.title}"})
        return train_standalone(training, stop=stop, on_event=on_event)

    jobs = [
        Job(one.title, one.folder, one.result, partial(train, one, f"{number} of {len(trainings)}"))
        for number, one in enumerate(trainings, 1)
    ]
    return share(jobs, stop=stop, on_event=on_event)


def train_standalone(
    training: StandaloneTraining, *, stop: Callable[[], bool], on_event: OnEvent
) -> bool:
    """Pre-trains, fine-tunes and measures a network, going on where it was left.

    The real score is that of the final model, which the seed and the number of steps decide, on
    the validation split; the best one of the run was chosen on that split. Where a loss was not
    finite, the result has an error and no scores.

    Returns:
        False when it was interrupted.

    Raises:
        Busy: another process is at the pre-training that several seeds share.
        InputError: the settings cannot be used.
    """
    before, config = training.settings
    try:
        folder = training.pretrain_folder
        shared = folder.parent != training.folder
        if before and not _carry_out_alone(folder, before, on_event, shared=shared):
            return False
        if not _carry_out_alone(training.train_folder, config, on_event):
            return False
    except NonFiniteLoss as error:
        message = " ".join(str(error).split())
        _write(training, error=message)
        text = (
            f"{training.title}: {message}; it is left out (delete {training.result} to try again)"
        )
        on_event({"event": "note", "text": text})
        return True
    try:
        scores, seconds = _measured(training, config, stop)
    except _MeasuringStopped:
        return False
    took = {
        "pretrain": seconds_of(training.pretrain_folder),
        "train": seconds_of(training.train_folder),
        "evaluation": seconds,
    }
    _write(training, **scores, seconds=took)
    return True


def require_same_budget(before: TrainingBudget, now: TrainingBudget, where: Path) -> None:
    """Refuses to go on with other settings than the trainings before had.

    Args:
        before: of the plan.
        where: the plan's file.

    Raises:
        InputError: naming the first that differs.
    """
    now = json.loads(json.dumps(now))
    for kind in sorted({*before, *now}):
        old, new = before.get(kind) or {}, now.get(kind) or {}
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise InputError(
                    f"{where}: planned with {kind} {name} {old.get(name)}, the settings now say "
                    f"{new.get(name)}; restore them, or delete {where.parent} to begin anew"
                )


def is_complete(folder: Path) -> bool:
    """Whether a training has written its final model and said so."""
    run = RunFolder(folder)
    return run.model.exists() and run.end() is not None


def seconds_of(folder: Path) -> float:
    """How long a complete training took, over all its sessions."""
    end = RunFolder(folder).end()
    return float(end["seconds"]) if end else 0.0


def begun(folder: Path) -> bool:
    """Whether a training has a state to go on from; what a kill left before that is removed.

    Without a checkpoint nothing is lost by beginning anew, and a kill may have cut the settings.
    """
    run = RunFolder(folder)
    if run.last.exists():
        return True
    if os.environ.get("RANK", "0") == "0":
        for path in (run.config, run.metrics):
            path.unlink(missing_ok=True)
    return False


def carry_out(folder: Path, config: PretrainConfig | TrainConfig, on_event: OnEvent) -> bool:
    """Begins a run, goes on with it, or finds it complete; False when it was interrupted."""
    if is_complete(folder):
        return True
    classes = isinstance(config, PretrainConfig)
    if begun(folder):
        resume = classification.resume if classes else detection.resume
        return resume(folder, on_event=on_event)
    start: Any = classification.pretrain if classes else detection.train
    return bool(start(config, folder, on_event=on_event))


def _carry_out_alone(
    folder: Path, config: PretrainConfig | TrainConfig, on_event: OnEvent, *, shared: bool = False
) -> bool:
    """Carries a run out that nobody else is at.

    Args:
        shared: others may wait for it, too, who keep the folder above it to themselves.

    Raises:
        Busy: somebody is, who trains this one by hand or for another seed.
    """
    if is_complete(folder):
        return True
    with ExitStack() as mine:
        if shared and not mine.enter_context(claimed(folder.parent)):
            raise Busy
        with claimed(folder) as free:
            if not free:
                raise Busy
        on_event({"event": "note", "text": f"{folder}"})
        return carry_out(folder, config, on_event)


def _measured(
    training: StandaloneTraining, config: TrainConfig, stop: Callable[[], bool]
) -> tuple[dict[str, float | None], float]:
    """COCO's scores of the final model, and the seconds that measuring took."""
    split = find_val(config)
    if split is None:
        raise InputError(f"{config.data}: no split {config.val_split!r} to measure networks on")

    def stoppable(batches: Iterable[Item], total: int) -> Iterator[Item]:
        for batch in batches:
            if stop():
                raise _MeasuringStopped
            yield batch

    began = time.perf_counter()
    process = distributed.setup(None if config.device == "auto" else config.device)
    try:
        found = evaluate_file(
            RunFolder(training.train_folder).model,
            split,
            process=process,
            autocast=choose_precision(config.precision, process.device),
            output=training.result.parent / "evaluation",
            workers=config.workers,
            track=stoppable,
        ).headline
    finally:
        distributed.cleanup()
    return {name: found[name] for name in SCORES}, time.perf_counter() - began


def _write(training: StandaloneTraining, **found: Any) -> None:
    network = {name: getattr(training.network, name) for name in SpaceNetwork.__dataclass_fields__}
    result = StandaloneResult(**network, name=training.name, seed=training.seed, **found)
    write_record(training.result, result)


def _changed(config: Any, changes: Mapping[str, Any] | None) -> Any:
    """Settings of a run with some of them changed."""
    if not changes:
        return config
    values = {entry.name: getattr(config, entry.name) for entry in fields(config)}
    return typed(type(config), combine(values, changes), where="validate")


def expectation(trainings: Sequence[StandaloneTraining]) -> str:
    """Says in one line what is left to train, and about how long that will take one process.

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
    return f"{text}; about {duration(sum(known))} left for one process, evaluation not counted"


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
