"""What torchrun says of this process in its environment; needs no torch."""

import os

_MOST = 8  # feed any one GPU: they decode, crop and scale some thousand ImageNet pictures a second


def is_main() -> bool:
    """Whether this is the first process, which alone writes files and talks to the user."""
    return os.environ.get("RANK", "0") == "0"


def world_size() -> int:
    """How many processes torchrun started, 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def image_readers(processes: int | None = None) -> int:
    """The processes that read images for each training process: its share of the cores, 1 to 8.

    Args:
        processes: that train on this machine; by default as many as torchrun says it started here.
    """
    asks = getattr(os, "sched_getaffinity", None)  # what a container or `taskset` leaves of them
    cores = len(asks(0)) if asks else os.cpu_count() or 1
    if processes is None:
        processes = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    return max(1, min(_MOST, cores // max(1, processes)))
