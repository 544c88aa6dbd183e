"""Names and shapes of a backbone's weights, without memory for them and without drawing them."""

from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from detnet.backbones import BACKBONES
from detnet.backbones.weights.layout import State


@cache
def meta_state(name: str, width: float = 1.0) -> State:
    """The state of a backbone on torch's meta device.

    Raises:
        InputError: an unknown name, or a width outside its range.
    """
    builder = BACKBONES[name]
    with torch.device("meta"), _NothingDrawn():
        return builder(width=width).state_dict()


class _NothingDrawn(TorchFunctionMode):
    """Leaves out random draws: on the meta device the first one takes seconds of imports."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
