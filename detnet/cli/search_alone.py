"""What `detnet search` trains alone: networks drawn at random, and a winner beside its rivals."""

import argparse
import json
import shlex
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detnet.cli.arguments import add_search
from detnet.cli.progress import Screen


class ValidateAction:
    """Measures how well a search's supernet ranks: random networks scored by it and trained alone.

        detnet search validate runs/s --count 12
        detnet search validate runs/s --count 12 --scoring full cheap     # both ways of scoring
        detnet search validate runs/s --count 20                          # eight more
        detnet search validate runs/s --count 20 --seeds 3                # and how large tau can be
        detnet search validate runs/s --workers 2                         # two are trained at once

    The networks are drawn among those that the search may take before any score is looked at, and
    written to RUN/validate/plan.json. Tells Kendall's tau between the supernet's score and the AP
    that each reaches alone, with its bootstrap interval. Trainings follow the settings
    retrain_pretrain, retrain and validate of RUN/config.yaml. With several seeds of each network it
    tells how far networks differ beside their seeds: where seeds differ as much, nothing can rank.

    Another supernet, longer or trained otherwise, is held against the same networks by --trained:
    nothing is trained a second time, and the difference of the two taus is told. Changed settings
    of scoring score anew, too.

        detnet search validate runs/longer --trained runs/s

    It can be interrupted and started again at any point, and `detnet search show` tells what is
    known by then. Started several times, also on other machines that share the folder, each process
    takes the next network that nobody is at; before the supernet is trained, too: then scores come
    last.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        add_search(parser)
        parser.add_argument(
            "--count",
            type=int,
            metavar="K",
            help="networks, 10 or more (default: as planned before, else 10)",
        )
        parser.add_argument(
            "--seeds",
            type=int,
            metavar="N",
            help="trainings of each network (default: as planned before, else 1)",
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
        parser.add_argument(
            "--trained",
            type=Path,
            metavar="RUN",
            help="take networks, and what they reached, from the validation of another search of "
            "the same space, data and settings of training",
        )
        _add_workers(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @staticmethod
    def again(args: argparse.Namespace) -> str:
        """The command that goes on with what is planned by now."""
        scoring = ["--scoring", *args.scoring] if args.scoring else []
        return _command("validate", args, scoring)

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Scores, trains, and tells how the two agree."""
        from detnet.search.standalone.validate import format_validation, validate

        with Screen(again=ValidateAction.again(args)) as screen:
            found = validate(
                args.run,
                count=args.count,
                seeds=args.seeds,
                seed=args.seed,
                budgets=args.scoring,
                trained=args.trained,
                workers=args.workers,
                on_event=screen,
            )
        return _finish(screen, found, args, format_validation)


class BaselinesAction:
    """Trains a search's winner and networks to hold it against, and tells the difference.

        detnet search baselines runs/s
        detnet search baselines runs/s --random 5 --seeds 3 --within 0.05
        detnet search baselines runs/s --workers 8                        # on eight GPUs
        detnet search baselines runs/s --against runs/clsnas runs/scratch # other searches' winners

    The winner, the networks that its space is built around (all 3×3 in DetNAS's; DetNet-59 and
    ResNet-50 in DetNet's; the smallest in others), smaller ones of these also widened to the
    winner's multiply-adds, the largest network within the limit, each by several seeds, and random
    networks of about the winner's multiply-adds, one seed each: all with one budget, the settings
    retrain_pretrain and retrain of RUN/config.yaml. Which networks is written to
    RUN/baselines/plan.json before any is trained. --against adds the winners of other searches of
    the same space, guided or trained otherwise, at any time. Intervals are Student's over seeds, of
    differences Welch's. Writes baselines.json and baselines.md into RUN/baselines.

    It can be interrupted and started again at any point. Started several times, also on other
    machines that share the folder, each process takes the next network that nobody is at.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        add_search(parser)
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
        parser.add_argument(
            "--against",
            type=Path,
            nargs="+",
            default=[],
            metavar="OTHER",
            help="also the winners of these searches of the same space",
        )
        _add_workers(parser)
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @staticmethod
    def again(args: argparse.Namespace) -> str:
        """The command that goes on in the same way."""
        options = ["--random", args.random, "--seeds", args.seeds, "--within", args.within]
        options += ["--share-pretraining"] if args.share_pretraining else []
        options += ["--against", *args.against] if args.against else []
        return _command("baselines", args, options)

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Trains, and tells the table and the differences."""
        from detnet.search.standalone.baselines import baselines, format_baselines

        with Screen(again=BaselinesAction.again(args)) as screen:
            found = baselines(
                args.run,
                random=args.random,
                seeds=args.seeds,
                within=args.within,
                share_pretraining=args.share_pretraining,
                against=args.against,
                workers=args.workers,
                on_event=screen,
            )
        return _finish(screen, found, args, format_baselines)


def _add_workers(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes of this machine that train at once, a GPU each, or a share of the "
        "processor's threads (default: 1)",
    )


def _command(action: str, args: argparse.Namespace, options: list[Any]) -> str:
    """An action's command, as a shell takes it."""
    workers = ["--workers", args.workers] if args.workers > 1 else []
    words = ["detnet", "search", action, args.run, *options, *workers]
    return shlex.join(map(str, [*words, *(["--json"] if args.json else [])]))


def _finish(
    screen: Screen, found: Any, args: argparse.Namespace, laid_out: Callable[[Any], str]
) -> int:
    """Tells what was found, unless the work was interrupted, and gives the exit code."""
    code = screen.finish(found is not None)
    if found is not None:
        print(json.dumps(asdict(found), allow_nan=False) if args.json else laid_out(found))
    return code
