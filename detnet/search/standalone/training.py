"""Trains one network of a space standalone, as any detector, and measures what it reaches."""

import statistics
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

from detnet.data.folders import Split
from detnet.engine import distributed
from detnet.engine.machine import choose_precision
from detnet.engine.runs import RunFolder
from detnet.engine.watch import NonFiniteLoss
from detnet.errors import InputError
from detnet.search.begun import (
    HABITS,
    PLACES,
    begun,
    going_on,
    is_complete,
    require_same_settings,
)
from detnet.search.records import (
    SCORES,
    SpaceNetwork,
    StandaloneResult,
    TrainingBudget,
    write_record,
)
from detnet.search.run import SearchRun
from detnet.search.standalone.sharing import Busy, claimed
from detnet.search.trainings import changed, retrain_config, retrain_pretrain_config
from detnet.text import one_line
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.train import PretrainTask
from detnet.training.detection.config import TrainConfig, find_val
from detnet.training.detection.evaluate import evaluate_file
from detnet.training.detection.train import DetectionTask
from detnet.training.run import run_task
from detnet.training.run_state import OnEvent

Item = TypeVar("Item")


class MeasuringStopped(Exception):
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
            before = retrain_pretrain_config(config, self.run.folder, path)
            before = changed(before, self.changes, "pretrain")
            before = replace(before, seed=self.pretrain_seed)
        train = retrain_config(
            config, self.run.folder, path, self.pretrain_folder if before else None
        )
        return before, replace(changed(train, self.changes, "train"), seed=self.seed)

    @property
    def budget(self) -> TrainingBudget:
        """The settings that decide what it takes and reaches, for two to be compared by."""
        return {
            kind: {
                name: value for name, value in asdict(config).items() if name not in PLACES | HABITS
            }
            for kind, config in zip(("pretrain", "train"), self.settings, strict=True)
            if config is not None
        }


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
        InputError: the settings cannot be used, or it was begun with others.
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
        message = one_line(error)
        _write(training, error=message)
        on_event({"event": "note", "text": f"{training.title}: {message}; it is left out"})
        return True
    try:
        scores, seconds = measure_last(
            RunFolder(training.train_folder), config, training.result.parent / "evaluation", stop
        )
    except MeasuringStopped:
        return False
    took = {
        "pretrain": seconds_of(training.pretrain_folder),
        "train": seconds_of(training.train_folder),
        "evaluation": seconds,
    }
    _write(training, **{name: scores[name] for name in SCORES}, seconds=took)
    return True


def mean_scores(results: Iterable[StandaloneResult]) -> dict[str, Any]:
    """Takes the mean of each score over the trainings that have it; None where none has."""
    found = list(results)
    means: dict[str, Any] = {}
    for name in SCORES:
        there = [value for one in found if (value := getattr(one, name)) is not None]
        means[name] = statistics.fmean(there) if there else None
    return means


def seconds_of(folder: Path) -> float:
    """How long a complete training took, over all its sessions."""
    end = RunFolder(folder).end()
    return float(end["seconds"]) if end else 0.0


def carry_out(folder: Path, config: PretrainConfig | TrainConfig, on_event: OnEvent) -> bool:
    """Begins a run, goes on with it, or finds it complete; False when it was interrupted."""
    if is_complete(folder):
        return True
    if resume := begun(folder):
        config = going_on(folder, config)
    task = PretrainTask(config) if isinstance(config, PretrainConfig) else DetectionTask(config)
    return run_task(task, folder, resume=resume, on_event=on_event)


def _carry_out_alone(
    folder: Path, config: PretrainConfig | TrainConfig, on_event: OnEvent, *, shared: bool = False
) -> bool:
    """Carries a run out that nobody else is at.

    Args:
        shared: others may wait for it, too, who keep the folder above it to themselves.

    Raises:
        Busy: somebody is, who trains this one by hand or for another seed.
        InputError: it was begun with other settings.
    """
    require_same_settings(folder, config)
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


def measured_on(config: TrainConfig) -> Split:
    """Finds the validation split that a network is measured on.

    Raises:
        InputError: there is none.
    """
    split = find_val(config)
    if split is None:
        raise InputError(
            f"{config.data}: no validation split to measure networks on (val_split "
            f"{config.val_split})"
        )
    return split


def measure_last(
    run: RunFolder, config: TrainConfig, output: Path, stop: Callable[[], bool]
) -> tuple[dict[str, float | None], float]:
    """Scores the last model of a run on its validation split, and writes the scores' files.

    The best model of the run was chosen on that split, and would be flattered by it.

    Returns:
        COCO's scores by name, and the seconds that it took.

    Raises:
        InputError: there is no such split.
        MeasuringStopped: `stop` said so.
    """
    split = measured_on(config)

    def stoppable(batches: Iterable[Item], total: int) -> Iterator[Item]:
        for batch in batches:
            if stop():
                raise MeasuringStopped
            yield batch

    began = time.perf_counter()
    with distributed.joined(None if config.device == "auto" else config.device) as process:
        found = evaluate_file(
            run.model,
            split,
            process=process,
            autocast=choose_precision(config.precision, process.device),
            output=output,
            workers=config.workers,
            track=stoppable,
        ).headline
    return found, time.perf_counter() - began


def _write(training: StandaloneTraining, **found: Any) -> None:
    network = {name: getattr(training.network, name) for name in SpaceNetwork.__dataclass_fields__}
    result = StandaloneResult(**network, name=training.name, seed=training.seed, **found)
    write_record(training.result, result)
