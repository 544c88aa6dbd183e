"""What is asked of this machine: bfloat16 where it pays, and to keep the memory that is freed."""

import ctypes
import os
import platform
from contextlib import AbstractContextManager, nullcontext
from functools import cache
from pathlib import Path

import torch

from detnet.errors import InputError

_CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # the last is ARM's name
_SETTING = "DETNET_BF16"
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h
_WISHES = ("auto", "always", "never")


def fast_bf16(device: torch.device | str) -> bool:
    """Tells whether the device multiplies matrices in bfloat16 by instructions of its own.

    Without them a CPU converts to float32 and back, which is slower than float32 alone. The
    environment variable `DETNET_BF16` overrules what a CPU or GPU says of itself: "always", or
    "never" to run as a machine without would; "auto" is the default.

    Raises:
        InputError: `DETNET_BF16` is something else.
    """
    kind = torch.device(device).type
    if kind not in ("cpu", "cuda"):
        return False
    wish = os.environ.get(_SETTING) or "auto"
    if wish not in _WISHES:
        raise InputError(f"{_SETTING} must be one of {', '.join(_WISHES)}, got {wish!r}")
    if wish != "auto":
        return wish == "always"
    if kind == "cuda":
        return torch.cuda.is_available() and torch.cuda.is_bf16_supported(including_emulation=False)
    return bool(bf16_instructions())


def bf16_instructions() -> list[str]:
    """The first processor's sets of instructions for bfloat16, by the system's names."""
    return sorted(_CPU_FLAGS & _cpu_flags(Path("/proc/cpuinfo")))


def is_accelerator(device: torch.device) -> bool:
    """Tells whether the device works behind the host, which waits for it when it asks a result."""
    return device.type not in ("cpu", "meta")


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """What a forward pass computes in: bf16, or None for fp32.

    Args:
        name: fp32, bf16, or auto for bf16 where the device is fast at it.
    """
    if name == "auto":
        return torch.bfloat16 if fast_bf16(device) else None
    return torch.bfloat16 if name == "bf16" else None


def autocast_to(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Computes what is inside in `dtype`, as `choose_precision` gives it."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)


@cache
def _cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """What the first processor can do; empty where the system does not say."""
    if not cpuinfo.is_file():
        return frozenset()
    for line in cpuinfo.read_text(errors="replace").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


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
