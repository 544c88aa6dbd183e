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
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.cli.arguments import add_any_device, folder
from detnet.errors import InputError
from detnet.text import lay_out, percent

if TYPE_CHECKING:
    from torch import Tensor, nn

    from detnet.inference.inspect import Inspection

PICTURES = ("activations", "receptive-fields")


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
        type=folder,
        default="inspect",
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
    if not args.json:
        print(format_inspection(inspections, paths))
        return 0
    facts = {
        "image": str(args.image),
        "image_size": [image.shape[1], image.shape[2]],
        "draws": args.draws,
        "seed": args.seed,
        "models": [
            {"path": str(path), **describe(view)}
            for path, view in zip([args.model, *args.beside], inspections, strict=True)
        ],
        "pictures": list(map(str, paths)),
    }
    print(json.dumps(facts))
    return 0


def _load(path: Path) -> "nn.Module":
    """A detector or a classifier; both have a backbone."""
    from detnet.backbones.files import load_classifier
    from detnet.backbones.model_file import kind_of
    from detnet.detectors.files import load_model
    from detnet.inference.models import find_model

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


def describe(view: "Inspection") -> dict[str, Any]:
    """The numbers of an inspection, as `--json` prints them; sizes are height and width."""
    return {
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
                "cells": prod(stage.size),
                "kept": prod(stage.size) / prod(view.stages[0].size),
                "receptive_field": stage.receptive_field or None,
                "effective_68": stage.effective[0],
                "effective_95": stage.effective[1],
            }
            for stage in view.stages
        ],
    }


def format_inspection(views: "Sequence[Inspection]", pictures: Sequence[Path]) -> str:
    """Lays out the numbers as one aligned table a model, and says where the pictures are."""
    lines = []
    for view in views:
        height, width = view.picture.shape[:2]
        kind = f"{view.backbone}, width {view.width:g}, " if view.backbone else ""
        first = view.stages[0]
        rows = [("stage", "cells", "stride", f"of {first.name}", "in theory", "68 %", "95 %")]
        for stage in view.stages:
            kept = f"{percent(prod(stage.size) / prod(first.size))}%"
            sides = [str(side or "-") for side in (stage.receptive_field, *stage.effective)]
            size = "{}×{}".format(*stage.size)
            rows.append((stage.name, size, str(stage.stride), kept, sides[0], sides[1], sides[2]))
        lines += [f"{view.name}: {kind}input {height}×{width}", "", lay_out(rows, left={0}), ""]
    lines.append("in theory, 68 %, 95 %: sides of the receptive field in input pixels")
    return "\n".join([*lines, *map(str, pictures)])
