"""Reads pickles of numpy arrays, as Detectron published its weights, and runs nothing of theirs."""

import math
import pickle
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
from numpy.typing import NDArray

from detnet.errors import InputError

_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")


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
