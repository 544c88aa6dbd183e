"""Searches a backbone for a data set: supernet, candidates scored by detection, winner trained.

    detnet search --data DATA --pretrain-data FOLDER --config detnas_fpn_300m --output runs/s
    detnet search --resume runs/s                    # goes on with whatever is unfinished
    detnet search --resume runs/s --phase search     # this phase alone
    detnet search worker runs/s                      # one more worker, here or elsewhere
    detnet search show runs/s                        # a page: progress, front, best network
    detnet search validate runs/s --count 12         # does the supernet rank as training does?
    detnet search baselines runs/s                   # the winner against networks it must beat

Four phases: the supernet is pre-trained as a classifier on FOLDER (train/CLASS/image.jpg), then
fine-tuned under the detector on DATA, candidates are scored on images kept apart from training,
and the winner is trained alone. Settings come from the defaults (DetNAS's for COCO), then from
--config, then from single options; --pretrain, --finetune, --retrain-pretrain and --retrain take
those of `detnet pretrain` and `detnet train`. For several devices: torchrun --nproc-per-node 2 -m
detnet search …
"""

import argparse
import importlib
import json
import os
from dataclasses import asdict
from pathlib import Path

from detnet.cli import summary_of
from detnet.cli.arguments import Parser
from detnet.cli.settings import add_run_arguments, asked_run, given_settings
from detnet.errors import InputError
from detnet.tables import unknown_name
from detnet.text import amount, percent

ACTIONS = {
    name: f"detnet.cli.search.{name}" for name in ("worker", "show", "validate", "baselines")
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a search, and the actions, which have options of their own."""
    from detnet.search.config import PHASES, SearchConfig

    add_run_arguments(parser, SearchConfig)
    parser.add_argument(
        "--phase", choices=PHASES, help="this phase alone; by default all that are left"
    )
    parser.add_argument(
        "--no-estimate", action="store_true", help="do not measure what the phases will take"
    )
    parser.add_argument(
        "action", metavar="ACTION", nargs="?", help=f"one of {', '.join(ACTIONS)}; see below"
    )
    parser.add_argument("rest", nargs=argparse.REMAINDER, help=argparse.SUPPRESS)
    width = max(map(len, ACTIONS))
    lines = [f"  {name:<{width}}  {summary_of(place)}" for name, place in ACTIONS.items()]
    told = "`detnet search ACTION --help` tells an action's options."
    parser.epilog = "\n".join(["actions:", *lines, "", told])


def run(args: argparse.Namespace) -> int:
    """Searches, or does what the action says."""
    if args.action is None:
        return _search(args)
    if args.action not in ACTIONS:
        raise InputError(unknown_name("action of detnet search", args.action, ACTIONS))
    _refuse_options(args)
    module = importlib.import_module(ACTIONS[args.action])
    parser = Parser(
        prog=f"detnet search {args.action}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    try:
        own = parser.parse_args(args.rest)
    except SystemExit as finished:  # argparse's --help
        return finished.code if isinstance(finished.code, int) else 0
    return int(module.run(own))


def _search(args: argparse.Namespace) -> int:
    """Searches, and tells how it went."""
    from detnet.search.config import SearchConfig

    asked = asked_run(args, SearchConfig)
    if asked is None:
        return 0

    from detnet.cli.search.telling import SearchScreen
    from detnet.search.phases import run_phases

    phase = f" --phase {args.phase}" if args.phase else ""
    with SearchScreen(again=f"detnet search --resume {asked.folder}{phase}") as screen:
        complete = run_phases(
            None if asked.resume else asked.config,
            asked.folder,
            only=args.phase,
            resume=asked.resume,
            estimate=not args.no_estimate,
            on_event=screen,
        )
    code = screen.finish(complete)
    if code == 0 and os.environ.get("RANK", "0") == "0":  # one of several processes tells it
        _tell(asked.folder, as_json=args.json)
    return code


def _refuse_options(args: argparse.Namespace) -> None:
    """Refuses options of a search in front of an action, which has its own.

    Raises:
        InputError: naming the first.
    """
    from detnet.search.config import SearchConfig

    given = [name for name in ("output", "resume", "config", "phase") if getattr(args, name)]
    given += sorted(given_settings(args, SearchConfig).keys() - {"plugins"})
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} does not go with the action {args.action}; see "
            f"`detnet search {args.action} --help`"
        )


def _tell(place: Path, *, as_json: bool) -> None:
    """Says what there is now."""
    from detnet.search.run import SearchRun

    winner = SearchRun.look(place).winner
    if as_json:
        print(json.dumps({"run": str(place), "winner": asdict(winner) if winner else None}))
    elif winner:
        print(
            f"winner {winner.path}: score {percent(winner.score)}, "
            f"{amount(winner.macs)} multiply-adds, {amount(winner.params, 2)} parameters; "
            f"see `detnet search show {place}`"
        )
