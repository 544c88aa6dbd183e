"""What is asked of this machine: its accelerator, and bfloat16 where that pays."""

import os
import shutil
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

import torch
from torch import nn

from detnet.engine.processor import bf16_instructions
from detnet.errors import InputError

_SETTING = "DETNET_BF16"
_COMPILERS = ("c++", "g++", "clang++")
_WISHES = ("auto", "always", "never")
PRECISIONS = {"fp32": None, "bf16": torch.bfloat16, "fp16": torch.float16}


def fast_bf16(device: torch.device | str) -> bool:
    """Tells whether the device multiplies matrices in bfloat16 by instructions of its own.

    Without them a CPU converts to float32 and back, which is slower than float32 alone. The
    environment variable `DETNET_BF16` overrules what a CPU or GPU says of itself: "always", or
    "never" to run as a machine without would; "auto" is the default.

    Raises:
        InputError: `DETNET_BF16` is something else.
    """
    device = torch.device(device)
    wish = os.environ.get(_SETTING) or "auto"
    if wish not in _WISHES:
        raise InputError(f"{_SETTING} must be one of {', '.join(_WISHES)}, got {wish!r}")
    if device.type == "meta" or wish != "auto":
        return device.type != "meta" and wish == "always"
    if is_accelerator(device):
        module = torch.get_device_module(device)
        return module.is_available() and module.is_bf16_supported(including_emulation=False)
    return bool(bf16_instructions())


def accelerator() -> torch.device | None:
    """The kind of device here that is preferred to the processor, without a number.

    It is CUDA, or what another package has brought along and registered with torch; the others
    that torch knows have never been tried.
    """
    found = torch.accelerator.current_accelerator(check_available=True)
    known = ("cuda", torch._C._get_privateuse1_backend_name())
    return found if found is not None and found.type in known else None


def is_accelerator(device: torch.device) -> bool:
    """Tells whether the device works behind the host, which waits for it when it asks a result."""
    return device.type not in ("cpu", "meta")


def wait_for(device: torch.device) -> None:
    """Waits until the device has done all that it was given, for clocks to be read."""
    if is_accelerator(device):
        torch.accelerator.synchronize(device)


@contextmanager
def drawing_from(seed: int, device: torch.device) -> Iterator[None]:
    """Lets torch draw from a stream of its own, and leaves that of before where it was."""
    several = is_accelerator(device)
    kind = device.type if several else "cuda"
    with torch.random.fork_rng(devices=[device] if several else [], device_type=kind):
        torch.manual_seed(seed)
        yield


def choose_precision(name: str, device: torch.device) -> torch.dtype | None:
    """What a forward pass computes in: bf16, fp16, or None for fp32.

    Args:
        name: fp32, bf16, fp16, or auto for bf16 where the device is fast at it, else fp32.

    Raises:
        InputError: the device has no instructions for it, and would only be slower.
    """
    if name == "auto":
        return torch.bfloat16 if fast_bf16(device) else None
    if name == "fp16" and not is_accelerator(device):
        raise InputError("precision fp16 is for GPUs; on a processor choose fp32, bf16 or auto")
    if name == "bf16" and is_accelerator(device) and not fast_bf16(device):
        raise InputError("precision bf16: this GPU has no instructions for it; choose fp16 or fp32")
    return PRECISIONS[name]


def configure_cuda(device: torch.device, *, tf32: bool = False, fixed_size: bool = False) -> None:
    """Settles how a CUDA device multiplies in fp32 and looks for its convolutions.

    Args:
        tf32: round factors to 10 bits, as torch does in convolutions unless it is told.
        fixed_size: all batches have one size, for which trying every algorithm pays.
    """
    if device.type == "cuda":
        products = "tf32" if tf32 else "ieee"
        torch.backends.cuda.matmul.fp32_precision = products
        torch.backends.cudnn.conv.fp32_precision = products  # type: ignore[attr-defined]
        torch.backends.cudnn.benchmark = fixed_size


def compile_network(network: nn.Module) -> None:
    """Has a network compiled when it is first called; its weights keep their names.

    Raises:
        InputError: there is no C++ compiler.
    """
    if not any(map(shutil.which, filter(None, (os.environ.get("CXX"), *_COMPILERS)))):
        raise InputError(f"compile needs a C++ compiler: none of {', '.join(_COMPILERS)} is here")
    network.compile()


def precision_name(dtype: torch.dtype | None) -> str:
    """The name of what `choose_precision` gives."""
    return next(name for name, known in PRECISIONS.items() if known is dtype)


def autocast_to(device: torch.device, dtype: torch.dtype | None) -> AbstractContextManager[object]:
    """Computes what is inside in `dtype`, as `choose_precision` gives it."""
    return nullcontext() if dtype is None else torch.autocast(device.type, dtype)
