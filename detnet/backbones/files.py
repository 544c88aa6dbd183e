"""A classifier's model file."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from detnet.backbones import LARGEST_SIDE, PIXEL_MEAN, PIXEL_STD, build_backbone, model_file
from detnet.backbones.base import Classifier
from detnet.backbones.building import build_as_said
from detnet.backbones.model_file import TensorFile, require_images
from detnet.errors import InputError

_KIND = "classifier"


@dataclass
class ClassifierInfo:
    """All that is needed to build a classifier again and to understand what it says.

    Args:
        backbone: see `build_backbone`.
        classes: names, in the order of the labels.
        options: of the backbone, all that were given: width, stride_in, norm, space, path.
        input_size: side in pixels of the images it was trained on.
        short_side: of the whole image when its middle is cut out for evaluation.
        pixel_mean: per channel in `channel_order`, of values in [0, 1].
        pixel_std: per channel, likewise.
        channel_order: of the network's input.
    """

    backbone: str
    classes: tuple[str, ...]
    options: dict[str, Any] = field(default_factory=dict)
    input_size: int = 224
    short_side: int = 256
    pixel_mean: tuple[float, float, float] = PIXEL_MEAN
    pixel_std: tuple[float, float, float] = PIXEL_STD
    channel_order: Literal["rgb", "bgr"] = "rgb"


def save_classifier(path: Path, info: ClassifierInfo, state: Mapping[str, Tensor]) -> None:
    """Writes a classifier to one file; a full disk leaves the old file whole.

    Args:
        path: ends in `.safetensors`.
        state: a `Classifier`'s weights, for example their moving average.

    Raises:
        OSError: it could not be written.
    """
    model_file.write(path, state, {"kind": _KIND, **asdict(info)})


def read_classifier(path: Path) -> ClassifierInfo:
    """Reads how the classifier in a file is built.

    Raises:
        InputError: no file, no classifier of ours, cut, or written by a later version.
    """
    return _info(path, model_file.read(path, _KIND, weights=False))


def load_classifier(path: Path) -> tuple[Classifier, ClassifierInfo]:
    """Builds the classifier of a file and loads its weights, in eval mode on the CPU.

    Nothing in the file is ever run.

    Raises:
        InputError: as `read_classifier`, and when the weights do not fit what the file says.
    """
    found = model_file.read(path, _KIND)
    info = _info(path, found)
    model = build_as_said(
        path,
        found,
        lambda: Classifier(build_backbone(info.backbone, **info.options), len(info.classes)),
        name=info.backbone,
    )
    return model, info


def _info(path: Path, found: TensorFile) -> ClassifierInfo:
    """The description in a header whose kinds are right already."""
    listed = {name: tuple(v) for name, v in found.header.items() if isinstance(v, list)}
    info = ClassifierInfo(**{**found.header, **listed})
    where = f"{path}: its header"
    if not info.classes:
        raise InputError(f"{where} names no class")
    if not 0 < info.input_size <= LARGEST_SIDE or not 0 < info.short_side <= LARGEST_SIDE:
        raise InputError(
            f"{where}: input_size and short_side must be 1 to {LARGEST_SIDE:,} pixels, found "
            f"{info.input_size} and {info.short_side}"
        )
    require_images(where, info.pixel_std, info.channel_order)
    return info
