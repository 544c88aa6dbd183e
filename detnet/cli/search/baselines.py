"""Trains a search's winner and networks to hold it against, and tells the difference.

    detnet search baselines runs/s
    detnet search baselines runs/s --random 5 --seeds 3 --within 0.05

The winner, the network of first choices (all 3×3 in DetNAS's spaces; elsewhere the smallest), the
largest network within the limit, each by several seeds, and random networks of about the winner's
multiply-adds, one seed each: all with one budget, the settings retrain_pretrain and retrain of
RUN/config.yaml. Which networks is written to RUN/baselines/plan.json before any is trained.
Intervals are Student's over seeds, of differences Welch's. Writes baselines.json and baselines.md
into RUN/baselines.

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
        "--random", type=int, default=5, metavar="N", help="random networks (default: 5)"
    )
    parser.add_argument(
        "--seeds", type=int, default=3, metavar="N", help="of each other network (default: 3)"
    )
    parser.add_argument(
        "--within",
        type=float,
        default=0.05,
        metavar="SHARE",
        help="how far from the winner's multiply-adds random networks may be (default: 0.05)",
    )
    parser.add_argument(
        "--share-pretraining",
        action="store_true",
        help="pre-train each network once for all its seeds",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")


def run(args: argparse.Namespace) -> int:
    """Trains, and tells the table and the differences."""
    from detnet.cli.progress import Screen
    from detnet.search.standalone.baselines import baselines, format_baselines

    with Screen(again=_again(args)) as screen:
        found = baselines(
            args.run,
            random=args.random,
            seeds=args.seeds,
            within=args.within,
            share_pretraining=args.share_pretraining,
            on_event=screen,
        )
    code = screen.finish(found is not None)
    if found is not None:
        told = json.dumps(asdict(found), allow_nan=False) if args.json else format_baselines(found)
        print(told)
    return code


def _again(args: argparse.Namespace) -> str:
    """The command that goes on."""
    command = f"detnet search baselines {args.run} --random {args.random} --seeds {args.seeds}"
    command += f" --within {args.within:g}"
    command += " --share-pretraining" if args.share_pretraining else ""
    return command + (" --json" if args.json else "")
