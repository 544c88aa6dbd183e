"""Builds networks from what model files say of them, which may be wrong or hostile."""

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from detnet.backbones.model_file import TensorFile
from detnet.errors import InputError
from detnet.kinds import MISTAKES
from detnet.text import one_line

Built = TypeVar("Built", bound=nn.Module)

_MAKERS = (torch.empty, torch.zeros, torch.ones, torch.full, torch.rand, torch.randn)
_SPARE = 2**22  # numbers that no file holds: anchors, masks of positions


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
        message = one_line(error, 300)
        named = message.startswith(f"{path}: ")
        raise InputError(message if named else f"{path}: {message}") from error
    except MISTAKES as error:
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise InputError(f"{path}: its header describes no network ({reason})") from error
    try:
        model.load_state_dict(found.tensors)
    except RuntimeError as error:
        reason = one_line(error, 300)
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
