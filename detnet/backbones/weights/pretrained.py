"""Opens pretrained weights: tells whose they are, gives them our names, follows what files say."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detnet.backbones import BACKBONES, build_backbone
from detnet.backbones.base import Backbone
from detnet.backbones.cost import on_meta
from detnet.backbones.weights import detectron, detnas, torchvision
from detnet.backbones.weights.layout import IMAGE_OPTIONS, Layout, State, is_counter
from detnet.backbones.weights.reading import read_weights
from detnet.errors import InputError
from detnet.tables import unknown_name
from detnet.text import one_line

_OURS = Layout(  # a state dict of ours that was saved alone
    name="detnet",
    title="detnet's own",
    marker="stem.conv.weight",
    to_ours=dict,
    from_ours=dict,
)
LAYOUTS: dict[str, Layout] = {
    layout.name: layout
    for layout in (
        _OURS,
        torchvision.DETNET_PYTORCH,  # before torchvision, whose names it has, too
        torchvision.TORCHVISION,
        detectron.LAYOUT,
        detnas.LAYOUT,
    )
}
_STAGE = re.compile(r"stages\.(\w+)\.([0-9]{1,4})\.")


@dataclass(frozen=True)
class PretrainedWeights:
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


def open_weights(path: str | Path, *, place: str = "") -> PretrainedWeights:
    """Reads the weights of a file: of ours, or of any layout known.

    Args:
        path: the file.
        place: how messages name it; its path by default.

    Raises:
        InputError: the file cannot be read, or holds weights of no network that we know.
    """
    found = read_weights(Path(path))
    if found.header:
        return _of_model_file(found.tensors, found.header, place or str(path))
    return recognise(found.tensors, place or str(path))


def recognise(state: Mapping[str, Tensor], place: str) -> PretrainedWeights:
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
        own = _shapes(meta_backbone(name).state_dict())
        if own.keys() != shapes.keys():
            continue
        first = next(iter(own))
        if not shapes[first] or not all(shapes[first]):
            return None  # a number by itself, or none
        width = shapes[first][0] / own[first][0]
        if 0 < width <= 8 and _shapes(meta_backbone(name, width).state_dict()) == shapes:
            return name, width
    return None


def meta_backbone(
    name: str, width: float = 1.0, options: Mapping[str, Any] | None = None
) -> Backbone:
    """A backbone on torch's meta device, for the names and shapes of its weights alone.

    Args:
        options: further ones of its builder, a searched one's space and path.

    Raises:
        InputError: an unknown name, or a width outside its range.
    """
    return _meta_backbone(name, width, json.dumps(dict(options or {})))


@cache
def _meta_backbone(name: str, width: float, options: str) -> Backbone:
    with on_meta():
        backbone: Backbone = build_backbone(name, width=width, **json.loads(options))
    return backbone


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {n: v.shape for n, v in state.items() if not is_counter(n)}


def describe(backbone: Mapping[str, Tensor]) -> str:
    """Says a backbone's shape in a few words: the channels it begins with, and its blocks."""
    first = next(iter(backbone.values()), None)
    channels = f"{len(first)}" if first is not None and first.ndim else "no"
    blocks = ", ".join(f"{name} {count}" for name, count in sorted(blocks_of(backbone).items()))
    return f"{channels} channels in its first layer" + (f", blocks {blocks}" if blocks else "")


def _of_model_file(
    state: Mapping[str, Tensor], header: dict[str, Any], place: str
) -> PretrainedWeights:
    """Weights of a file of ours, whose names are known by what kind of network it holds."""
    prefixes = ("backbone.backbone.", "backbone.")  # of a network of levels, of the backbone itself
    prefix = next((p for p in prefixes if any(n.startswith(p) for n in state)), "")
    backbone = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    others = {n: v for n, v in state.items() if not n.startswith(prefix)}
    options = header.get("options", {})
    known = {**header, **options}  # a classifier's normalisation stands beside its options
    taken = {
        name: tuple(known[name]) if isinstance(known[name], list) else known[name]
        for name in ("stride_in", *IMAGE_OPTIONS)
        if name in known
    }
    kind = header.get("detector") or f"a {header.get('kind', 'network')}"
    title = f"{kind} on {header.get('backbone')} of width {options.get('width', 1.0)}"
    return PretrainedWeights(place, _OURS.name, backbone, others, taken, title, header)


def _source(
    layout: Layout, state: Mapping[str, Tensor], prefix: str, place: str
) -> PretrainedWeights:
    inside = {n.removeprefix(prefix): v for n, v in state.items() if n.startswith(prefix)}
    outside = {n: v for n, v in state.items() if not n.startswith(prefix)}
    try:
        renamed = layout.to_ours(inside)
    except InputError as error:
        raise InputError(f"{place}: {error}") from error
    except (ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {one_line(error, 300)}"
        raise InputError(f"{place}: no whole weights of {layout.title} ({reason})") from error
    backbone = {n: v for n, v in renamed.items() if n.startswith(("stem.", "stages."))}
    others = {n: v for n, v in renamed.items() if n not in backbone}
    return PretrainedWeights(
        place, layout.name, backbone, {**others, **outside}, dict(layout.options), layout.title
    )
