"""Lists the detectors with their levels and cost, and the backbones, or one detector's options.

    detnet detectors
    detnet detectors --backbone resnet50 --json
    detnet detectors faster_rcnn_fpn

Every detector stands on every backbone. The cost is that of one backbone, --backbone: multiply-adds
for one image of 800×1333 pixels, padded to 800×1344, with the default number of proposals, and
parameters, both for COCO's 80 classes. `detnet info NAME` tells what a backbone costs. Options are
given to `detnet train` as --detector-option NAME=VALUE.
"""

import argparse
import inspect
import json
from collections.abc import Sequence
from typing import Any

from detnet.text import lay_out


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a detector, to list its options")
    parser.add_argument(
        "--backbone", metavar="B", default="detnet59", help="whose cost is told (default: detnet59)"
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the tables of names and costs."""
    from detnet.backbones import BACKBONES
    from detnet.detectors import DETECTORS

    if args.name:
        return _print_options(args.name, as_json=args.json)
    BACKBONES.require(args.backbone)
    detectors = [_describe(name, args.backbone) for name in DETECTORS]
    if args.json:
        listed = {"detectors": detectors, "backbones": list(BACKBONES), "backbone": args.backbone}
        print(json.dumps({**listed, "image_size": [800, 1333]}))
        return 0
    print("\n".join(format_detectors(detectors, args.backbone)))
    print("\nbackbones:")
    for name in BACKBONES:
        print(f"  {name}")
    return 0


def format_detectors(detectors: Sequence[dict[str, Any]], backbone: str) -> list[str]:
    """Lays out what each detector is, and what it costs on this backbone."""
    width = max(len(found["name"]) for found in detectors)
    lines = ["detectors:"]
    lines += [f"  {found['name']:<{width}}  {found['summary']}" for found in detectors]
    rows = [("on " + backbone, "levels", "strides", "multiply-adds", "parameters")]
    for found in detectors:
        if "problem" in found:
            continue
        strides = " ".join(str(level["stride"]) for level in found["outputs"])
        cost = (f"{found['macs'] / 1e9:,.1f} G", f"{found['params'] / 1e6:,.1f} M")
        rows.append((found["name"], " ".join(found["levels"]), strides, *cost))
    lines += ["", *lay_out(rows, left={0}, indent="  ").splitlines()]
    lines += [f"  {each['name']}: {each['problem']}" for each in detectors if "problem" in each]
    lines.append("  (one image of 800×1333, padded to 800×1344; 80 classes)")
    return lines


def _describe(name: str, backbone: str) -> dict[str, Any]:
    """A detector's summary and cost, or the problem that it has with the backbone."""
    from detnet.detectors import DETECTORS
    from detnet.detectors.cost import detector_cost
    from detnet.errors import InputError

    about = inspect.getdoc(DETECTORS[name]) or ""
    known = {"name": name, "summary": about.partition("\n")[0].rstrip(".")}
    try:
        return {**known, **detector_cost(name, backbone=backbone).to_json()}
    except InputError as error:
        return {**known, "problem": str(error)}


def _print_options(name: str, *, as_json: bool) -> int:
    from detnet.detectors import DETECTORS

    DETECTORS.require(name)
    from detnet.detectors import option_defaults

    defaults = option_defaults(name)
    if as_json:
        print(json.dumps({"name": name, "options": defaults}))
        return 0
    width = max(map(len, defaults))
    print(f"options of {name} and their defaults:")
    for option, value in defaults.items():
        print(f"  {option:<{width}}  {value}")
    return 0
