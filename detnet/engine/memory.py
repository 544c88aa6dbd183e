"""Says that memory is short in one line: what was asked for, what there is, and what takes less."""

import os
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Union

from detnet.errors import InputError

if TYPE_CHECKING:
    import torch  # exports run without it

Device = Union["torch.device", str]

_UNITS = {"bytes": 1, "KiB": 2**10, "MiB": 2**20, "GiB": 2**30, "TiB": 2**40, "PiB": 2**50}
_SIZE = rf"([\d.]+) ({'|'.join(_UNITS)})"
_ASKED = re.compile(
    rf"(?:[Tt]ried to allocate|Unable to allocate|buffer of size) {_SIZE.replace(' ', ' ?')}?"
)
_TOTAL = re.compile(rf"total capacity of {_SIZE}")
_FREE = re.compile(rf"of which {_SIZE} is free")
# How libraries say it that have no exception of their own for it.
_WORDS = (
    *("DefaultCPUAllocator: can't allocate", "_STATUS_ALLOC_FAILED", "out of memory"),
    *("Failed to allocate memory", "bad_alloc"),
)


class OutOfMemory(InputError):
    """A device has too little memory for what it was given; the message says how much."""


@contextmanager
def explaining_out_of_memory(device: Device, remedy: Callable[[], str]) -> Iterator[None]:
    """Turns the errors by which libraries and runtimes say that memory is short into one line.

    Args:
        device: that computes, for the message.
        remedy: says what takes less, when it is asked.

    Raises:
        OutOfMemory: there was too little.
    """
    try:
        yield
    except Exception as error:
        if not is_out_of_memory(error):
            raise
        # The memory of what was computed hangs on the error's frames.
        text = out_of_memory_line(error, remedy(), device)
    else:
        return
    raise OutOfMemory(text)


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error says that memory is short, and is not yet the line that tells it."""
    if isinstance(error, OutOfMemory):
        return False
    return isinstance(error, MemoryError) or any(word in str(error) for word in _WORDS)


def out_of_memory_line(error: BaseException, remedy: str, device: Device | None = None) -> str:
    """Says in a line what such an error lacks, and what takes less.

    Args:
        device: that computed; None where the error alone may tell.
    """
    device = device or ("cuda" if "CUDA" in str(error) else "cpu")
    return f"{device}: out of memory: {_figures(str(error), device)}; {remedy}"


def _figures(text: str, device: Device) -> str:
    asked, free, total = (_bytes(pattern.search(text)) for pattern in (_ASKED, _FREE, _TOTAL))
    if total is None:
        free, total = _memory(device)
    found = "the request is not told" if asked is None else f"{_size(asked)} more were asked for"
    if total is not None:
        found += f", {_size(free or 0)} of {_size(total)} are free"
    return found


def _memory(device: Device) -> tuple[int | None, int | None]:
    """Bytes that are free and that there are; None where nobody tells."""
    kind = str(device).partition(":")[0]
    if kind == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)
    if kind != "cpu" or not hasattr(os, "sysconf"):
        return None, None
    page = os.sysconf("SC_PAGE_SIZE")
    return page * os.sysconf("SC_AVPHYS_PAGES"), page * os.sysconf("SC_PHYS_PAGES")


def _bytes(found: re.Match[str] | None) -> int | None:
    return round(float(found[1]) * _UNITS[found[2] or "bytes"]) if found else None


def _size(number: int) -> str:
    return f"{number / 2**30:.2f} GiB" if number >= 2**28 else f"{number / 2**20:.0f} MiB"
