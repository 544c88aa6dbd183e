"""The model file: one `.safetensors` that holds the weights and all that is needed to use them."""

import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor, nn

from detnet.detectors.build import ModelInfo, build, info_of
from detnet.errors import InputError

FORMAT_VERSION = 1
_KEY = "detnet"


def save_model(path: Path, model: nn.Module, state: dict[str, Tensor] | None = None) -> None:
    """Writes a detector to one file, beside first and then renamed: a full disk leaves the old
    file whole.

    Args:
        path: ends in `.safetensors`.
        model: made by `detnet.create`; its `info` goes into the file's metadata.
        state: weights to write instead of the model's own, for example a moving average.

    Raises:
        OSError: it could not be written.
    """
    state = model.state_dict() if state is None else state
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    header = {"format_version": FORMAT_VERSION, **asdict(info_of(model))}
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        try:
            # One key only: safetensors writes several in any order, and equal runs shall be equal.
            save_file(tensors, beside, metadata={_KEY: json.dumps(header)})
        except SafetensorError as error:  # it wraps the system's own
            raise OSError(f"{path}: could not be written ({error})") from error
        with beside.open("rb") as file:
            os.fsync(file.fileno())
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def read_info(path: Path) -> ModelInfo:
    """Reads how the detector in a file is built, without its weights.

    Raises:
        InputError: no file, not a model file of ours, cut, or written by a later version.
    """
    return _open(path)[0]


def load_model(path: Path) -> nn.Module:
    """Builds the detector of a file and loads its weights, in eval mode on the CPU.

    Nothing in the file is ever run.

    Raises:
        InputError: as `read_info`, and when the weights do not fit what the file says it holds.
    """
    info, state = _open(path)
    model = build(
        info.detector, backbone=info.backbone, num_classes=info.num_classes, **info.options
    )
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: its weights do not fit a {info.detector} ({reason})") from error
    info_of(model).categories = info.categories
    return model.eval()


def load_weights(path: Path) -> tuple[ModelInfo, dict[str, Tensor]]:
    """Reads a file's description and its weights by name."""
    return _open(path)


def _open(path: Path) -> tuple[ModelInfo, dict[str, Tensor]]:
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            state = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise InputError(
            f"{path}: not a whole .safetensors file ({error}); it may be "
            "cut, or a pickle, which is never read"
        ) from error
    if _KEY not in metadata:
        raise InputError(f"{path}: no model file of detnet's (its metadata names no detector)")
    return _parse(path, json.loads(metadata[_KEY])), state


def _parse(path: Path, header: dict[str, Any]) -> ModelInfo:
    version = header.pop("format_version", None)
    if version != FORMAT_VERSION:
        raise InputError(
            f"{path}: format version {version}; this detnet reads version {FORMAT_VERSION}"
        )
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header.pop("options").items()
    }
    return ModelInfo(options=options, **header)
