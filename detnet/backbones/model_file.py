"""The model file: one `.safetensors` that holds weights and, in its metadata, what they are of."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from detnet.errors import InputError

FORMAT_VERSION = 1
_KEY = "detnet"


def write(path: Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes a file beside first and then renames it: a full disk leaves the old file whole.

    Args:
        path: ends in `.safetensors`.
        header: what tells how the network is built, as JSON can hold it.

    Raises:
        OSError: it could not be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    metadata = {_KEY: json.dumps({"format_version": FORMAT_VERSION, **header})}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            # One key only: safetensors writes several in any order, and equal runs shall be equal.
            save_file(tensors, beside, metadata=metadata)
        except SafetensorError as error:  # it wraps the system's own
            raise OSError(f"{path}: could not be written ({error})") from error
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read(path: Path, kind: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Reads a file's header, without version and kind, and its weights by name; runs nothing.

    Args:
        kind: "detector" or "classifier".

    Raises:
        InputError: no file, not a model file of ours or of another kind, cut, or written by a
            later version; or a weight is NaN or infinite.
    """
    header, state = _open(path)
    require_finite(path, state)
    if (found := header.pop("kind")) != kind:
        raise InputError(f"{path}: holds a {found}, and a {kind} is asked for")
    return header, state


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
    """Tells what a file holds, "detector" or "classifier".

    Raises:
        InputError: as `read`.
    """
    return str(_open(path, weights=False)[0]["kind"])


def _open(path: Path, *, weights: bool = True) -> tuple[dict[str, Any], dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys()) if weights else []
            state = {name: file.get_tensor(name) for name in names}
    except SafetensorError as error:
        raise InputError(
            f"{path}: not a whole .safetensors file ({error}); it may be "
            "cut, or a pickle, which is never read"
        ) from error
    if _KEY not in metadata:
        raise InputError(f"{path}: no model file of detnet's (its metadata names no network)")
    header = json.loads(metadata[_KEY])
    version = header.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}; this detnet reads version {FORMAT_VERSION}"
        )
    return {"kind": "detector", **header}, state  # version 0.1 wrote detectors alone
