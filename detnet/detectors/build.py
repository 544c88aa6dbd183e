"""Puts a detector together from names and options, and remembers them with it."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from torch import nn

from detnet.backbones import BACKBONES
from detnet.detectors import DETECTORS
from detnet.errors import InputError
from detnet.tables import unknown_name

_BACKBONE_OPTIONS = ("width", "stride_in", "norm")


@dataclass
class ModelInfo:
    """All that is needed to build a detector again and to understand what it says.

    Args:
        detector: of `DETECTORS`.
        backbone: of `BACKBONES`.
        num_classes: background counted.
        options: as `create` takes them, all of them, defaults too.
        categories: the data set's, `{"id", "name"}` in the order of the labels 1 …; empty if
            unknown.
    """

    detector: str
    backbone: str
    num_classes: int
    options: dict[str, Any] = field(default_factory=dict)
    categories: list[dict[str, Any]] = field(default_factory=list)


def build(
    detector: str,
    *,
    backbone: str,
    num_classes: int,
    frozen: Iterable[str] = (),
    **options: Any,
) -> nn.Module:
    """Does the work of `detnet.create`; see there."""
    if num_classes < 2:
        raise InputError(
            f"num_classes counts the background and must be 2 or more, got {num_classes}"
        )
    builder = DETECTORS[detector]
    groups, own = _arguments(builder)
    known = option_names(detector)
    for name in options:
        if name not in known:
            raise InputError(unknown_name(f"option of {detector}", name, [*known, "frozen"]))
    body = BACKBONES[backbone](**_pick(options, _BACKBONE_OPTIONS))
    body.freeze(frozen := tuple(frozen))
    filled = {name: group(**_pick(options, _names(group))) for name, group in groups.items()}
    alone = _pick(options, own)
    model = builder(body, num_classes, **filled, **alone)
    # Written out in full: a default that changes later must not change a model of today.
    kept = {name: getattr(body, name) for name in _BACKBONE_OPTIONS} | alone
    kept |= {name: value for group in filled.values() for name, value in vars(group).items()}
    kept["frozen"] = frozen
    model.info = ModelInfo(detector, backbone, num_classes, kept)
    return model


def option_names(detector: str) -> list[str]:
    """Lists what `create` takes for a detector besides `backbone`, `num_classes` and `frozen`."""
    groups, own = _arguments(DETECTORS[detector])
    return [
        *_BACKBONE_OPTIONS,
        *own,
        *(name for group in groups.values() for name in _names(group)),
    ]


def info_of(model: nn.Module) -> ModelInfo:
    """Gives what a detector remembers of how it was built.

    Raises:
        ValueError: it was not made by `detnet.create`.
    """
    info = getattr(model, "info", None)
    if not isinstance(info, ModelInfo):
        raise ValueError(f"a {type(model).__name__} without `info` was not made by detnet.create")
    return info


def _arguments(builder: Callable[..., nn.Module]) -> tuple[dict[str, type], list[str]]:
    """Splits a builder's keywords into groups of options (dataclasses) and single options."""
    hints = get_type_hints(builder)
    keywords = [
        name
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    ]
    groups = {name: hints[name] for name in keywords if is_dataclass(hints[name])}
    return groups, [name for name in keywords if name not in groups]


def _names(group: type) -> list[str]:
    return [entry.name for entry in fields(group)]


def _pick(options: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
