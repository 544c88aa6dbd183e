"""Checkpoints that are whole or not there, and the state of every random number generator."""

import pickle
import random
import zipfile
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch

from detnet.engine.machine import accelerator
from detnet.errors import InputError
from detnet.files import replacing
from detnet.text import first_line


def save(path: str | Path, state: dict[str, Any]) -> None:
    """Writes the state beside `path`, then puts it in its place; a failure leaves the old file.

    Args:
        state: tensors, numbers, strings and None in dicts and lists; what `load` gives back.

    Raises:
        InputError: the disk is full or refuses; what was at `path` before is still there.
    """
    path = Path(path)
    try:
        with replacing(path) as beside, beside.open("wb") as file:
            _write(state, file)
    except OSError as error:
        kept = "the checkpoint before it is kept" if path.exists() else "there is none before it"
        raise InputError(
            f"{path}: cannot save the checkpoint: {error.strerror or error}; {kept}; "
            "free the disk and go on with --resume"
        ) from error


def load(path: str | Path) -> dict[str, Any]:
    """Reads what `save` wrote, all tensors on the CPU; never runs code from the file.

    Raises:
        InputError: the file is missing, cut, changed by a single byte, no checkpoint, or a pickle
            that would run code.
    """
    path = Path(path)
    try:
        _require_whole(path)
        state = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise InputError(f"{path}: there is no such checkpoint") from None
    except pickle.UnpicklingError:
        raise InputError(
            f"{path}: not a checkpoint of ours (it is cut, or holds more than numbers, which could "
            "run code and is refused)"
        ) from None
    except Exception as error:  # a damaged archive or pickle can go wrong in any way whatever
        reason = first_line(error)
        raise InputError(f"{path}: the checkpoint is cut or damaged: {reason}") from error
    if not isinstance(state, dict):
        raise InputError(f"{path}: not a checkpoint of ours: a {type(state).__name__}, not a dict")
    return state


def rng_state() -> dict[str, Any]:
    """The state of this process's generators: torch's, its device's, numpy's and Python's own.

    With several processes each has its own: gather them, save the list, restore by rank.
    """
    numbers = np.random.get_state(legacy=False)
    keys = torch.from_numpy(numbers["state"]["key"].astype(np.int64))
    version, internal, gauss_next = random.getstate()
    device = _module_in_use()
    return {
        "torch": torch.get_rng_state(),
        "cuda": device.get_rng_state() if device else None,  # or any other that is in use
        "numpy": {**numbers, "state": {**numbers["state"], "key": keys}},
        "python": [version, list(internal), gauss_next],
    }


def restore_rng_state(state: dict[str, Any]) -> None:
    """Puts every generator back; the device's only where the state has it and one is in use."""
    torch.set_rng_state(state["torch"])
    device = _module_in_use()
    if state["cuda"] is not None and device:
        device.set_rng_state(state["cuda"])
    numbers = state["numpy"]
    keys = numbers["state"]["key"].numpy().astype(np.uint32)
    np.random.set_state({**numbers, "state": {**numbers["state"], "key": keys}})
    version, internal, gauss_next = state["python"]
    random.setstate((version, tuple(internal), gauss_next))


def _require_whole(path: Path) -> None:
    """Compares every checksum in the file, which torch itself passes over.

    Raises:
        UnpicklingError: no file of torch.save's, or without its end.
        ValueError: a part of it was changed.
    """
    with path.open("rb") as file:
        if not zipfile.is_zipfile(file):
            raise pickle.UnpicklingError
        with zipfile.ZipFile(file) as archive:
            packed = any(part.compress_type != zipfile.ZIP_STORED for part in archive.infolist())
            if changed := "its list of parts" if packed else archive.testzip():
                raise ValueError(f"{changed} was changed since it was written")


class _Watched:
    """A file that remembers why a write failed, which torch buries under an error of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self.error: OSError | None = None

    def write(self, data: Any) -> int:
        if self.error is None:
            try:
                return self._file.write(data)
            except OSError as error:
                self.error = error
        return len(data)  # the rest is not worth a try; `_write` raises what went wrong

    def flush(self) -> None:
        pass  # the caller does, when all is written


def _write(state: dict[str, Any], file: IO[bytes]) -> None:
    watched = _Watched(file)
    torch.save(state, watched)  # type: ignore[arg-type]
    if watched.error is not None:
        raise watched.error


def _module_in_use() -> Any:
    """`torch.cuda`, or what another kind of device has in its place; None where none is in use."""
    module = torch.get_device_module(accelerator() or "cpu")
    return module if module is not torch.cpu and module.is_initialized() else None
