"""Makes small scenes, trains a DetNet detector on them and shows what it found on a page.

    detnet demo
    detnet demo --minutes 15
    detnet demo --data FOLDER --output demo

It measures this machine's pace in its first steps and chooses what fits into the minutes. With
--data it does the same with someone's own data set in COCO format.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--output", default="demo", metavar="DIR", help="folder for everything (default: demo)"
    )
    parser.add_argument("--data", metavar="DATA", help="a data set of your own, in COCO format")
    parser.add_argument(
        "--minutes", type=float, metavar="N", help="time until the page is there (default: 6)"
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demonstration and says where its page is."""
    from detnet.cli.training import Watch, follow
    from detnet.demo import Outcome, demo

    output = Path(args.output)
    outcomes: list[Outcome] = []

    def start(watch: Watch) -> bool:
        data = Path(args.data) if args.data else None
        outcomes.append(demo(output, data, minutes=args.minutes, watch=watch))
        return outcomes[-1].page is not None

    again = "detnet demo" + (f" --data {args.data}" if args.data else "")
    code = follow(start, again=f"{again} --output {output}")
    if outcomes and outcomes[-1].page is not None:
        print(f"look at {outcomes[-1].page}")
    return code
