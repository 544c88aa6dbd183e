"""Whether a checkpoint holds what a run of these settings saves, before anything is put back."""

from collections.abc import Mapping
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from detnet.engine.optim import Ema
from detnet.errors import InputError
from detnet.kinds import of_kind, say_kind

_PARTS: dict[str, Any] = {
    "model": dict[str, Any],
    "optimizer": dict[str, Any],
    "ema": dict[str, Any] | None,
    "progress": dict[str, Any],
    "rng": list[dict[str, Any]],
    "data": str,
}


def require_parts(state: Mapping[str, Any], progress: type) -> None:
    """Refuses a checkpoint whose parts are not there or of other kinds.

    Args:
        progress: the dataclass that keeps where the run stands.

    Raises:
        InputError: naming the part, not the file.
    """
    for name, kind in _PARTS.items():
        if name not in state:
            raise InputError(f"it lacks {name!r}")
        _require(state[name], kind, name)
    if "task" in state:  # version 0.1 had none
        _require(state["task"], list[dict[str, Any]], "task")
        if len(state["task"]) != len(state["rng"]):
            raise InputError("its 'task' and 'rng' are of different numbers of processes")
    fields = get_type_hints(progress)
    for name, value in state["progress"].items():
        if name not in fields:
            raise InputError(f"its progress has an unknown entry {str(name)[:40]!r}")
        if not (isinstance(value, float) and float in _members(fields[name])):  # NaN, too
            _require(value, fields[name], f"progress {name}")
        if isinstance(value, int) and value < 0:
            raise InputError(f"its progress {name} is {value}")


def require_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Refuses an optimizer's state that would only fail in the next step.

    Raises:
        InputError: naming the entry.
    """
    own = optimizer.state_dict()["param_groups"]
    _require(state.get("param_groups"), list[dict[str, Any]], "optimizer's param_groups")
    _require(state.get("state"), dict[int, dict[str, Any]], "optimizer's state")
    if len(state["param_groups"]) != len(own):
        raise InputError(f"its optimizer has {len(state['param_groups'])} groups, not {len(own)}")
    for group, known in zip(state["param_groups"], own, strict=True):
        for name, value in known.items():
            kind = float if type(value) is int else type(value)
            if name != "params" and not of_kind(group.get(name), kind):
                raise InputError(f"its optimizer's {name} is {repr(group.get(name))[:40]}")
        if group.get("params") != known["params"]:
            raise InputError("its optimizer is of other parameters")
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for index, entries in state["state"].items():
        if not 0 <= index < len(parameters):
            raise InputError(f"its optimizer's state has a parameter {index}")
        for name, value in entries.items():
            fits = isinstance(value, Tensor) and value.shape in (parameters[index].shape, ())
            if value is not None and not fits:
                raise InputError(f"its optimizer's {name} of parameter {index} does not fit it")


def require_average(state: Any, model: nn.Module, ema: Ema | None) -> None:
    """Refuses averaged weights that are there without being asked for, lack, or do not fit.

    Raises:
        InputError: naming the weight.
    """
    if ema is None:
        return
    _require(state, dict[str, Any], "ema")
    _require(state.get("updates"), int, "ema's updates")
    _require(state.get("average"), dict[str, Any], "ema's average")
    for name, value in model.state_dict().items():
        given = state["average"].get(name)
        if not isinstance(given, Tensor) or given.shape != value.shape:
            raise InputError(f"its averaged {name} does not fit")


def _members(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", (hint,))


def _require(value: Any, kind: Any, name: str) -> None:
    if not of_kind(value, kind):
        raise InputError(f"its {name} must be {say_kind(kind)}, not {repr(value)[:40]}")
