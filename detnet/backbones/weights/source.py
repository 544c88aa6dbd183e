"""Tells whose weights a state dict holds, and gives them our names."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from detnet.backbones import BACKBONES
from detnet.backbones.tensor_file import one_line
from detnet.backbones.weights import detectron, detnas, detnet_pytorch, ours, torchvision
from detnet.backbones.weights.layout import Layout, State, is_counter
from detnet.backbones.weights.shapes import meta_state
from detnet.errors import InputError
from detnet.tables import unknown_name

# detnet_pytorch before torchvision, whose names it has, too.
LAYOUTS: dict[str, Layout] = {
    module.LAYOUT.name: module.LAYOUT
    for module in (ours, detnet_pytorch, torchvision, detectron, detnas)
}
_STAGE = re.compile(r"stages\.(\w+)\.([0-9]{1,4})\.")


@dataclass(frozen=True)
class Source:
    """Weights in our names, and how the network they come from is built.

    Args:
        place: the file, as messages name it.
        layout: of `LAYOUTS`.
        backbone: by names within a backbone, `stem.conv.weight`.
        others: all other tensors, the classifier's as `fc.weight`.
        options: stride placement and normalisation, as a detector's options; only those known.
        title: whose it is, for messages.
        header: what a model file of ours says of itself; empty for all others.
    """

    place: str
    layout: str
    backbone: State
    others: State
    options: dict[str, Any] = field(default_factory=dict)
    title: str = ""
    header: dict[str, Any] = field(default_factory=dict)


def recognise(state: Mapping[str, Tensor], place: str) -> Source:
    """Finds the layout of a state dict by its names.

    Args:
        state: as it was read, perhaps with a prefix as "module." or "backbone.body.".
        place: the file, for messages.

    Raises:
        InputError: the names are nobody's we know.
    """
    for layout in LAYOUTS.values():
        prefix = layout.prefix(state)
        if prefix is not None:
            return _source(layout, state, prefix, place)
    shown = ", ".join(list(state)[:3])
    known = ", ".join(layout.title for layout in LAYOUTS.values())
    raise InputError(f"{place}: its names ({shown}, …) are none of those known here: {known}")


def layout_named(name: str) -> Layout:
    """Finds a layout by its name.

    Raises:
        InputError: there is none of that name.
    """
    if name not in LAYOUTS:
        raise InputError(unknown_name("layout", name, LAYOUTS))
    return LAYOUTS[name]


def blocks_of(backbone: Mapping[str, Tensor]) -> dict[str, int]:
    """Counts the blocks of each stage by the names of its weights."""
    counts: dict[str, int] = {}
    for name in backbone:
        if match := _STAGE.match(name):
            counts[match[1]] = max(counts.get(match[1], 0), int(match[2]) + 1)
    return counts


def identify(backbone: Mapping[str, Tensor]) -> tuple[str, float] | None:
    """Finds the backbone of ours, and its width, that has just these weights.

    Networks that differ in nothing but a stride or a dilation have the same; the plain one is said.
    """
    shapes = _shapes(backbone)
    for name in BACKBONES:
        own = _shapes(meta_state(name))
        if own.keys() != shapes.keys():
            continue
        if not shapes["stem.conv.weight"] or not all(shapes["stem.conv.weight"]):
            return None  # a number by itself, or none
        width = shapes["stem.conv.weight"][0] / own["stem.conv.weight"][0]
        if 0 < width <= 8 and _shapes(meta_state(name, width)) == shapes:
            return name, width
    return None


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {n: v.shape for n, v in state.items() if not is_counter(n)}


def describe(backbone: Mapping[str, Tensor]) -> str:
    """Says a backbone's shape in a few words: its blocks and the channels it begins with."""
    counts = blocks_of(backbone)
    blocks = ", ".join(f"{name} {count}" for name, count in sorted(counts.items()))
    stem = backbone.get("stem.conv.weight")
    channels = "no stem"
    if stem is not None and stem.ndim:
        channels = f"a stem of {len(stem)} channels"
    return f"{channels}, blocks {blocks}"


def _source(layout: Layout, state: Mapping[str, Tensor], prefix: str, place: str) -> Source:
    inside = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    outside = {n: v for n, v in state.items() if not n.startswith(prefix)}
    try:
        renamed = layout.to_ours(inside)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{place}: no whole weights of {layout.title} ({reason})") from error
    backbone = {n: v for n, v in renamed.items() if n.startswith(("stem.", "stages."))}
    others = {n: v for n, v in renamed.items() if n not in backbone}
    return Source(
        place, layout.name, backbone, {**others, **outside}, dict(layout.options), layout.title
    )
