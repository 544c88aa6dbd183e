"""What a kind of run says of itself, so that all of them share one engine."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.errors import InputError
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
class Source:
    """The data of a run, as the engine needs to know it.

    Args:
        path: where they come from, for messages.
        records: what tells which they are, "annotations".
        images: to train on.
        val_images: to evaluate on, 0 for no evaluation.
        fingerprint: by which a resumed run knows its data again.
        notes: one line for each thing a person should know.
    """

    path: Path
    records: str
    images: int
    val_images: int
    fingerprint: str
    notes: list[str] = field(default_factory=list)


class Task(ABC):
    """The data, the model and the evaluation of one kind of run, in one process.

    Making one reads the data and refuses what cannot be used.
    """

    config: RunConfig
    process: Process
    source: Source
    batches_per_epoch: int
    partial: bool = False  # whether a step uses a part of the model only, the same on all processes

    @abstractmethod
    def make_model(self, *, carry: bool) -> tuple[nn.Module, list[str]]:
        """Builds the model and says what it did; `carry` loads the weights it begins from.

        Afterwards `config` says all that those weights decided, so that no file need be asked when
        the run is resumed.
        """

    @abstractmethod
    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        """This process's batches number `start` … `stop` - 1 of the run."""

    def prepare(self, model: nn.Module, iteration: int) -> None:  # noqa: B027  most need nothing
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

    def look(self) -> list[str]:
        """Says what is new since the last look; all processes ask after the same step.

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


def batch_per_process(config: RunConfig, process: Process) -> int:
    """Images of one batch of one process.

    Raises:
        InputError: the batch cannot be divided.
    """
    parts = process.world_size * config.accumulate
    if config.batch_size % parts:
        raise InputError(
            f"batch_size {config.batch_size} cannot be divided by {process.world_size} processes × "
            f"{config.accumulate} accumulated batches"
        )
    return config.batch_size // parts


def require_metric(name: str, known: Iterable[str]) -> None:
    """Refuses a metric that no evaluation will have, before the first hours.

    Raises:
        InputError: naming those there are.
    """
    names = list(known)
    if name not in names:
        raise InputError(f"best_metric must be one of {', '.join(names)}, got {name!r}")
