"""Reads any weights file to tensors by name, without running anything that stands in it."""

import re
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detnet.backbones.model_file import require_finite
from detnet.backbones.tensor_file import TensorFile, read_file
from detnet.backbones.weights.arrays import read_arrays
from detnet.errors import InputError

# Where the tensors may stand in a checkpoint; Detectron's are in "blobs".
_BOXES = ("state_dict", "model", "model_state_dict", "state_dict_ema", "net", "blobs")
_ZIP = b"PK"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Reads the tensors of a file; see `read_weights`."""
    return read_weights(path).tensors


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
    except UnpicklingError as error:
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden is None:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path}: cannot be read as weights alone ({reason})") from error
        raise InputError(
            f"{path}: a pickle that asks for {forbidden[1]}, which could run code; save its state "
            "dict alone where you trust it"
        ) from error
    except Exception as error:  # cut archives fail in many ways
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: not a whole file of torch.save ({reason})") from error


def _unbox(content: Any) -> dict[str, Tensor]:
    """The tensors by name in a checkpoint, wherever they stand in it."""
    if not isinstance(content, Mapping):
        return {}
    for name in _BOXES:
        if isinstance(content.get(name), Mapping):
            return _unbox(content[name])
    return {
        str(name): _tensor(value)
        for name, value in content.items()
        if isinstance(value, np.ndarray | Tensor)
    }


def _tensor(value: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))  # a copy of its own
