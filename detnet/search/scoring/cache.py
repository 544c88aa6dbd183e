"""Images that every candidate is measured on, kept in memory as far as it reaches."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

from torch import Tensor

Sample = tuple[Tensor, dict[str, Any]]

_AHEAD = 2  # batches that are read while the network works


class CachedImages:
    """Reads samples and keeps as many as fit; all others are read again each time.

    Candidates go through the same images in the same order, so the first that fit are kept for
    good: giving up the oldest for the newest would find none of them again.

    Args:
        read: makes the sample of an index, the same each time.
        limit: bytes of the samples that are kept.
        threads: that read ahead; 0 reads when a batch is asked for.
    """

    def __init__(self, read: Callable[[int], Sample], *, limit: int, threads: int = 0) -> None:
        self._read, self.limit, self._threads = read, limit, threads
        self._kept: dict[int, Sample] = {}
        self.nbytes = 0

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
        size = _nbytes(sample)
        if index not in self._kept and self.nbytes + size <= self.limit:
            self._kept[index] = sample
            self.nbytes += size
        return sample


def _nbytes(sample: Sample) -> int:
    image, target = sample
    return image.nbytes + sum(value.nbytes for value in target.values() if hasattr(value, "nbytes"))
