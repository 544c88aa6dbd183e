"""Keeps the C library from giving freed memory back to the system after every layer."""

import ctypes
import platform

_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def keep_freed_memory() -> bool:
    """Lets this process reuse the large buffers it frees, instead of returning them to the system.

    By default glibc maps every buffer of some megabytes anew and unmaps it when it is freed, so
    that each layer pays for the system's zeroing of fresh pages: a third of a training step of a
    narrow detector on two cores. The process then holds on to the most memory it ever needed.

    Returns:
        whether it took effect; False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, 2**30))
