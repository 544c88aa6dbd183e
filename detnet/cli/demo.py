"""Makes small scenes, trains a DetNet detector on them and shows what it found on a page.

    detnet demo
    detnet demo --minutes 15
    detnet demo --data FOLDER --output demo

It measures this machine's pace in its first steps and chooses what fits into the minutes. With
--data it does the same with someone's own data set, in any layout that training takes.
"""

import argparse
import shlex
from pathlib import Path

from detnet.cli.arguments import folder


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument(
        "--output",
        default="demo",
        type=folder,
        metavar="DIR",
        help="folder for everything (default: demo)",
    )
    parser.add_argument("--data", metavar="DATA", help="a data set of your own")
    parser.add_argument(
        "--minutes",
        type=float,
        metavar="N",
        help="time until the page is there (default: 6, on slow machines up to 9)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the demonstration and says where its page is."""
    from detnet.cli.progress import Screen
    from detnet.demo import demo

    data = Path(args.data) if args.data else None
    words = ["detnet", "demo", *(["--data", args.data] if args.data else [])]
    with Screen(again=shlex.join([*words, "--output", str(args.output)])) as screen:
        outcome = demo(args.output, data, minutes=args.minutes, on_event=screen)
    if outcome.page is not None:
        print(f"look at {outcome.page}")
    return screen.finish(outcome.page is not None)
