"""Names and shapes of a backbone's weights, without memory for them and without drawing them."""

import json
from collections.abc import Mapping
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from detnet.backbones import build_backbone
from detnet.backbones.weights.layout import State


def meta_state(name: str, width: float = 1.0, options: Mapping[str, Any] | None = None) -> State:
    """The state of a backbone on torch's meta device.

    Args:
        options: further ones of its builder, a searched one's space and path.

    Raises:
        InputError: an unknown name, or a width outside its range.
    """
    return _meta_state(name, width, json.dumps(dict(options or {})))


@cache
def _meta_state(name: str, width: float, options: str) -> State:
    with torch.device("meta"), _NothingDrawn():
        state: State = build_backbone(name, width=width, **json.loads(options)).state_dict()
    return state


class _NothingDrawn(TorchFunctionMode):
    """Leaves out random draws: on the meta device the first one takes seconds of imports."""

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func in (Tensor.normal_, Tensor.uniform_):
            return args[0]
        return func(*args, **(kwargs or {}))
