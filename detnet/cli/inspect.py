"""Shows what a backbone keeps of an image: activations and receptive fields by stage.

    detnet inspect runs/detnet image.jpg --beside runs/resnet
    detnet inspect model.safetensors image.jpg --output looks --json

MODEL is a run folder or a .safetensors file. Two pictures are written, one row for each model and
one column for each stage: IMAGE-activations.png and IMAGE-receptive-fields.png. The table says for
every stage how many cells it has, what share that is of the first stage's, how far a cell can see
in theory, and the sides of the squares that hold 68 % and 95 % of the squared gradient of the
central cell with respect to the input (the effective receptive field, Luo et al. 2016). All sizes
are pixels of the network's input, which is the image as the model scales it.
"""

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from detnet.cli.arguments import add_any_device
from detnet.errors import InputError
from detnet.text import lay_out, percent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detnet.inference.inspect import Inspection

PICTURES = ("activations", "receptive-fields")


class InspectedStage(TypedDict):
    """One stage as `--json` prints it; `kept` is the share of the first stage's cells."""

    name: str
    channels: int
    stride: int
    size: list[int]
    cells: int
    kept: float
    receptive_field: int | None
    effective_68: int | None
    effective_95: int | None


class InspectedModel(TypedDict):
    """One model as `--json` prints it; sizes are height and width."""

    path: str
    name: str
    backbone: str
    width: float
    input_size: list[int]
    stages: list[InspectedStage]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("model", metavar="MODEL", type=Path, help="run folder or .safetensors file")
    parser.add_argument("image", metavar="IMAGE", type=Path, help="image file")
    parser.add_argument(
        "--beside",
        metavar="MODEL",
        type=Path,
        nargs="+",
        default=[],
        help="models to show below the first, for example a ResNet (after IMAGE)",
    )
    parser.add_argument(
        "--output",
        metavar="DIR",
        type=Path,
        default=Path("inspect"),
        help="where the pictures go (default: inspect)",
    )
    parser.add_argument(
        "--draws",
        metavar="N",
        type=int,
        default=18,
        help="random directions over the channels that are averaged (default: 18)",
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draws (default: 0)")
    add_any_device(parser)
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Inspects the models, writes the pictures and prints the table."""
    if args.draws < 1:
        raise InputError(f"--draws must be 1 or more, got {args.draws}")
    if args.output.exists() and not args.output.is_dir():
        raise InputError(f"{args.output}: is a file; --output names a folder")
    if args.image.is_dir():
        raise InputError(f"{args.image}: is a folder; give one image file in it")

    from detnet.data.images import read_image
    from detnet.files import replacing
    from detnet.inference.inspect_pictures import draw_activations, draw_receptive_fields

    image = read_image(args.image)
    inspections = _inspect([args.model, *args.beside], image, args)
    args.output.mkdir(parents=True, exist_ok=True)
    paths = [args.output / f"{args.image.stem}-{what}.png" for what in PICTURES]
    for path, draw in zip(paths, (draw_activations, draw_receptive_fields), strict=True):
        picture = draw(inspections, args.image.name)
        with replacing(path) as beside:
            picture.save(beside, "PNG")
    inspected = [
        describe(path, view)
        for path, view in zip([args.model, *args.beside], inspections, strict=True)
    ]
    facts = {
        "image": str(args.image),
        "image_size": [image.shape[1], image.shape[2]],
        "draws": args.draws,
        "seed": args.seed,
        "models": inspected,
        "pictures": list(map(str, paths)),
    }
    print(json.dumps(facts) if args.json else format_inspection(inspected, paths))
    return 0


def _load(path: Path) -> "nn.Module":
    """A detector or a classifier; both have a backbone."""
    from detnet.backbones.files import load_classifier
    from detnet.backbones.model_file import kind_of
    from detnet.detectors.files import load_model
    from detnet.inference.predictor import find_model

    file = find_model(path)
    return load_classifier(file)[0] if kind_of(file) == "classifier" else load_model(file)


def _inspect(
    paths: Sequence[Path], image: "Tensor", args: argparse.Namespace
) -> "list[Inspection]":
    import torch

    from detnet.cli.progress import track
    from detnet.inference.inspect import coarsest_stride, inspect_model
    from detnet.inference.predictor import usable_device

    device = usable_device(args.device)
    # Both halve the time on a CPU: the layout, and no gradients of weights.
    models: list[nn.Module] = [
        _load(path).to(memory_format=torch.channels_last).requires_grad_(False) for path in paths
    ]
    step = max(map(coarsest_stride, models))
    rows = list(zip(names_of(paths), models, strict=True))
    found = []
    for name, model in track(rows, what="models", total=len(rows)):
        try:
            view = inspect_model(
                model.to(device), image, name=name, step=step, draws=args.draws, seed=args.seed
            )
        except InputError as error:
            raise InputError(f"{args.image}: {error}") from None
        found.append(view)
    return found


def names_of(paths: Sequence[Path]) -> list[str]:
    """Short names for models: the folder's or the file's own, with what is above where two agree.

    A file that lies in a run folder under its usual name takes the folder's.
    """
    parts = [
        path.resolve().with_suffix("").parts if path.is_file() else path.resolve().parts
        for path in paths
    ]
    usual = {"best", "model"}
    parts = [part[:-1] if part[-1] in usual and len(part) > 2 else part for part in parts]
    for length in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-length:]) for part in parts]
        if len(set(names)) == len(set(parts)):
            break
    return names


def describe(path: Path, view: "Inspection") -> InspectedModel:
    """The numbers of an inspection."""
    cells = [stage.size[0] * stage.size[1] for stage in view.stages]
    return {
        "path": str(path),
        "name": view.name,
        "backbone": view.backbone,
        "width": view.width,
        "input_size": [view.picture.shape[0], view.picture.shape[1]],
        "stages": [
            {
                "name": stage.name,
                "channels": stage.channels,
                "stride": stage.stride,
                "size": list(stage.size),
                "cells": count,
                "kept": count / cells[0],
                "receptive_field": stage.receptive_field or None,
                "effective_68": stage.effective[0],
                "effective_95": stage.effective[1],
            }
            for stage, count in zip(view.stages, cells, strict=True)
        ],
    }


def format_inspection(models: Sequence[InspectedModel], pictures: Sequence[Path]) -> str:
    """Lays out the numbers as one aligned table a model, and says where the pictures are."""
    lines = []
    for model in models:
        height, width = model["input_size"]
        kind = f"{model['backbone']}, width {model['width']:g}, " if model["backbone"] else ""
        first = model["stages"][0]["name"]
        rows = [("stage", "cells", "stride", f"of {first}", "in theory", "68 %", "95 %")]
        rows += map(_row, model["stages"])
        lines += [f"{model['name']}: {kind}input {height}×{width}", "", lay_out(rows, left={0}), ""]
    lines.append("in theory, 68 %, 95 %: sides of the receptive field in input pixels")
    return "\n".join([*lines, *map(str, pictures)])


def _row(stage: InspectedStage) -> tuple[str, str, str, str, str, str, str]:
    def side(pixels: int | None) -> str:
        return "-" if pixels is None else str(pixels)

    return (
        stage["name"],
        "{}×{}".format(*stage["size"]),
        str(stage["stride"]),
        f"{percent(stage['kept'])}%",
        side(stage["receptive_field"]),
        side(stage["effective_68"]),
        side(stage["effective_95"]),
    )
