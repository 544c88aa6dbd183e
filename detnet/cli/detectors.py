"""Lists the detectors and the backbones that they stand on, or one detector's options.

    detnet detectors
    detnet detectors faster_rcnn_fpn

Every detector stands on every backbone. `detnet info NAME` tells what a backbone costs. Options
are given to `detnet train` as --detector-option NAME=VALUE.
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("name", metavar="NAME", nargs="?", help="a detector, to list its options")
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the tables of names, without importing what they name."""
    from detnet.backbones import BACKBONES
    from detnet.cli import summary_of
    from detnet.detectors import DETECTORS

    if args.name:
        return _print_options(args.name, as_json=args.json)
    # One file per detector, whose first line says what it is.
    summaries = {name: summary_of(f"detnet.detectors.{name}") for name in DETECTORS}
    if args.json:
        detectors = [{"name": name, "summary": text} for name, text in summaries.items()]
        print(json.dumps({"detectors": detectors, "backbones": list(BACKBONES)}))
        return 0
    width = max(map(len, summaries))
    print("detectors:")
    for name, text in summaries.items():
        print(f"  {name:<{width}}  {text}")
    print("\nbackbones:")
    for name in BACKBONES:
        print(f"  {name}")
    return 0


def _print_options(name: str, *, as_json: bool) -> int:
    from detnet.detectors import DETECTORS
    from detnet.errors import InputError
    from detnet.tables import unknown_name

    if name not in DETECTORS:  # before torch is imported: a mistake is answered at once
        raise InputError(unknown_name("detector", name, DETECTORS))
    from detnet.detectors.build import option_defaults

    defaults = option_defaults(name)
    if as_json:
        print(json.dumps({"name": name, "options": defaults}))
        return 0
    width = max(map(len, defaults))
    print(f"options of {name} and their defaults:")
    for option, value in defaults.items():
        print(f"  {option:<{width}}  {value}")
    return 0
