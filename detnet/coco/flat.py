"""Many byte strings in two arrays, so that worker processes share them without copying."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class FlatBytes:
    """A list of byte strings without a Python object for each.

    Reading a Python object writes its reference count, which makes every worker copy the memory
    page it lies on; these arrays stay shared.

    Args:
        blob: uint8, the strings one after the other.
        offsets: (N + 1,) int64, where each begins; the last is the end.
    """

    blob: np.ndarray
    offsets: np.ndarray

    @classmethod
    def of(cls, items: Iterable[bytes]) -> "FlatBytes":
        items = list(items)
        offsets = np.zeros(len(items) + 1, dtype=np.int64)
        np.cumsum([len(item) for item in items], out=offsets[1:])
        return cls(np.frombuffer(b"".join(items), dtype=np.uint8), offsets)

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def __getitem__(self, index: int) -> bytes:
        if not 0 <= index < len(self):
            raise IndexError(f"index {index} is outside 0 … {len(self) - 1}")
        return self.blob[self.offsets[index] : self.offsets[index + 1]].tobytes()

    def __iter__(self) -> Iterator[bytes]:
        return (self[index] for index in range(len(self)))

    @property
    def nbytes(self) -> int:
        return self.blob.nbytes + self.offsets.nbytes
