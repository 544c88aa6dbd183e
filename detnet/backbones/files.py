"""A classifier's model file, and the building of networks that files describe."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from detnet.backbones import PIXEL_MEAN, PIXEL_STD, build_backbone, model_file
from detnet.backbones.base import Classifier
from detnet.backbones.model_file import TensorFile, one_line, require_images
from detnet.errors import InputError
from detnet.kinds import MISTAKES

_KIND = "classifier"
LARGEST_SIDE = 16_384  # of a network's input, in pixels

Built = TypeVar("Built", bound=nn.Module)

_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_SPARE = 2**22  # numbers that no file holds: anchors, masks of positions


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


def build_as_said(path: Path, found: TensorFile, build: Callable[[], Built], *, name: str) -> Built:
    """Builds a network by what a file says of it and loads the file's weights, in eval mode.

    Args:
        found: the file's weights; a network that takes far more numbers than they hold is not
            built, so that a few bytes cannot fill the memory.
        name: of the network, for messages.

    Raises:
        InputError: what the file says does not describe a network, or not one of that size; or the
            weights do not fit it.
    """
    try:
        with _Counted(path, 2 * found.numbers + _SPARE):
            model = build()
    except InputError as error:
        message = one_line(error)
        named = message.startswith(f"{path}: ")
        raise InputError(message if named else f"{path}: {message}") from error
    except MISTAKES as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{path}: its header describes no network ({reason})") from error
    try:
        model.load_state_dict(found.tensors)
    except RuntimeError as error:
        reason = one_line(error)
        raise InputError(f"{path}: its weights do not fit a {name} ({reason})") from error
    return model.eval()


class _Counted(TorchFunctionMode):
    """Counts the numbers that tensors are made for, before they are made."""

    def __init__(self, path: Path, most: int) -> None:
        super().__init__()
        self.path, self.most, self.made = path, most, 0

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if func in _MAKERS:
            self.made += _numbers(kwargs.get("size", args))
            if self.made > self.most:
                raise InputError(
                    f"{self.path}: its header describes a network that does not fit its weights: "
                    f"more than {self.most:,} numbers"
                )
        return func(*args, **kwargs)


def _numbers(sizes: Any) -> int:
    """How many numbers a tensor of these sizes holds; the first argument may be all of them."""
    if isinstance(sizes, int):
        return sizes
    sides = sizes[0] if len(sizes) and isinstance(sizes[0], tuple | list) else sizes
    return math.prod(side for side in sides if isinstance(side, int))
