"""Images that every candidate is measured on, kept in memory as far as it reaches."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from torch import Tensor

Sample = tuple[Tensor, dict[str, Any]]

_AHEAD = 2  # batches that are read while the network works
_SHARE = 0.5  # of the memory that is free, where nobody says how much
_OBJECTS = 4096  # bytes of a sample's Python objects, beside what its tensors hold
# Of a container's memory: what it may take, what it takes, and by which name its statistics tell
# what of that is cached files. As in version 2 of the kernel's control groups, and before.
_CONTAINERS = (
    ("memory.max", "memory.current", "memory.stat", "inactive_file"),
    (
        "memory/memory.limit_in_bytes",
        "memory/memory.usage_in_bytes",
        "memory/memory.stat",
        "total_inactive_file",
    ),
)


class ImageMemory:
    """The memory that kept images may take together, and how often one was found there.

    Args:
        limit: bytes; by default half of what is free now, shared among the processes that torchrun
            has started on this machine.
    """

    def __init__(self, limit: float | None = None) -> None:
        sharing = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
        self.limit = int(_SHARE * free_memory() / sharing if limit is None else limit)
        self.nbytes = self.images = 0
        self._asked = self._found = 0

    def take(self, nbytes: int) -> bool:
        """Whether so many bytes more fit; then they are taken."""
        fits = self.nbytes + nbytes <= self.limit
        if fits:
            self.nbytes += nbytes
            self.images += 1
        return fits

    def count(self, found: bool) -> None:
        """Counts an image that was asked for."""
        self._asked += 1
        self._found += found

    def hit_rate(self) -> float | None:
        """The share of images that were found, of those asked for since this was last asked."""
        rate = self._found / self._asked if self._asked else None
        self._asked = self._found = 0
        return rate


class CachedImages:
    """Reads samples and keeps as many as fit; all others are read again each time.

    Candidates go through the same images in the same order, so the first that fit are kept for
    good: giving up the oldest for the newest would find none of them again.

    Args:
        read: makes the sample of an index, the same each time.
        memory: which kept samples take; other images may share it.
        threads: that read ahead; 0 reads when a batch is asked for.
    """

    def __init__(
        self, read: Callable[[int], Sample], memory: ImageMemory, *, threads: int = 0
    ) -> None:
        self._read, self._memory, self._threads = read, memory, threads
        self._kept: dict[int, Sample] = {}

    def __len__(self) -> int:
        """Samples that are kept."""
        return len(self._kept)

    def batches(self, indices: Iterable[Sequence[int]]) -> Iterator[list[Sample]]:
        """Yields the samples of each row of indices, in order."""
        if not self._threads:
            for row in indices:
                yield [self._keep(index, self._get(index)) for index in row]
            return
        with ThreadPoolExecutor(self._threads) as pool:
            waiting: deque[list[tuple[int, Future[Sample]]]] = deque()
            for row in indices:
                waiting.append([(index, pool.submit(self._get, index)) for index in row])
                if len(waiting) > _AHEAD:
                    yield [self._keep(index, job.result()) for index, job in waiting.popleft()]
            for jobs in waiting:
                yield [self._keep(index, job.result()) for index, job in jobs]

    def _get(self, index: int) -> Sample:
        kept = self._kept.get(index)
        return self._read(index) if kept is None else kept

    def _keep(self, index: int, sample: Sample) -> Sample:
        self._memory.count(index in self._kept)
        if index not in self._kept and self._memory.take(_nbytes(sample)):
            self._kept[index] = sample
        return sample


def free_memory(system: Path = Path("/")) -> int:
    """Bytes that this machine has free for this process, or the container that it runs in.

    Args:
        system: where its /proc and /sys lie.
    """
    free = []
    for line in _lines(system / "proc/meminfo"):
        if line.startswith("MemAvailable:"):
            free.append(1024 * int(line.split()[1]))
    groups = system / "sys/fs/cgroup"
    for limit, used, statistics, cached in _CONTAINERS:
        numbers = [word for name in (limit, used) for word in _lines(groups / name)[:1]]
        if len(numbers) == 2 and all(map(str.isdigit, numbers)):  # "max" is no limit
            files = dict(line.split(" ", 1) for line in _lines(groups / statistics) if " " in line)
            free.append(int(numbers[0]) - int(numbers[1]) + int(files.get(cached, 0)))
    if not free:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return max(0, min(free))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(encoding="utf-8").split("\n")
    except OSError:
        return []


def _nbytes(sample: Sample) -> int:
    image, target = sample
    tensors = (value.nbytes for value in target.values() if hasattr(value, "nbytes"))
    return _OBJECTS + image.nbytes + sum(tensors)
