"""Opens pretrained weights: tells whose they are, gives them our names, heeds what a file says."""

import json
import math
import pickle
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, NoReturn

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detnet.backbones import BACKBONES, build_backbone
from detnet.backbones.base import Backbone
from detnet.backbones.cost import on_meta
from detnet.backbones.model_file import TensorFile, one_line, read_file, require_finite
from detnet.backbones.weights import detectron, detnas, torchvision
from detnet.backbones.weights.layout import IMAGE_OPTIONS, Layout, State, is_counter
from detnet.errors import InputError
from detnet.tables import unknown_name

# Where the tensors may stand in a checkpoint; Detectron's are in "blobs".
_BOXES = ("state_dict", "model", "model_state_dict", "state_dict_ema", "net", "blobs")
_ZIP = b"PK"
_OLD_TORCH = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # its magic number, pickled
_FORBIDDEN = re.compile(r"GLOBAL ([\w.]+)")
_NUMBERS = re.compile(r"[<>|=]?[fiub][1248]")


def read_weights(path: Path) -> TensorFile:
    """Reads the tensors of a `.safetensors`, a file of `torch.save` or a pickle of arrays.

    The kind is told by the file's content, not by its name.

    Raises:
        InputError: it is none of these, it is cut, it holds no tensors, or it asks for anything
            but tensors; a value is NaN or infinite; or a header of ours that cannot be right.
    """
    found = _read(path)
    require_finite(path, found.tensors)
    return found


def _read(path: Path) -> TensorFile:
    try:
        with path.open("rb") as file:
            head = file.read(16)
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such weights file") from error
    if head[8:9] == b"{":
        return read_file(path)
    content = _read_torch(path) if head.startswith((_ZIP, _OLD_TORCH)) else read_arrays(path)
    tensors = _unbox(content)
    if not tensors:
        raise InputError(f"{path}: holds no tensors by name")
    for name, value in tensors.items():
        # One number may be said to stand in many places, and would fill the memory when copied.
        if value.layout != torch.strided or value.nbytes > value.untyped_storage().nbytes():
            raise InputError(f"{path}: {name[:80]} is not stored as it is said to be")
    return TensorFile({}, tensors, sum(value.numel() for value in tensors.values()))


def _read_torch(path: Path) -> Any:
    try:
        return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        forbidden = _FORBIDDEN.search(str(error))
        if forbidden is None:
            reason = str(error).partition("\n")[0]
            raise InputError(f"{path}: cannot be read as weights alone ({reason})") from error
        raise InputError(
            f"{path}: a pickle that asks for {forbidden[1]}, which could run code; save its state "
            "dict alone where you trust it"
        ) from error
    except Exception as error:  # cut archives fail in many ways
        reason = str(error).partition("\n")[0] or type(error).__name__
        raise InputError(f"{path}: not a whole file of torch.save ({reason})") from error


def _unbox(content: Any) -> dict[str, Tensor]:
    """The tensors by name in a checkpoint, wherever they stand in it."""
    if not isinstance(content, Mapping):
        return {}
    for name in _BOXES:
        if isinstance(content.get(name), Mapping):
            return _unbox(content[name])
    return {
        str(name): _tensor(value)
        for name, value in content.items()
        if isinstance(value, np.ndarray | Tensor)
    }


def _tensor(value: Tensor | NDArray[Any]) -> Tensor:
    if isinstance(value, Tensor):
        return value.detach()
    return torch.from_numpy(value.astype(value.dtype.newbyteorder("=")))  # a copy of its own


def read_arrays(path: Path) -> Any:
    """Reads a pickle that holds numpy arrays in dicts, lists, tuples, strings and numbers.

    Whatever else it asks for is refused, and numpy's own unpickling is not called either: arrays
    are rebuilt here from their type, shape and bytes. Pickles of Python 2 are understood.

    Raises:
        InputError: it names anything but arrays, or is cut.
    """
    with path.open("rb") as file:
        try:
            return _finish(_ArraysOnly(file, encoding="latin1").load())
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        except Exception as error:  # a pickle can go wrong in any way whatever
            reason = str(error) or type(error).__name__
            raise InputError(f"{path}: no whole pickle of arrays ({reason})") from error


class _Type:
    """Stands in for `numpy.dtype`: takes numbers only."""

    def __init__(self, code: Any, *_: Any) -> None:
        self.code = _number(_text(code))

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        order = _text(state[1])  # (version, byte order, …); the rest is for records of fields
        self.code = _number(order.replace("|", "") + self.code.lstrip("<>|="))


class _Array:
    """Stands in for `numpy.ndarray` until its bytes have come."""

    def __init__(self, *_: Any) -> None:
        self.values: NDArray[Any] = np.empty(0)

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        _, shape, kind, by_columns, content = state
        dtype = np.dtype(kind.code)
        raw = _bytes(content)
        if len(raw) != math.prod(shape) * dtype.itemsize:
            raise InputError(f"holds an array of shape {shape} with {len(raw)} bytes")
        flat = np.frombuffer(raw, dtype)
        self.values = flat.reshape(shape, order="F" if by_columns else "C")


class _Stand:
    """What a pickle is given under a name: it can be called, and nothing else."""

    __slots__ = ("_does",)

    def __init__(self, does: Callable[..., Any]) -> None:
        self._does = does

    def __call__(self, *arguments: Any) -> Any:
        return self._does(*arguments)

    def __setstate__(self, state: Any) -> NoReturn:
        raise InputError("a pickle that alters what it is given")


def _number(code: str) -> str:
    if not _NUMBERS.fullmatch(code):
        raise InputError(f"holds an array of type {code!r}, which is no number")
    return code


def _reconstruct(*_: Any) -> _Array:
    return _Array()


def _scalar(kind: _Type, content: Any) -> Any:
    return np.frombuffer(_bytes(content), np.dtype(kind.code))[0]


def _encode(text: str, encoding: str) -> bytes:
    """Python 3 writes bytes so where the pickle is to suit Python 2."""
    if encoding != "latin1":
        raise InputError(f"holds bytes encoded as {encoding!r}")
    return text.encode("latin1")


def _no_bytes() -> bytes:
    return b""


# numpy 2 renamed `core` to `_core`.
_KNOWN: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): _Array,
    ("numpy", "dtype"): _Type,
    ("_codecs", "encode"): _encode,
    ("__builtin__", "bytes"): _no_bytes,
    ("collections", "OrderedDict"): dict,
    **{(f"numpy.{core}.multiarray", "_reconstruct"): _reconstruct for core in ("core", "_core")},
    **{(f"numpy.{core}.multiarray", "scalar"): _scalar for core in ("core", "_core")},
}


class _ArraysOnly(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _KNOWN:
            raise InputError(
                f"a pickle that asks for {module}.{name}, which could run code; only numpy arrays "
                "are read"
            )
        return _Stand(_KNOWN[module, name])

    def persistent_load(self, pid: Any) -> NoReturn:
        raise InputError("a pickle that refers to objects outside of it; only arrays are read")


def _finish(value: Any) -> Any:
    """Puts arrays in the place of what stood in for them."""
    if isinstance(value, _Array):
        return value.values
    if isinstance(value, dict):
        return {key: _finish(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return type(value)(_finish(item) for item in value)
    return value


def _text(value: Any) -> str:
    return value.decode("latin1") if isinstance(value, bytes) else str(value)


def _bytes(value: Any) -> bytes:
    return value if isinstance(value, bytes) else value.encode("latin1")


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


def open_weights(path: Path, *, place: str = "") -> PretrainedWeights:
    """Reads the weights of a file: of ours, or of any layout known.

    Args:
        path: the file.
        place: how messages name it; its path by default.

    Raises:
        InputError: the file cannot be read, or holds weights of no network that we know.
    """
    found = read_weights(path)
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
        reason = f"{type(error).__name__}: {one_line(error)}"
        raise InputError(f"{place}: no whole weights of {layout.title} ({reason})") from error
    backbone = {n: v for n, v in renamed.items() if n.startswith(("stem.", "stages."))}
    others = {n: v for n, v in renamed.items() if n not in backbone}
    return PretrainedWeights(
        place, layout.name, backbone, {**others, **outside}, dict(layout.options), layout.title
    )
