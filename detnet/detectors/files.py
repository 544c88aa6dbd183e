"""A detector's model file: its weights and all that is needed to use them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from detnet.backbones import model_file
from detnet.backbones.building import build_as_said
from detnet.backbones.model_file import TensorFile, require_kind
from detnet.detectors import DETECTORS, create, option_kinds
from detnet.detectors.base import Detector, ModelInfo, info_of
from detnet.errors import InputError
from detnet.tables import unknown_name

_KIND = "detector"


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
    model_file.write(path, state, asdict(info_of(model)))


def read_info(path: Path) -> ModelInfo:
    """Reads how the detector in a file is built, without its weights.

    Raises:
        InputError: no file, not a model file of ours, cut, or written by a later version.
    """
    return _info(path, model_file.read(path, _KIND, weights=False))


def load_model(path: Path) -> Detector:
    """Builds the detector of a file and loads its weights, in eval mode on the CPU.

    Nothing in the file is ever run.

    Raises:
        InputError: as `read_info`, and when the weights do not fit what the file says it holds.
    """
    found = model_file.read(path, _KIND)
    info = _info(path, found)
    model = build_as_said(
        path,
        found,
        lambda: create(
            info.detector, backbone=info.backbone, num_classes=info.num_classes, **info.options
        ),
        name=info.detector,
    )
    info_of(model).categories = info.categories
    return model


def _info(path: Path, found: TensorFile) -> ModelInfo:
    """The description in a header whose own entries are of the right kinds already."""
    info, where = ModelInfo(**found.header), f"{path}: its header"
    if info.detector not in DETECTORS:
        raise InputError(f"{where}: {DETECTORS.unknown(info.detector[:80])}")
    kinds = option_kinds(info.detector)
    for name, value in info.options.items():
        if name not in kinds:
            kind = f"option of {info.detector}"
            raise InputError(f"{where}: {unknown_name(kind, name[:80], kinds)}")
        require_kind(value, kinds[name], f"{where}: option {name}")
    info.options = {
        name: _tuples(value) if isinstance(value, list) else value
        for name, value in info.options.items()
    }
    for name in DETECTORS[info.detector].weight_options:
        if name not in info.options:
            raise InputError(f"{where} says nothing of the option {name}")
    if info.num_classes < 2:
        raise InputError(f"{where}: num_classes must be 2 or more, found {info.num_classes}")
    _require_categories(info, where)
    return info


def _require_categories(info: ModelInfo, where: str) -> None:
    for number, category in enumerate(info.categories):
        for name, kind in (("id", int), ("name", str)):
            require_kind(category.get(name), kind, f"{where}: {name} of category {number}")
    ids = [category["id"] for category in info.categories]
    if ids and len(ids) != info.num_classes - 1:
        raise InputError(
            f"{where} names {len(ids)} categories; {info.num_classes} classes, the background "
            f"among them, have {info.num_classes - 1}"
        )
    if len(set(ids)) < len(ids):
        raise InputError(f"{where} gives two categories the same id")


def _tuples(value: Any) -> Any:
    """Tuples for the lists that JSON made of them."""
    return tuple(_tuples(item) for item in value) if isinstance(value, list) else value
