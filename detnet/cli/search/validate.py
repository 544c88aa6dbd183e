"""Measures how well a search's supernet ranks: random networks scored by it and trained alone.

    detnet search validate runs/s --count 12
    detnet search validate runs/s --count 12 --scoring full cheap     # both ways of scoring
    detnet search validate runs/s --count 20                          # eight more

The networks are drawn among those that the search may take before any score is looked at, and
written to RUN/validate/plan.json. Tells Kendall's tau between the supernet's score and the AP that
each reaches alone, with its bootstrap interval. Trainings follow the settings retrain_pretrain,
retrain and validate of RUN/config.yaml.

It can be interrupted and started again at any point. Started several times, also on other machines
that share the folder, each process takes the next network that nobody is at.
"""

import argparse
import json
from dataclasses import asdict
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's options."""
    parser.add_argument("run", metavar="RUN", type=Path, help="run folder of a search")
    parser.add_argument(
        "--count",
        type=int,
        metavar="K",
        help="networks, 10 or more (default: as planned before, else 10)",
    )
    parser.add_argument(
        "--seed", type=int, help="of the draw (default: as planned before, else the search's)"
    )
    parser.add_argument(
        "--scoring",
        nargs="+",
        choices=("full", "cheap"),
        default=[],
        help="how the supernet scores; give both to compare them (default: the search's way)",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Scores, trains, and tells how the two agree."""
    from detnet.cli.progress import Screen
    from detnet.search.standalone.validate import format_validation, validate

    with Screen(again=f"detnet search validate {args.run}{_options(args)}") as screen:
        found = validate(
            args.run, count=args.count, seed=args.seed, budgets=args.scoring, on_event=screen
        )
    code = screen.finish(found is not None)
    if found is not None:
        told = json.dumps(asdict(found), allow_nan=False) if args.json else format_validation(found)
        print(told)
    return code


def _options(args: argparse.Namespace) -> str:
    """The options that the same command needs to go on."""
    scoring = f" --scoring {' '.join(args.scoring)}" if args.scoring else ""
    return scoring + (" --json" if args.json else "")
