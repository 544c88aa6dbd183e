"""A detector's model file: its weights and all that is needed to use them."""

from dataclasses import asdict
from pathlib import Path

from torch import Tensor, nn

from detnet.backbones import model_file
from detnet.detectors.build import ModelInfo, build, info_of, with_former_rules
from detnet.errors import InputError


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
    header, state = model_file.read(path, "detector")
    options = {
        name: tuple(value) if isinstance(value, list) else value
        for name, value in header.pop("options").items()
    }
    options = with_former_rules(header["detector"], options)
    return ModelInfo(options=options, **header), state
