"""Puts a detector together from names and options, and remembers them with it."""

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, get_type_hints

from torch import nn

from detnet.backbones import build_backbone
from detnet.backbones.stages import StagedOptions
from detnet.detectors import DETECTORS
from detnet.errors import InputError
from detnet.tables import unknown_name

_BACKBONE_OPTIONS: dict[str, Any] = {"width": 1.0, "stride_in": "1x1", "norm": "batch"}
# Beyond those that all backbones have: a searched one's space and path.
_OWN_OPTIONS: dict[str, Any] = {"backbone_options": {}}
# What detectors did before there were these options, and what torchvision's do; a rule of their
# own that weights have been trained with, and keep.
FORMER_RULES: dict[str, Any] = {"anchor_strides": "torchvision", "threshold_on": "score"}
_BACKBONE_KINDS: dict[str, Any] = {
    **get_type_hints(StagedOptions),
    "backbone_options": dict[str, Any],
    "frozen": tuple[str, ...],
}


@dataclass
class ModelInfo:
    """All that is needed to build a detector again and to understand what it says.

    Args:
        detector: of `DETECTORS`.
        backbone: see `build_backbone`.
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
    # Written out in full: a default that changes later must not change a model of today.
    defaults = option_defaults(detector)
    for name in options:
        if name not in defaults:
            known = [*defaults, "frozen"]
            raise InputError(unknown_name(f"option of {detector}", name, known))
    full = defaults | options
    body = build_backbone(backbone, **_pick(full, _BACKBONE_OPTIONS), **full["backbone_options"])
    body.freeze(frozen := tuple(frozen))
    groups, alone = _arguments(builder)
    model = builder(
        body,
        num_classes,
        **{name: group(**_pick(full, _names(group))) for name, group in groups.items()},
        **_pick(full, alone),
    )
    kept = full | {"frozen": frozen}
    model.info = ModelInfo(detector, backbone, num_classes, kept)
    return model


def option_defaults(detector: str) -> dict[str, Any]:
    """What `create` takes for a detector besides `backbone`, `num_classes` and `frozen`."""
    groups, alone = _arguments(DETECTORS[detector])
    defaults = _BACKBONE_OPTIONS | _OWN_OPTIONS | alone
    for group in groups.values():
        defaults |= vars(group())
    return defaults


def with_former_rules(detector: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Adds to options that were written down before `FORMER_RULES` could be chosen what held then.

    Raises:
        InputError: an unknown detector.
    """
    known = option_defaults(detector)
    return {name: rule for name, rule in FORMER_RULES.items() if name in known} | {**options}


def option_kinds(detector: str) -> dict[str, Any]:
    """The annotations of what `create` takes for a detector, "frozen" among them."""
    builder = DETECTORS[detector]
    groups, alone = _arguments(builder)
    hints = get_type_hints(builder)
    kinds = {**_BACKBONE_KINDS, **{name: hints[name] for name in alone}}
    for group in groups.values():
        kinds |= get_type_hints(group)
    return kinds


def info_of(model: nn.Module) -> ModelInfo:
    """Gives what a detector remembers of how it was built.

    Raises:
        ValueError: it was not made by `detnet.create`.
    """
    info = getattr(model, "info", None)
    if not isinstance(info, ModelInfo):
        raise ValueError(f"a {type(model).__name__} without `info` was not made by detnet.create")
    return info


def _arguments(builder: Callable[..., nn.Module]) -> tuple[dict[str, type], dict[str, Any]]:
    """Splits a builder's keywords into groups of options (dataclasses) and single options."""
    hints = get_type_hints(builder)
    keywords = {
        name: parameter.default
        for name, parameter in inspect.signature(builder).parameters.items()
        if parameter.kind is parameter.KEYWORD_ONLY
    }
    groups = {name: hints[name] for name in keywords if is_dataclass(hints[name])}
    return groups, {name: value for name, value in keywords.items() if name not in groups}


def _names(group: type) -> list[str]:
    return [entry.name for entry in fields(group)]


def _pick(options: dict[str, Any], names: Iterable[str]) -> dict[str, Any]:
    return {name: options[name] for name in names if name in options}
