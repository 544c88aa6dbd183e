"""Where the host waits for the device: each wait is counted, and named by the code it is in."""

import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
import torchvision
from torch import Tensor

aten = torch.ops.aten
_ITEM, _COPY_OUT, _COPY_IN, _MASK = "item", "copy to the host", "copy from the host", "mask index"
# What has as many results as the numbers say: the host must know how many.
_SIZES = {
    aten.nonzero: "nonzero",
    aten.masked_select: "masked_select",
    aten._unique2: "unique",
    aten.unique_dim: "unique",
    aten.unique_consecutive: "unique",
    aten.bincount: "bincount",
    aten.equal: "equal",
    torch.ops.torchvision.nms: "nms",
}
_INDEXING = {aten.index, aten.index_put, aten.index_put_, aten._index_put_impl_}
_MASKS = {torch.bool, torch.uint8}

Place = tuple[str, str]  # whose code, and "file:function"
_ELSEWHERE = "torch", "elsewhere"  # in a backward pass, which has no Python around it, say
_counters: list[Counter[tuple[str, str, str]]] = []
_masks: dict[int, Place] = {}  # by address: its use in the backward pass is the same place's


@contextmanager
def counted() -> Iterator[Counter[tuple[str, str, str]]]:
    """Counts the waits of what is inside: (whose, "file:function", what)."""
    counter: Counter[tuple[str, str, str]] = Counter()
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters.remove(counter)
        _masks.clear()


@contextmanager
def waiting_for_nothing(device: torch.device) -> Iterator[None]:
    """Fails where the host waits for the device in what is inside; on CUDA torch itself tells."""
    if device.type == "cuda":
        torch.cuda.set_sync_debug_mode("error")
        try:
            yield
        finally:
            torch.cuda.set_sync_debug_mode("default")
        return
    with counted() as waits:
        yield
    assert not waits, "\n".join(f"{times} {' '.join(place)}" for place, times in waits.items())


def note_waits(func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Counts what an operator has the host wait for."""
    if _counters:
        for what, mask in _waits(func, args, kwargs):
            place = _place()
            if mask is not None:
                place = place or _masks.get(mask)
                _masks.setdefault(mask, place or _ELSEWHERE)
            for counter in _counters:
                counter[(*(place or _ELSEWHERE), what)] += 1


def _waits(
    func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Iterator[tuple[str, int | None]]:
    packet = func.overloadpacket
    if packet is aten._local_scalar_dense:
        yield _ITEM, None
    elif packet in _SIZES:
        yield _SIZES[packet], None
    elif packet is aten.repeat_interleave and kwargs.get("output_size") is None:
        yield "repeat_interleave", None
    elif packet is aten._to_copy and kwargs.get("device") is not None:
        if torch.device(kwargs["device"]).type != args[0].device.type:
            yield from _copy(args[0], kwargs.get("non_blocking"))
    elif packet is aten.copy_ and args[0].device.type != args[1].device.type:
        yield from _copy(args[1], args[2] if len(args) > 2 else kwargs.get("non_blocking"))
    elif packet in _INDEXING:
        yield from _indices(packet, args)


def _copy(source: Tensor, non_blocking: bool | None) -> Iterator[tuple[str, None]]:
    if not non_blocking:
        yield (_COPY_IN if source.device.type == "cpu" else _COPY_OUT), None


def _indices(packet: Any, args: tuple[Any, ...]) -> Iterator[tuple[str, int | None]]:
    indices = [index for index in args[1] if index is not None]
    masks = [index for index in indices if index.dtype in _MASKS]
    if packet is not aten.index and len(indices) == len(masks) == 1:
        value, accumulate = args[2], len(args) > 3 and args[3]
        if value.numel() == 1 and value.device.type == "cpu" and not accumulate:
            return  # filled in where the mask is, without asking how often
    for index in indices:
        if index.device.type == "cpu" and args[0].device.type != "cpu":
            yield _COPY_IN, None
        if index.dtype in _MASKS:
            yield _MASK, getattr(index, "host", index).data_ptr()


def _place() -> Place | None:
    """The innermost function of ours or torchvision's that is being run in this thread."""
    frame = sys._getframe(3)
    while frame is not None:
        for owner, folder in _FOLDERS.items():
            name = frame.f_code.co_filename
            if name.startswith(folder):
                return owner, f"{name.removeprefix(folder)}:{frame.f_code.co_qualname}"
        frame = frame.f_back  # type: ignore[assignment]
    return None


def _folder_of(package: str) -> str:
    import importlib

    file = importlib.import_module(package).__file__
    assert file is not None
    return file.removesuffix("__init__.py")


_FOLDERS = {"detnet": _folder_of("detnet"), "torchvision": _folder_of(torchvision.__name__)}
