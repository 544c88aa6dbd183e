"""Tells what a weights file is and what it would fill, and writes it for other projects.

    detnet weights resnet50.pth --for detnet59
    detnet weights runs/a --export torchvision resnet50.pth
    detnet weights R-50.pkl --export detnet resnet50.safetensors
    detnet weights hub:OWNER/NAME --export detnet here.safetensors
    detnet weights runs/a --push OWNER/NAME

WEIGHTS is a file, a run folder, or hub:OWNER/NAME; it may end in #sha256=HEX. Files of torch.save,
safetensors and Detectron's pickles are read, and nothing in them is ever run.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from detnet.errors import InputError

if TYPE_CHECKING:
    from detnet.backbones.weights.export import WeightsFile


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("weights", metavar="WEIGHTS", help="a file, a run folder, hub:OWNER/NAME")
    parser.add_argument(
        "--for", dest="backbone", metavar="BACKBONE", help="show what it would fill of this one"
    )
    parser.add_argument(
        "--width", type=float, help="with --for: that backbone's width (default: 1.0)"
    )
    parser.add_argument(
        "--export",
        nargs=2,
        metavar=("LAYOUT", "OUT"),
        help="write backbone and classifier to OUT (.safetensors, .pth, .pkl) under the names of "
        "detnet (our model file), torchvision (timm's, too), detnet_pytorch, detectron or detnas",
    )
    parser.add_argument("--overwrite", action="store_true", help="let --export replace OUT")
    parser.add_argument("--push", metavar="OWNER/NAME", help="upload our model file to the hub")
    parser.add_argument("--private", action="store_true", help="make a pushed repository private")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints what the file holds, then does what is asked."""
    from detnet.backbones import BACKBONES

    for option, needed in (("width", "for"), ("overwrite", "export"), ("private", "push")):
        given = getattr(args, option) not in (None, False)
        if given and not getattr(args, "backbone" if needed == "for" else needed):
            raise InputError(f"--{option} goes with --{needed}; without it there is nothing to do")
    if args.backbone:
        BACKBONES.require(args.backbone)  # before torch is imported

    from detnet.backbones.weights.export import export, inspect_weights
    from detnet.backbones.weights.loading import compare_backbone
    from detnet.backbones.weights.pretrained import meta_backbone
    from detnet.detectors.weights import open_weights
    from detnet.training.pretrained import find_weights, push

    path = find_weights(args.weights)
    source = open_weights(path)
    file = inspect_weights(path, source)
    found = asdict(file)
    lines = [] if args.export or args.push else [*format_file(file), ""]
    if args.backbone:
        width = 1.0 if args.width is None else args.width
        own = meta_backbone(args.backbone, width)
        filled = compare_backbone(own, source, name=args.backbone)
        found["fills"] = {"backbone": args.backbone, "width": width, **filled.to_json()}
        lines += [f"into {args.backbone}:", "", *filled.lines(), ""]
    if args.export:
        layout, out = args.export
        found["notes"] = export(source, layout, Path(out), overwrite=args.overwrite)
        found["exported"] = out
        lines += [f"wrote {out}", *found["notes"]]
    if args.push:
        if not source.header:
            raise InputError(f"{path}: no model file of detnet's; --export detnet makes one")
        found["pushed"] = push(path, args.push, private=args.private)
        lines += [f"pushed to {found['pushed']}"]
    print(json.dumps(found) if args.json else "\n".join(lines).rstrip())
    return 0


def format_file(found: "WeightsFile") -> list[str]:
    """Lays out what a weights file is as aligned lines."""
    network = "no network of ours"
    if found.backbone:
        network = f"{found.backbone}, width {found.width:g}"
    rows = {
        "holds": found.title,
        "layout": found.layout,
        "backbone": network,
        "tensors": f"{found.tensors:,}, {found.numbers / 1e6:.2f} M numbers",
        "stride in": found.options.get("stride_in", "not said"),
        "images": _images(found.options),
        "begins": ", ".join(found.fits) or "no backbone of ours",
        "sha256": found.sha256,
    }
    return [found.file, "", *(f"{name:<9}  {text}" for name, text in rows.items())]


def _images(options: dict[str, Any]) -> str:
    if "channel_order" not in options:
        return "not said"
    mean, std = (
        ", ".join(f"{value * 255:.4g}" for value in options[f"pixel_{name}"])
        for name in ("mean", "std")
    )
    return f"{options['channel_order'].upper()}, mean {mean}, deviation {std} of 0 to 255"
