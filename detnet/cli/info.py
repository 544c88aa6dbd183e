"""Tells a backbone's multiply-adds, parameters and levels.

    detnet info detnet59
    detnet info resnet50 --image-size 800 1344 --json
    detnet info searched --backbone-option space=detnas_small --backbone-option "path=2120 2112 …"

Multiply-adds are those of convolutions and linear layers for one image, 1 for a multiply and an
add together, which is what the papers call FLOPs.
"""

import argparse
import json
from typing import TYPE_CHECKING

from detnet.cli.settings import add_group_argument, given_group
from detnet.text import lay_out

if TYPE_CHECKING:
    from detnet.backbones.cost import BackboneCost


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    from detnet.backbones import BACKBONES

    parser.add_argument("name", metavar="NAME", help=f"one of {', '.join(BACKBONES)}")
    parser.add_argument(
        "--image-size",
        nargs=2,
        type=int,
        metavar=("H", "W"),
        default=(224, 224),
        help="height and width of the input in pixels (default: 224 224)",
    )
    parser.add_argument(
        "--width", type=float, default=1.0, help="factor on every channel count (default: 1.0)"
    )
    add_group_argument(parser, "backbone_options", "space or path of searched and supernet")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints what `backbone_cost` says."""
    from detnet.backbones import require_backbone
    from detnet.errors import InputError

    require_backbone(args.name)  # before torch is imported: a mistake is answered at once
    if min(args.image_size) < 1:
        raise InputError("--image-size must be positive")

    from detnet.backbones.cost import backbone_cost, check_levels

    options = given_group(args, "backbone_options")
    check_levels(args.name, width=args.width, options=options)
    found = backbone_cost(
        args.name,
        image_size=tuple(args.image_size),
        width=args.width,
        options=options,
    )
    print(json.dumps(found.to_json()) if args.json else format_info(found))
    return 0


def format_info(found: "BackboneCost") -> str:
    """Lays out what `backbone_cost` found as aligned text."""
    rows = [("", "with classifier", "backbone only")]
    rows.append(("multiply-adds", f"{found.classifier.macs:,}", f"{found.body.macs:,}"))
    rows.append(("parameters", f"{found.classifier.params:,}", f"{found.body.params:,}"))
    levels = [("level", "channels", "stride", "receptive field")]
    for level in found.levels:
        field = f"{level.receptive_field:,} px" if level.receptive_field else "not known"
        levels.append((level.name, f"{level.channels:,}", f"{level.stride}", field))
    return "\n\n".join([found.name, lay_out(rows, left={0}), lay_out(levels, left={0})])
