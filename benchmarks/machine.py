"""What this machine is and can do, and what share of that some work reaches."""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from detnet.engine.machine import choose_precision
from detnet.engine.processor import bf16_instructions

_LONG_ENOUGH_S = 0.05
_LARGEST = 4096


@dataclass(frozen=True)
class Work:
    """What one run of ours computes.

    Args:
        macs: multiply-adds of convolutions and matrix products. Norms, activations, pooling,
            suppression and the optimizer take their time and count nothing.
        dtype: what they are computed in, as `own_precision` gives it.
    """

    macs: int
    dtype: torch.dtype | None


def own_precision() -> torch.dtype | None:
    """The type in which the program runs networks on this machine's processor; None is fp32."""
    return choose_precision("auto", torch.device("cpu"))


def precision_name(dtype: torch.dtype | None) -> str:
    """ "bf16" or "fp32"."""
    return "bf16" if dtype is torch.bfloat16 else "fp32"


def instructions() -> str:
    """The vector instructions that torch uses here, and those for bf16 that the processor has."""
    bf16 = bf16_instructions()
    text = torch.backends.cpu.get_cpu_capability()
    text += f" with {' and '.join(bf16)}" if bf16 else " without bf16"
    held = os.environ.get("ONEDNN_MAX_CPU_ISA")
    return text + (f", oneDNN held to {held}" if held else "")


def count_training(step: Callable[[], Any]) -> int:
    """Counts the multiply-adds of a step's forward and backward pass while it runs.

    Torch's own counter, halved, as `detnet info` counts a forward pass. A layer's backward costs
    its forward once for the gradient of its input and once for that of its weights, so a step is
    about three times its forward; frozen layers before all others have neither.
    """
    with FlopCounterMode(display=False) as counter:
        step()
    return counter.get_total_flops() // 2


def gflops(macs: int, took_s: float) -> float:
    """Pace in billions of operations a second, of which a multiply-add is two."""
    return 2 * macs / took_s / 1e9


def seconds(run: Callable[[], Any]) -> tuple[float, Any]:
    """How long it takes, and what it returns."""
    start = time.perf_counter()
    result = run()
    return time.perf_counter() - start, result


class MatrixProduct:
    """A product of two square matrices, large enough that the clock can tell.

    Args:
        dtype: None is fp32.
    """

    def __init__(self, dtype: torch.dtype | None) -> None:
        size, self._dtype = 256, dtype or torch.float32
        self._draw(size)
        while seconds(self)[0] < _LONG_ENOUGH_S and size < _LARGEST:
            size *= 2
            self._draw(size)
            self()

    def _draw(self, size: int) -> None:
        generator = torch.Generator().manual_seed(0)
        self.macs = size**3
        self._factors = [
            torch.randn(size, size, generator=generator).to(self._dtype) for _ in range(2)
        ]

    def __call__(self) -> torch.Tensor:
        return self._factors[0] @ self._factors[1]


def share(work: Work, took_s: float, product_gflops: float) -> dict[str, Any]:
    """Facts about the pace of some work: its type, multiply-adds, and share of the product's pace.

    The share can pass 1: torch multiplies matrices and convolves by different libraries.
    """
    pace = gflops(work.macs, took_s)
    return {
        "precision": precision_name(work.dtype),
        "macs": work.macs,
        "gflops": round(pace, 1),
        "product_gflops": round(product_gflops, 1),
        "share": round(pace / product_gflops, 3),
    }
