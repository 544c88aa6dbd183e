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

from detnet.cli import summary_of
from detnet.cli.arguments import Parser
from detnet.cli.search import run as whole
from detnet.errors import InputError
from detnet.tables import unknown_name

ACTIONS = {
    name: f"detnet.cli.search.{name}" for name in ("worker", "show", "validate", "baselines")
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the options of a search, and the actions, which have options of their own."""
    whole.add_arguments(parser)
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
        return whole.run(args)
    if args.action not in ACTIONS:
        raise InputError(unknown_name("action of detnet search", args.action, ACTIONS))
    whole.refuse_options(args)
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
