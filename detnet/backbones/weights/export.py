"""What a weights file is, what it would fill, and how it is written for other projects."""

import io
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from detnet.backbones import BACKBONES, model_file
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.backbones.weights.layout import IMAGE_OPTIONS, IMAGENET_RGB, is_counter
from detnet.backbones.weights.loading import compare_backbone
from detnet.backbones.weights.pretrained import (
    PretrainedWeights,
    identify,
    layout_named,
    meta_backbone,
)
from detnet.errors import InputError
from detnet.files import sha256_of, write_bytes

_SUFFIXES = (".safetensors", ".pth", ".pt", ".pkl")
_IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class WeightsFile:
    """What a weights file is; the fields are what `detnet weights --json` prints.

    Args:
        file: its path.
        sha256: of its content.
        layout: of `LAYOUTS`.
        title: whose weights they are.
        backbone, width: of ours; None where it is no network of ours.
        options: stride placement and normalisation, those known.
        tensors, numbers: how many there are.
        fits: the backbones that may begin with it.
    """

    file: str
    sha256: str
    layout: str
    title: str
    backbone: str | None
    width: float | None
    options: dict[str, Any]
    tensors: int
    numbers: int
    fits: list[str]


def inspect_weights(path: Path, source: PretrainedWeights) -> WeightsFile:
    """Describes a weights file."""
    name, options = _network(source) or (None, {})
    width = float(options.get("width", 1.0))
    state = {**source.backbone, **source.others}
    return WeightsFile(
        file=str(path),
        sha256=sha256_of(path),
        layout=source.layout,
        title=source.title,
        backbone=name,
        width=width if name else None,
        options=source.options,
        tensors=sum(not is_counter(n) for n in state),
        numbers=sum(value.numel() for n, value in state.items() if not is_counter(n)),
        fits=[other for other in BACKBONES if _fits(source, other, width)],
    )


def export(
    source: PretrainedWeights, layout: str, path: Path, *, overwrite: bool = False
) -> list[str]:
    """Writes a backbone, with its classifier if there is one, under a project's names.

    The file is there whole or not at all.

    Args:
        layout: of `LAYOUTS`; "detnet" writes a model file of ours.
        path: ends in `.safetensors`, or in `.pth` or `.pt` for a file of `torch.save`, or in `.pkl`
            for a pickle of arrays as Detectron's.
        overwrite: replace a file that is there, but not the one the weights come from.

    Returns:
        a line for each way in which that project's own network would take it amiss.

    Raises:
        InputError: that project has no such network, the ending is another, or the file is there.
        OSError: it could not be written.
    """
    if path.suffix not in _SUFFIXES:
        raise InputError(f"{path}: must end in one of {', '.join(_SUFFIXES)}")
    _require_free(path, source, overwrite=overwrite)
    if layout == "detnet":
        _write_own(source, path)
        return []
    peer = layout_named(layout)
    head = {n: v for n, v in source.others.items() if n.split(".")[0] in ("fc", "tail")}
    try:
        state = peer.from_ours({**source.backbone, **head})
    except InputError as error:
        raise InputError(f"{source.place}: {error}") from error
    _write(state, path)
    return [
        f"warning: {name} is {_shown(source.options[name])} here and "
        f"{_shown(wanted)} in {peer.title}: set it there, or features differ"
        for name, wanted in peer.options.items()
        if name in source.options and not _equal(source.options[name], wanted)
    ]


def _fits(source: PretrainedWeights, backbone: str, width: float) -> bool:
    try:
        compare_backbone(meta_backbone(backbone, width), source, name=backbone)
    except InputError:
        return False
    return True


def _require_free(path: Path, source: PretrainedWeights, *, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such folder to write {path.name} into")
    if path.is_dir():
        raise InputError(f"{path}: is a folder")
    if not (path.exists() or path.is_symlink()):
        return
    if not overwrite:
        raise InputError(f"{path}: is there already; name another file, or give --overwrite")
    if Path(source.place).exists() and path.exists() and path.samefile(source.place):
        raise InputError(f"{path}: is what is read; name another file")


def _write(state: Mapping[str, Tensor], path: Path) -> None:
    tensors = {name: value.detach().cpu().contiguous() for name, value in state.items()}
    if path.suffix == ".safetensors":
        model_file.write_tensors(path, tensors)
    elif path.suffix == ".pkl":
        blobs = {name: value.numpy() for name, value in tensors.items()}
        raw = pickle.dumps({"blobs": blobs}, protocol=2)
        # numpy before 2 knows its module by the old name.
        raw = raw.replace(b"cnumpy._core.multiarray\n", b"cnumpy.core.multiarray\n")
        write_bytes(path, raw)
    else:
        content = io.BytesIO()  # torch buries a full disk's error under one of its own
        torch.save(tensors, content)
        write_bytes(path, content.getvalue())


def _write_own(source: PretrainedWeights, path: Path) -> None:
    """Writes a classifier's model file, or a backbone's where there is no classifier."""
    if path.suffix != ".safetensors":
        raise InputError(f"{path}: a model file of ours ends in .safetensors")
    found = _network(source)
    if found is None:
        raise InputError(f"{source.place}: holds no whole backbone of detnet's")
    name, options = found
    images = {key: source.options.get(key, IMAGENET_RGB[key]) for key in IMAGE_OPTIONS}
    head = {n: v for n, v in source.others.items() if n.split(".")[0] in ("fc", "tail")}
    state = {**{f"backbone.{n}": v for n, v in source.backbone.items()}, **head}
    if "fc.weight" in head and head["fc.weight"].ndim == 2 and len(head["fc.weight"]):
        classes = _classes(source, len(head["fc.weight"]))
        sizes = {n: source.header[n] for n in ("input_size", "short_side") if n in source.header}
        save_classifier(path, ClassifierInfo(name, classes, options, **sizes, **images), state)
    else:
        header = {"kind": "backbone", "backbone": name, "options": options, **images}
        model_file.write(path, state, header)


def _network(source: PretrainedWeights) -> tuple[str, dict[str, Any]] | None:
    """The backbone and its options: as a file of ours says, else by the shapes of its weights."""
    if not source.header:
        found = identify(source.backbone)
        stride = source.options.get("stride_in", "1x1")
        return found and (found[0], {"width": found[1], "stride_in": stride})
    name, options = source.header["backbone"], source.header.get("options", {})
    if source.header["kind"] == "detector":
        own = {n: options[n] for n in ("width", "stride_in") if n in options}
        options = {**own, **options.get("backbone_options", {})}
    return name, options


def _classes(source: PretrainedWeights, count: int) -> tuple[str, ...]:
    """The class names: the file's own, ImageNet's for a thousand, else numbers."""
    own = source.header.get("classes", ())
    if len(own) == count and count:
        return tuple(own)
    if count == _IMAGENET_CLASSES:
        from torchvision.models import ResNet50_Weights

        return tuple(ResNet50_Weights.IMAGENET1K_V1.meta["categories"])
    return tuple(f"class {number}" for number in range(count))


def _equal(mine: Any, theirs: Any) -> bool:
    if isinstance(mine, str):
        return bool(mine == theirs)
    return all(abs(a - b) < 1e-4 for a, b in zip(mine, theirs, strict=True))


def _shown(value: Any) -> str:
    return value if isinstance(value, str) else ", ".join(f"{item:.4g}" for item in value)
