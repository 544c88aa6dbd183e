"""What a kind of training says of itself, so that all of them share one loop."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.backbones.weights.pretrained import PretrainedWeights
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.engine.optim import Schedule
from detnet.training.resolve import resolve
from detnet.training.run_config import RunConfig


@dataclass(frozen=True)
class Measured:
    """What one evaluation found.

    Args:
        scores: the numbers by name, the best model's among them; they go into metrics.jsonl.
        write: writes the evaluation's files into a folder.
    """

    scores: dict[str, float | None]
    write: Callable[[Path], None]


@dataclass(frozen=True)
class RunData:
    """The data of a run, as the loop needs to know them.

    Args:
        path: where they come from, for messages.
        records: what tells which they are, "annotations".
        images: to train on.
        val_images: to evaluate on, 0 for no evaluation.
        fingerprint: by which a resumed run knows its data again.
        notes: one line for each thing a person should know.
        classes: names by label, in whose order the model learns them.
        val_fingerprint: of what is evaluated on, "" for no evaluation.
    """

    path: Path
    records: str
    images: int
    val_images: int
    fingerprint: str
    notes: list[str] = field(default_factory=list)
    classes: tuple[str, ...] = ()
    val_fingerprint: str = ""


class Task(ABC):
    """One kind of training in one process: its settings, data, model and evaluation.

    It comes to life in three steps: `resolve` settles what the settings leave open, `read_data`
    refuses data that cannot be used, `make_model` builds the network and loads weights into it.
    """

    config: RunConfig
    process: Process
    data: RunData
    batches_per_epoch: int
    partial: bool = False  # whether a step uses a part of the model only, the same on all processes
    fixed_size: bool = False  # whether all images come to the network in one size

    def __init__(self, config: RunConfig) -> None:
        self.config = config
        self.weights: PretrainedWeights | None = None  # that the run begins from

    def resolve(self, *, load_weights: bool) -> list[str]:
        """Settles `config` but for what the data decide, and says what it did.

        Args:
            load_weights: open the weights that the run begins from, for `make_model` to load; a
                resumed run has them in its checkpoint, and in its settings what they decided.

        Raises:
            InputError: a name, option or weights that cannot be used.
        """
        resolved = resolve(self.config, load_weights=load_weights)
        self.config, self.weights = resolved.config, resolved.weights
        return resolved.notes

    @abstractmethod
    def read_data(self, process: Process) -> None:
        """Reads this process's data, from which `data` and `batches_per_epoch` follow.

        Raises:
            InputError: they are not there, or cannot be used.
        """

    @abstractmethod
    def make_model(self) -> tuple[nn.Module, list[str]]:
        """Builds the model and says what was loaded into it."""

    @abstractmethod
    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        """This process's batches number `start` … `stop` - 1 of the run."""

    def before_step(self, model: nn.Module, iteration: int) -> None:  # noqa: B027  most need none
        """Readies the model for the step after `iteration` others, by that number alone."""

    @abstractmethod
    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        """Measures the model as it is now; all processes take part."""

    @abstractmethod
    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        """Writes the model file, with other weights than the model's own if given."""

    @abstractmethod
    def names_of(self, image_ids: Iterable[int]) -> list[str]:
        """The training images with these ids."""

    def new_notes(self) -> list[str]:
        """Says what the data showed since it was last asked, on all processes after one step.

        Raises:
            InputError: on all processes: the run cannot go on with such data.
        """
        return []

    def state(self) -> dict[str, Any]:
        """What a resumed run must know of the data beyond its position."""
        return {}

    def restore(self, state: dict[str, Any]) -> None:
        """Puts `state` back."""
        assert not state, "a task that keeps a state puts it back, too"


@dataclass(frozen=True)
class TrainingSchedule:
    """When what happens.

    Args:
        per_epoch: steps that go once over the training images.
        total: steps of the run.
        evaluations: the steps after which the model is evaluated, the last among them.
        lr: the learning rate's course.
    """

    per_epoch: int
    total: int
    evaluations: frozenset[int]
    lr: Schedule


def training_schedule(config: RunConfig, batches_per_epoch: int) -> TrainingSchedule:
    """Turns epochs and fractions into steps.

    Args:
        batches_per_epoch: of one process, `accumulate` of which make a step.
    """
    per_epoch = max(1, batches_per_epoch // config.accumulate)
    length = config.length
    product = length.get("epochs", 0) * per_epoch * (1 - 1e-12)  # 0.07 × 100 is a bit more than 7
    total = int(length.get("iterations", 0)) or math.ceil(product)
    every = max(1, round(config.evaluate_every * per_epoch))
    steps = {round(step * total) if step < 1 else int(step) for step in config.steps}
    lr = Schedule(
        total,
        kind=config.schedule,
        steps=tuple(sorted(steps)) if config.schedule == "step" else (),
        warmup_iterations=config.warmup_iterations,
        warmup=config.warmup,
        warmup_factor=config.warmup_factor,
    )
    evaluations = frozenset({*range(every, total + 1, every), total})
    return TrainingSchedule(per_epoch, total, evaluations, lr)


def unreached(config: RunConfig, schedule: TrainingSchedule) -> list[str]:
    """Says which parts of the learning rate's course a run of this length has not."""
    total, found = schedule.total, []
    if config.warmup != "none" and config.warmup_iterations >= total:
        found.append(
            f"warning: warmup_iterations {config.warmup_iterations} lasts to the end of "
            f"{total} iterations: the rate never reaches lr"
        )
    late = [f"{step:g}" for step in config.steps if step >= max(1, total)]
    if late and config.schedule == "step":
        found.append(f"warning: steps {', '.join(late)} are not reached in {total} iterations")
    if config.schedule != "step" and config.steps not in ([], type(config)().steps):
        found.append(f"warning: steps have no meaning under schedule {config.schedule}")
    return found


def learning_rate(config: RunConfig) -> tuple[float, str]:
    """The base learning rate of the run, in proportion to its batch, and a line that says so.

    Paper: Goyal et al. 2017, arXiv:1706.02677, Section 2.1.
    """
    if not config.lr_batch or config.lr_batch == config.batch_size:
        return config.lr, f"learning rate {config.lr:g}"
    lr = config.lr * config.batch_size / config.lr_batch
    origin = f"{config.lr:g} for {config.lr_batch} images, scaled to {config.batch_size}"
    return lr, f"learning rate {lr:g}: {origin}"
