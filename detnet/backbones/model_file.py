"""The model file: one `.safetensors` that holds weights and, in its metadata, what they are of.

Other `.safetensors` are read here, too. What a file says of itself is bounded and checked, and
never run.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from detnet.backbones import require_backbone
from detnet.errors import InputError
from detnet.files import replacing
from detnet.kinds import LARGEST, of_kind, say_kind
from detnet.tables import unknown_name
from detnet.text import one_line

FORMAT_VERSION = 1
KEY = "detnet"  # of the metadata, under which a file of ours describes its network
_LONGEST = 16 * 2**20  # characters; the names of 21,841 classes take 1.3 million
_DEEPEST = 16  # lists and objects within one another; a space of one's own takes five

_IMAGES: dict[str, Any] = {
    "pixel_mean": tuple[float, float, float],
    "pixel_std": tuple[float, float, float],
    "channel_order": str,
}
# Of any network's options, those that are taken over from weights.
_OPTIONS: dict[str, Any] = {
    "width": float,
    "stride_in": Literal["1x1", "3x3"],
    "norm": Literal["frozen", "batch", "sync"],
    "backbone_options": dict[str, Any],
    **_IMAGES,
}
# Of each kind of network: what a header must say, and what else it may.
_REQUIRED: dict[str, dict[str, Any]] = {
    "detector": {"detector": str, "backbone": str, "num_classes": int},
    "classifier": {"backbone": str, "classes": tuple[str, ...]},
    "backbone": {"backbone": str},
}
_OPTIONAL: dict[str, dict[str, Any]] = {
    "detector": {"options": dict[str, Any], "categories": list[dict[str, Any]]},
    "classifier": {"options": dict[str, Any], "input_size": int, "short_side": int, **_IMAGES},
    "backbone": {"options": dict[str, Any], **_IMAGES},
}


@dataclass(frozen=True)
class TensorFile:
    """What a file holds.

    Args:
        header: what a model file of ours says of itself, checked, with "kind" and without the
            version; empty for any other file.
        tensors: the weights by name; empty where they were not asked for.
        numbers: of all the tensors in the file together.
    """

    header: dict[str, Any] = field(default_factory=dict)
    tensors: dict[str, Tensor] = field(default_factory=dict)
    numbers: int = 0


def write(path: Path, state: Mapping[str, Tensor], header: Mapping[str, Any]) -> None:
    """Writes a file beside first and then renames it: a full disk leaves the old file whole.

    Args:
        path: ends in `.safetensors`.
        header: what tells how the network is built, as JSON can hold it.

    Raises:
        OSError: it could not be written.
    """
    # One key only: safetensors writes several in any order, and equal runs shall be equal.
    write_tensors(path, state, {KEY: json.dumps({"format_version": FORMAT_VERSION, **header})})


def write_tensors(
    path: Path, state: Mapping[str, Tensor], metadata: dict[str, str] | None = None
) -> None:
    """Writes weights by name to a `.safetensors`, whole or not at all.

    Raises:
        OSError: it could not be written.
    """
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    with replacing(path) as beside:
        try:
            save_file(tensors, beside, metadata=metadata)
        except SafetensorError as error:  # it wraps the system's own
            raise OSError(f"{path}: could not be written ({error})") from error


def read(path: Path, kind: str, *, weights: bool = True) -> TensorFile:
    """Reads a model file of one kind; runs nothing.

    Args:
        kind: "detector" or "classifier".
        weights: whether to read the weights, too.

    Returns:
        its header, checked, without "kind", and its weights by name.

    Raises:
        InputError: no file, not a model file of ours or of another kind, cut, or written by a
            later version; or a weight is NaN or infinite.
    """
    found = _open(path, weights=weights)
    require_finite(path, found.tensors)
    if (is_a := found.header.pop("kind")) != kind:
        raise InputError(f"{path}: holds a {is_a}, and a {kind} is asked for")
    return found


def require_finite(path: Path, state: Mapping[str, Tensor]) -> None:
    """Refuses weights with which every output would be NaN, hours into a training.

    Raises:
        InputError: naming the tensor.
    """
    for name, value in state.items():
        if not value.is_floating_point():
            continue
        values = value if value.element_size() > 1 else value.float()  # 8 bits know no isfinite
        if broken := int((~values.isfinite()).sum()):
            raise InputError(
                f"{path}: {name} has {broken} of {value.numel()} values that are NaN or infinite; "
                "take a model from before the training that diverged"
            )


def kind_of(path: Path) -> str:
    """Tells what a file holds, "detector", "classifier" or "backbone".

    Raises:
        InputError: as `read`.
    """
    return str(_open(path, weights=False).header["kind"])


def _open(path: Path, *, weights: bool = True) -> TensorFile:
    if not path.is_file():
        raise InputError(f"{path}: no such model file")
    found = read_file(path, weights=weights)
    if not found.header:
        raise InputError(f"{path}: no model file of detnet's (its metadata names no network)")
    return found


def read_file(path: Path, *, weights: bool = True) -> TensorFile:
    """Reads a file and checks what it says of itself; runs nothing.

    Args:
        weights: whether to read the tensors, or the header alone.

    Raises:
        InputError: it cannot be read, is cut, or holds a header of ours that cannot be right.
    """
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            names = list(file.keys())
            tensors = {name: file.get_tensor(name) for name in names} if weights else {}
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such model file") from error
    # Kinds of numbers that torch lacks and shapes beyond its range come as other errors.
    except (SafetensorError, ArithmeticError, LookupError, OSError, RuntimeError) as error:
        raise InputError(
            f"{path}: not a whole .safetensors file ({one_line(error, 300)}); it may be "
            "cut, or a pickle, which is never read"
        ) from error
    except (AttributeError, TypeError, ValueError) as error:
        reason = one_line(error, 300)
        raise InputError(f"{path}: holds tensors that cannot be read ({reason})") from error
    header = _parse(path, metadata[KEY]) if KEY in metadata else {}
    return TensorFile(header, tensors, sum(value.numel() for value in tensors.values()))


def _parse(path: Path, text: str) -> dict[str, Any]:
    where = f"{path}: its header"
    if len(text) > _LONGEST:
        raise InputError(f"{where} has {len(text):,} characters; at most {_LONGEST:,} are read")
    try:
        header = json.loads(text, parse_constant=_refuse)
    except (ValueError, RecursionError) as error:
        reason = "too deep" if isinstance(error, RecursionError) else one_line(error, 300)
        raise InputError(f"{where} is not JSON ({reason})") from error
    if not isinstance(header, dict):
        raise InputError(f"{where} is no JSON object")
    version = header.pop("format_version", None)
    if version != FORMAT_VERSION or isinstance(version, bool):
        shown = repr(version)[:40]
        raise InputError(
            f"{path}: format version {shown}; this detnet reads version {FORMAT_VERSION}"
        )
    _require_shallow(header, where)
    header = {"kind": "detector", **header}  # a detector's does not say it
    kind = header["kind"]
    if not isinstance(kind, str) or kind not in _REQUIRED:
        raise InputError(f"{where}: {unknown_name('kind of network', kind, _REQUIRED)[:300]}")
    _require_entries(header, kind, where)
    return header


def _require_entries(header: dict[str, Any], kind: str, where: str) -> None:
    required, optional = _REQUIRED[kind], _OPTIONAL[kind]
    known = {"kind": str, **required, **optional}
    for name in required:
        if name not in header:
            raise InputError(f"{where} says nothing of {name}, and it is a {kind}'s")
    for name, value in header.items():
        if name not in known:
            raise InputError(f"{where}: {unknown_name('entry', name, known)[:300]}")
        require_kind(value, known[name], f"{where}: {name}")
    try:
        require_backbone(header["backbone"][:80])
    except InputError as error:
        raise InputError(f"{where}: {error}") from error
    options = header.get("options", {})
    for name, value in options.items():
        if name in _OPTIONS:
            require_kind(value, _OPTIONS[name], f"{where}: option {name}")
    given = {name: value for name, value in {**header, **options}.items() if name in _IMAGES}
    if given:
        missing = [name for name in _IMAGES if name not in given]
        if missing and kind != "classifier":  # whose defaults stand in
            raise InputError(f"{where} says {', '.join(given)} and nothing of {missing[0]}")
        require_images(where, given.get("pixel_std", (1,)), given.get("channel_order", "rgb"))


def require_kind(value: Any, hint: Any, what: str) -> None:
    """Refuses a value of another kind than an annotation's.

    Raises:
        InputError: saying `what` it is, which kind it must be, and what it is instead.
    """
    if not of_kind(value, hint):
        raise InputError(f"{what} must be {say_kind(hint)}, found {repr(value)[:60]}")


def require_images(where: str, pixel_std: Any, channel_order: Any) -> None:
    """Refuses a normalisation that no network can have been trained with.

    Raises:
        InputError: beginning with `where`.
    """
    if not all(value > 0 for value in pixel_std):
        raise InputError(f"{where}: pixel_std must be positive, found {list(pixel_std)}")
    if channel_order not in ("rgb", "bgr"):
        raise InputError(f"{where}: channel_order must be 'rgb' or 'bgr', found {channel_order!r}")


def _require_shallow(header: Any, where: str) -> None:
    """Bounds depth and numbers; a walk without recursion, which a deep header would break."""
    level = [header]
    for _ in range(_DEEPEST):
        below: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                below += value.values()
            elif isinstance(value, list):
                below += value
            elif isinstance(value, int) and not -LARGEST <= value <= LARGEST:
                raise InputError(f"{where} holds a number beyond 64 bits")
            elif isinstance(value, float) and not abs(value) < float("inf"):
                raise InputError(f"{where} holds a number that is not finite")
        level = below
    if level:
        raise InputError(f"{where} nests lists and objects deeper than {_DEEPEST}")


def _refuse(constant: str) -> Any:
    raise ValueError(f"{constant} is no number")
