"""Lists the detectors and the backbones that they stand on.

    detnet detectors
    detnet detectors --json

Every detector stands on every backbone. `detnet info NAME` tells what a backbone costs, and
`detnet train --help` which options a detector takes.
"""

import argparse
import json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Prints the tables of names, without importing what they name."""
    from detnet.backbones import BACKBONES
    from detnet.cli import summary_of
    from detnet.detectors import DETECTORS

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
