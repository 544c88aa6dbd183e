"""A classifier's model file: its weights and all that is needed to use them."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from torch import Tensor

from detnet.backbones import build_backbone, model_file
from detnet.backbones.base import Classifier
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
    pixel_mean: tuple[float, float, float] = (0.485, 0.456, 0.406)
    pixel_std: tuple[float, float, float] = (0.229, 0.224, 0.225)
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
    return load_classifier_weights(path)[0]


def load_classifier_weights(path: Path) -> tuple[ClassifierInfo, dict[str, Tensor]]:
    """Reads a file's description and its weights by name, the backbone's with `backbone.`."""
    header, state = model_file.read(path, _KIND)
    listed = {name: tuple(value) for name, value in header.items() if isinstance(value, list)}
    return ClassifierInfo(**{**header, **listed}), state


def load_classifier(path: Path) -> tuple[Classifier, ClassifierInfo]:
    """Builds the classifier of a file and loads its weights, in eval mode on the CPU.

    Nothing in the file is ever run.

    Raises:
        InputError: as `read_classifier`, and when the weights do not fit what the file says.
    """
    info, state = load_classifier_weights(path)
    model = Classifier(build_backbone(info.backbone, **info.options), len(info.classes))
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        reason = " ".join(str(error).split())[:300]
        raise InputError(f"{path}: its weights do not fit a {info.backbone} ({reason})") from error
    return model.eval(), info
