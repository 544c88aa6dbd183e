"""The model file: one `.safetensors` that holds weights and, in its metadata, what they are of."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor

from detnet.backbones.tensor_file import FORMAT_VERSION, KEY, TensorFile, read_file
from detnet.errors import InputError
from detnet.files import replacing


def write(path: Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes a file beside first and then renames it: a full disk leaves the old file whole.

    Args:
        path: ends in `.safetensors`.
        header: what tells how the network is built, as JSON can hold it.

    Raises:
        OSError: it could not be written.
    """
    # One key only: safetensors writes several in any order, and equal runs shall be equal.
    write_tensors(path, state, {KEY: json.dumps({"format_version": FORMAT_VERSION, **header})})


def write_tensors(
    path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes weights by name to a `.safetensors`, whole or not at all.

    Raises:
        OSError: it could not be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as beside:
        try:
            save_file(tensors, beside, metadata=metadata)
        except SafetensorError as error:  # it wraps the system's own
            raise OSError(f"{path}: could not be written ({error})") from error


def read(path: Path, kind: str, *, weights: bool = True) -> TensorFile:
    """Reads a model file of one kind; runs nothing.

    Args:
        kind: "detector" or "classifier".
        weights: whether to read the weights, too.

    Returns:
        its header, checked, without "kind", and its weights by name.

    Raises:
        InputError: no file, not a model file of ours or of another kind, cut, or written by a
            later version; or a weight is NaN or infinite.
    """
    found = _open(path, weights=weights)
    require_finite(path, found.tensors)
    if (is_a := found.header.pop("kind")) != kind:
        raise InputError(f"{path}: holds a {is_a}, and a {kind} is asked for")
    return found


def require_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuses weights with which every output would be NaN, hours into a training.

    Raises:
        InputError: naming the tensor.
    """
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        values = value if value.element_size() > 1 else value.float()  # 8 bits know no isfinite
        if broken := int((~values.isfinite()).sum()):
            raise InputError(
                f"{path}: {name} has {broken} of {value.numel()} values that are NaN or infinite; "
                "take a model from before the training that diverged"
            )


def kind_of(path: Path) -> str:
    """Tells what a file holds, "detector", "classifier" or "backbone".

    Raises:
        InputError: as `read`.
    """
    return str(_open(path, weights=False).header["kind"])


def _open(path: Path, *, weights: bool = True) -> TensorFile:
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    found = read_file(path, weights=weights)
    if not found.header:
        raise InputError(f"{path}: no model file of detnet's (its metadata names no network)")
    return found
