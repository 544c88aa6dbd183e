"""What is asked of the processor and its libraries: bfloat16, freed memory, gradients in order."""

import ctypes
import platform
from functools import cache
from pathlib import Path
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

_CPU_FLAGS = {"amx_bf16", "avx512_bf16", "bf16"}  # the last is ARM's name
_M_TRIM_THRESHOLD, _M_MMAP_MAX = -1, -4  # of glibc's malloc.h


def bf16_instructions() -> list[str]:
    """The first processor's sets of instructions for bfloat16, by the system's names."""
    return sorted(_CPU_FLAGS & _cpu_flags(Path("/proc/cpuinfo")))


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

    By default glibc maps each buffer of some megabytes by itself and unmaps it when it is freed, so
    that each layer pays for the system's zeroing of fresh pages: a third of a training step of a
    narrow detector on two cores. The process then holds on to the most memory it ever needed.

    Returns:
        whether it took effect; False where the C library is not glibc.
    """
    if platform.libc_ver()[0] != "glibc":
        return False
    library = ctypes.CDLL(None)
    return bool(library.mallopt(_M_MMAP_MAX, 0)) and bool(library.mallopt(_M_TRIM_THRESHOLD, 2**30))


def widen_single_columns(model: nn.Module) -> None:
    """Gives maps a cell wide a second column of zeros before a convolution that halves them.

    What comes out is the same, for the kernel sees zeros there anyway. In bfloat16 oneDNN leaves
    those weights' gradients that see nothing but padding as the memory was: SSD's and RetinaNet's
    coarsest levels of small images would be trained by whatever lay there.
    """
    for module in model.modules():
        if not isinstance(module, nn.Conv2d) or module.stride[1] != 2:
            continue
        size, padding = module.kernel_size[1], module.padding[1]
        if size > 1 and padding == (size - 1) / 2 and module.dilation[1] == 1:
            module.register_forward_pre_hook(_widened)


def _widened(module: nn.Module, given: tuple[Any, ...]) -> tuple[Tensor] | None:
    image: Tensor = given[0]
    return (F.pad(image, (0, 1)),) if module.training and image.shape[-1] == 1 else None
