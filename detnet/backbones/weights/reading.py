"""Reads any weights file to tensors by name, pickles of arrays too, and runs nothing in it."""

import math
import pickle
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detnet.backbones.model_file import TensorFile, read_file, require_finite
from detnet.errors import InputError
from detnet.text import first_line

# Where the tensors may stand in a checkpoint; Detectron's are in "blobs".
_BOXES = ("state_dict", "model", "model_state_dict", "state_dict_ema", "net", "blobs")
_DEEPEST = 16  # of them within one another; a pickle's may hold itself
_ZIP = b"PK"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")
_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")


def read_weights(path: Path) -> TensorFile:
    """Reads the tensors of a `.safetensors`, a file of `torch.save` or a pickle of arrays.

    The kind is told by the file's content, not by its name.

    Raises:
        InputError: it is none of these, it is cut, it holds no tensors, or it asks for anything
            but tensors; a value is NaN or infinite; or a header of ours that cannot be right.
    """
    found = _read(path)
    require_finite(path, found.tensors)
    return found


def _read(path: Path) -> TensorFile:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such weights file") from error
    except IsADirectoryError:
        model = path / "best.safetensors"
        raise InputError(f"{path}: is a folder; give the file in it, as {model}") from None
    if head[8:9] == b"{":
        return read_file(path)
    content = _read_torch(path) if head.startswith((_ZIP, _OLD_TORCH)) else read_arrays(path)
    tensors = _unbox(content)
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name")
    for name, value in tensors.items():
        # One number may be said to stand in many places, and would fill the memory when copied.
        if value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes():
            raise InputError(f"{path}: {name[:80]} is not stored as it is said to be")
    return TensorFile({}, tensors, sum(value.numel() for value in tensors.values()))


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden is None:
            reason = first_line(error)
            raise InputError(f"{path}: cannot be read as weights alone ({reason})") from error
        raise InputError(
            f"{path}: a pickle that asks for {forbidden[1]}, which could run code; save its state "
            "dict alone where you trust it"
        ) from error
    except Exception as error:  # cut archives fail in many ways
        reason = first_line(error)
        raise InputError(f"{path}: not a whole file of torch.save ({reason})") from error


def _unbox(content: Any) -> dict[str, Tensor]:
    """The tensors by name in a checkpoint, wherever they stand in it."""
    for _ in range(_DEEPEST):
        if not isinstance(content, Mapping):
            return {}
        boxes = [content[name] for name in _BOXES if isinstance(content.get(name), Mapping)]
        if not boxes:
            return {
                str(name): _tensor(value)
                for name, value in content.items()
                if isinstance(value, np.ndarray | Tensor)
            }
        content = boxes[0]
    return {}


def _tensor(value: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))  # a copy of its own


def read_arrays(path: Path) -> Any:
    """Reads a pickle that holds numpy arrays in dicts, lists, tuples, strings and numbers.

    Whatever else it asks for is refused, and numpy's own unpickling is not called either: arrays
    are rebuilt here from their type, shape and bytes. Pickles of Python 2 are understood.

    Raises:
        InputError: it names anything but arrays, or is cut.
    """
    with path.open("rb") as file:
        try:
            return _finish(_ArraysOnly(file, encoding="latin1").load())
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except Exception as error:  # a pickle can go wrong in any way whatever
            reason = str(error) or type(error).__name__
            raise InputError(f"{path}: no whole pickle of arrays ({reason})") from error


class _Type:
    """Stands in for `numpy.dtype`: takes numbers only."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _number(_text(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])  # (version, byte order, …); the rest is for records of fields
        self.code = _number(order.replace("|", "") + self.code.lstrip("<>|="))


class _Array:
    """Stands in for `numpy.ndarray` until its bytes have come."""

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, content = state
        dtype = np.dtype(kind.code)
        raw = _bytes(content)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise InputError(f"holds an array of shape {shape} with {len(raw)} bytes")
        flat = np.frombuffer(raw, dtype)
        self.values = flat.reshape(shape, order="F" if by_columns else "C")


class _Stand:
    """What a pickle is given under a name: it can be called, and nothing else."""

    __slots__ = ("_does",)

    def __init__(self, does: Callable[..., Any]) -> None:
        self._does = does

    def __call__(self, *arguments: Any) -> Any:
        return self._does(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise InputError("a pickle that alters what it is given")


def _number(code: str) -> str:
    if not _NUMBERS.fullmatch(code):
        raise InputError(f"holds an array of type {code!r}, which is no number")
    return code


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _Type, content: Any) -> Any:
    return np.frombuffer(_bytes(content), np.dtype(kind.code))[0]


def _encode(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes so where the pickle is to suit Python 2."""
    if encoding != "latin1":
        raise InputError(f"holds bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


# numpy 2 renamed `core` to `_core`.
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise InputError(
                f"a pickle that asks for {module}.{name}, which could run code; only numpy arrays "
                "are read"
            )
        return _Stand(_KNOWN[module, name])

    def persistent_load(self, pid: Any) -> NoReturn:
        raise InputError("a pickle that refers to objects outside of it; only arrays are read")


def _finish(value: Any) -> Any:
    """Puts arrays in the place of what stood in for them."""
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {key: _finish(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_finish(item) for item in value)
    return value


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin1")
