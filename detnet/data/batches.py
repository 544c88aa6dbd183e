"""Which images make which batch, and the pool of workers that makes them.

The order is a pure function of seed and epoch, the same on every rank.
"""

import math
import multiprocessing
import warnings
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any, Protocol

import numpy as np
import torch
from torch.utils.data import DataLoader, Dataset

from detnet.coco.annotations import Annotations
from detnet.errors import InputError
from detnet.plugins import load_plugins, loaded_plugins

Key = tuple[int, int, int]


class TrainBatches:
    """Deals the images out in batches, newly shuffled each epoch, the same number to each rank.

    All batches are full. What does not fill the last batch of every rank is left out of the
    epoch, other images each time; images are repeated where the data set is smaller than one batch
    for every rank.

    Args:
        annotations: the training split.
        batch_size: images per batch and rank.
        seed: of the order.
        aspect_grouping: put wide images with wide ones and tall with tall, which saves padding;
            at most one batch per rank and epoch is mixed.
        repeat_threshold: classes on a smaller fraction of the images than this are shown more
            often, those on fraction f by sqrt(repeat_threshold / f); 0 shows every image once.
        rank: which process this is, of `world_size`.

    Raises:
        ValueError: there is no image, or a number is out of range.

    Paper: repeat factors from Gupta et al. 2019, arXiv:1908.03195, Section 5.1.
    Departs from the paper: fractions of repeats are rounded at random but evenly, so that every
    epoch has the same number of batches.
    """

    def __init__(
        self,
        annotations: Annotations,
        *,
        batch_size: int,
        seed: int = 0,
        aspect_grouping: bool = True,
        repeat_threshold: float = 0.0,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if len(annotations) == 0:
            raise ValueError(f"{annotations.path}: no images to make batches of")
        if batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"batch_size={batch_size}, rank={rank}, world_size={world_size}")
        self.batch_size, self.seed, self.rank, self.world_size = batch_size, seed, rank, world_size
        sizes = annotations.sizes
        self._tall = (sizes[:, 1] > sizes[:, 0]) & aspect_grouping
        self._factors = repeat_factors(annotations, threshold=repeat_threshold)
        self._group = batch_size * world_size
        self._shown = math.ceil(float(self._factors.sum()) - 1e-6)
        self._groups = max(1, self._shown // self._group)

    def __len__(self) -> int:
        """Batches per epoch on this rank, the same for every epoch and rank."""
        return self._groups

    def batches(self, epoch: int) -> list[list[int]]:
        """The image indices of this rank's batches in an epoch, in order."""
        return [[index for _, index, _ in batch] for batch in self.keys(epoch)]

    def keys(self, epoch: int) -> list[list[Key]]:
        """This rank's batches as (epoch, index, how often the epoch has had that image before)."""
        # The tag keeps the order's stream apart from the images' augmentation streams.
        entropy = np.random.SeedSequence((self.seed, epoch), spawn_key=(1,))
        generator = np.random.default_rng(entropy)
        order = self._order(generator)
        occurrences = _occurrences(order)
        groups = self._grouped(order, generator)
        mine = groups[:, self.rank * self.batch_size : (self.rank + 1) * self.batch_size]
        return [
            [(epoch, index, times) for index, times in zip(indices, counts, strict=True)]
            for indices, counts in zip(
                order[mine].tolist(), occurrences[mine].tolist(), strict=True
            )
        ]

    def _order(self, generator: np.random.Generator) -> np.ndarray:
        """The images of one epoch, repeats included, shuffled and cut or filled to full groups."""
        images = generator.permutation(len(self._factors))
        # Rounding the running sum shows each image its factor times on average, at least
        # once, and keeps the total.
        ends = np.cumsum(self._factors[images])
        ends = np.floor(ends * (self._shown / ends[-1]) + generator.random())
        shown = np.repeat(images, np.diff(ends, prepend=0).astype(np.int64))
        order = generator.permutation(shown)
        return np.resize(order, self._groups * self._group)

    def _grouped(self, order: np.ndarray, generator: np.random.Generator) -> np.ndarray:
        """Places in `order`, one row for each step of all ranks together."""
        tall = self._tall[order]
        parts, rest = [], []
        for places in (np.flatnonzero(~tall), np.flatnonzero(tall)):
            full = len(places) // self._group * self._group
            parts.append(places[:full])
            rest.append(places[full:])
        groups = np.concatenate(parts + rest).reshape(-1, self._group)
        return groups[generator.permutation(len(groups))]


def repeat_factors(annotations: Annotations, *, threshold: float) -> np.ndarray:
    """Says how often each image should be shown per epoch so that rare classes are seen.

    Returns:
        (I,) float64, 1 or more; the largest that any class on the image asks for.
    """
    factors = np.ones(len(annotations))
    if threshold <= 0:
        return factors
    counts = np.diff(annotations.offsets)
    image_of = np.repeat(np.arange(len(annotations)), counts)[~annotations.crowd]
    labels = annotations.labels[~annotations.crowd].astype(np.int64)
    pairs = np.unique(np.stack([image_of, labels]), axis=1)  # a class counts once per image
    fractions = np.bincount(pairs[1], minlength=len(annotations.categories) + 1) / len(annotations)
    wanted = np.sqrt(threshold / fractions[pairs[1]])
    np.maximum.at(factors, pairs[0], wanted)
    return factors


def _occurrences(order: np.ndarray) -> np.ndarray:
    """How often each entry's value came before it."""
    by_value = np.argsort(order, kind="stable")
    ordered = order[by_value]
    first = np.searchsorted(ordered, ordered, side="left")
    occurrences = np.empty(len(order), dtype=np.int64)
    occurrences[by_value] = np.arange(len(order)) - first
    return occurrences


class KeyedBatches(Protocol):
    """Deals images out: the keys (epoch, index, occurrence) of each batch of an epoch."""

    def __len__(self) -> int: ...

    def keys(self, epoch: int) -> Sequence[list[Key]]: ...


class KeyedDataset(Dataset[Any]):
    """Samples by their keys, each of which depends on its key alone."""

    def __len__(self) -> int:
        raise NotImplementedError

    @staticmethod
    def collate(samples: list[Any]) -> Any:
        """Makes a batch of samples."""
        raise NotImplementedError


def stream(
    dataset: KeyedDataset,
    batches: KeyedBatches,
    *,
    start: int,
    stop: int,
    workers: int = 0,
    pin_memory: bool = False,
) -> Iterator[Any]:
    """Yields the batches number `start` … `stop` - 1 over all epochs.

    One pool of workers serves them all, so no epoch waits for workers to start. Batch i is the
    same bits whether the stream began at 0 or at i.

    Args:
        start: the first, counted from 0 at the beginning of training.
        stop: how many the whole training has, not how many are left.
    """
    yield from _Loader(
        dataset, _KeySampler(batches, start, stop), workers=workers, pin_memory=pin_memory
    )


def eval_loader(
    dataset: KeyedDataset,
    *,
    batch_size: int = 1,
    workers: int = 0,
    rank: int = 0,
    world_size: int = 1,
    pin_memory: bool = False,
) -> DataLoader[Any]:
    """Loads every image once, in order; of several processes each gets every world_size-th."""
    keys = [(0, index, 0) for index in range(rank, len(dataset), world_size)]
    dealt = [keys[first : first + batch_size] for first in range(0, len(keys), batch_size)]
    return _Loader(dataset, dealt, workers=workers, pin_memory=pin_memory)


class _KeySampler:
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
    """Loads the batches whose keys the sampler gives, in its order, whatever the workers."""

    def __init__(
        self, dataset: KeyedDataset, sampler: Any, *, workers: int, pin_memory: bool
    ) -> None:
        # Forked workers share the annotations' memory, others would each get a copy.
        can_fork = "fork" in multiprocessing.get_all_start_methods()
        super().__init__(
            dataset,
            batch_sampler=sampler,
            num_workers=workers,
            collate_fn=dataset.collate,
            pin_memory=pin_memory,
            # Without a generator of its own the loader would draw from the global one, which
            # the detectors' samplers use: a resumed run would then differ.
            generator=torch.Generator(),
            multiprocessing_context="fork" if workers and can_fork else None,
            worker_init_fn=partial(_start_worker, plugins=loaded_plugins()),
        )

    def __iter__(self) -> Any:
        with warnings.catch_warnings():  # Python 3.12 and later warn of any fork beside threads
            message = "(?s).*multi-threaded, use of fork"
            warnings.filterwarnings("ignore", message, DeprecationWarning)
            return super().__iter__()


def _start_worker(worker: int, *, plugins: Sequence[str]) -> None:
    torch.set_num_threads(1)
    load_plugins(plugins)  # a process that was not forked knows none yet


class WorkerInputError(InputError):
    """An InputError that is one line even after torch has wrapped it in a worker's traceback."""

    def __init__(self, text: str) -> None:
        last = text.rstrip().rsplit("\n", 1)[-1]
        super().__init__(last.split("WorkerInputError: ", 1)[-1])
