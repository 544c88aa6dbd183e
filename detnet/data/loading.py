"""What all loaders share: samples by key, one pool of workers over all epochs, one-line errors."""

import multiprocessing
import warnings
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import torch
from torch.utils.data import DataLoader, Dataset

from detnet.data.batches import Key
from detnet.errors import InputError
from detnet.plugins import load_plugins, loaded_plugins


class KeyedBatches(Protocol):
    """Deals images out: the keys (epoch, index, occurrence) of each batch of an epoch."""

    def __len__(self) -> int: ...

    def keys(self, epoch: int) -> Sequence[list[Key]]: ...


class KeySampler:
    """The keys of iterations `start` … `stop` - 1, worked out epoch by epoch."""

    def __init__(self, batches: KeyedBatches, start: int, stop: int) -> None:
        self.batches, self.start, self.stop = batches, start, stop

    def __len__(self) -> int:
        return max(0, self.stop - self.start)

    def __iter__(self) -> Iterator[list[Key]]:
        iteration = self.start
        while iteration < self.stop:
            epoch, first = divmod(iteration, len(self.batches))
            keys = self.batches.keys(epoch)[first : first + self.stop - iteration]
            yield from keys
            iteration += len(keys)


class _Loader(DataLoader[Any]):
    """Keeps to itself that Python 3.12 and later warn of any fork where threads are running."""

    def __iter__(self) -> Any:
        with warnings.catch_warnings():
            message = "(?s).*multi-threaded, use of fork"
            warnings.filterwarnings("ignore", message, DeprecationWarning)
            return super().__iter__()


def make_loader(
    dataset: Dataset[Any],
    sampler: Any,
    *,
    workers: int,
    pin_memory: bool,
    collate: Callable[[list[Any]], Any],
) -> DataLoader[Any]:
    """Loads the batches whose keys the sampler gives, in its order, whatever the workers."""
    # Forked workers share the annotations' memory, others would each get a copy.
    can_fork = "fork" in multiprocessing.get_all_start_methods()
    return _Loader(
        dataset,
        batch_sampler=sampler,
        num_workers=workers,
        collate_fn=collate,
        pin_memory=pin_memory,
        # Without a generator of its own the loader would draw from the global one, which
        # the detectors' samplers use: a resumed run would then differ.
        generator=torch.Generator(),
        multiprocessing_context="fork" if workers and can_fork else None,
        worker_init_fn=partial(_start_worker, plugins=loaded_plugins()),
    )


def _start_worker(worker: int, *, plugins: Sequence[str]) -> None:
    torch.set_num_threads(1)
    load_plugins(plugins)  # a process that was not forked knows none yet


class WorkerInputError(InputError):
    """An InputError that is still one line after torch has wrapped it in a worker's traceback."""

    def __init__(self, text: str) -> None:
        last = text.rstrip().rsplit("\n", 1)[-1]
        super().__init__(last.split("WorkerInputError: ", 1)[-1])
