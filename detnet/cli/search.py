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
import json
import os
import shlex
from dataclasses import asdict
from pathlib import Path
from typing import Any

from detnet.cli import list_actions
from detnet.cli.arguments import add_results_table, add_search, add_storage
from detnet.cli.progress import Screen
from detnet.cli.search_alone import BaselinesAction, ValidateAction
from detnet.cli.settings import add_run_arguments, asked_run
from detnet.engine.launch import is_main
from detnet.errors import InputError
from detnet.tables import unknown_name
from detnet.text import amount, percent


class _WorkerAction:
    """Takes part in a search as one more worker, on this machine or another.

        detnet search worker runs/s
        detnet search worker runs/s --storage postgresql://USER@HOST/NAME
        CUDA_VISIBLE_DEVICES=1 detnet search worker runs/s

    RUN must hold the fine-tuned supernet; on another machine, a copy of the folder or the same one
    shared. SQLite in the run folder serves the workers of one machine; for several, give all of
    them one PostgreSQL database, here or as `storage` in the settings. Workers may join, be stopped
    with Ctrl-C, or die at any time: a worker's candidate goes to another.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        add_search(parser)
        add_storage(parser)

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Scores candidates until the search is over or this worker is stopped."""
        from detnet.search.phases import join

        # A URL may hold a password, so it is not shown again.
        storage = ["--storage", "URL"] if args.storage else []
        again = shlex.join(["detnet", "search", "worker", str(args.run), *storage])
        with Screen(again=again) as screen:
            over = join(args.run, storage=args.storage, on_event=screen)
        code = screen.finish(over)
        if code == 0:
            again = shlex.join(["detnet", "search", "--resume", str(args.run)])
            print(f"the search is over; go on with: {again}")
        return code


class _ShowAction:
    """Shows a search: its progress, its front, its best network, what each stage prefers.

        detnet search show runs/s           # writes runs/s/search.html and says the main things
        detnet search show runs/s --json    # everything as one JSON object
        detnet search show runs/s --results-table RESULTS.md

    A search that goes on is shown as it is by now. The page is one file that needs no network.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        add_search(parser)
        parser.add_argument(
            "--output", metavar="FILE", type=Path, help="the page (default: RUN/search.html)"
        )
        add_storage(parser)
        add_results_table(parser, "the search's section")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Writes the page, and prints the summary or the JSON."""
        from detnet.report.search.page import write_search_page
        from detnet.report.search.state import read_search
        from detnet.report.search.summary import summarise
        from detnet.report.search.text import format_search, write_results_section

        state = read_search(args.run, storage=args.storage)
        if not (args.output or os.access(args.run, os.W_OK)):
            raise InputError(f"{args.run}: may not be written to; give --output FILE for the page")
        page = write_search_page(args.output or args.run / "search.html", state)
        if args.results_table:
            write_results_section(args.results_table, state)
        if args.json:
            print(json.dumps({**summarise(state), "page": str(page)}, allow_nan=False))
            return 0
        print(format_search(state))
        print(f"\nlook at {page}")
        return 0


# What stands behind `detnet search`: each has a docstring, `add_arguments` and `run`, as a command.
ACTIONS: dict[str, Any] = {
    "worker": _WorkerAction,
    "show": _ShowAction,
    "validate": ValidateAction,
    "baselines": BaselinesAction,
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
        "action", metavar="ACTION", nargs="*", help=f"one of {', '.join(ACTIONS)}; see below"
    )
    parser.epilog = list_actions("search", ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Searches, and tells how it went."""
    if args.action:
        _refuse_action(args.action[0])
    from detnet.search.config import SearchConfig

    asked = asked_run(args, SearchConfig)
    if asked is None:
        return 0

    from detnet.search.phases import run_phases

    phase = ["--phase", args.phase] if args.phase else []
    again = shlex.join(["detnet", "search", "--resume", str(asked.folder), *phase])
    with Screen(again=again) as screen:
        complete = run_phases(
            None if asked.resume else asked.config,
            asked.folder,
            only=args.phase,
            resume=asked.resume,
            estimate=not args.no_estimate,
            on_event=screen,
        )
    code = screen.finish(complete)
    if code == 0 and is_main():
        _tell(asked.folder, as_json=args.json)
    return code


def _refuse_action(name: str) -> None:
    """Refuses an action that there is not, or one behind options of a search.

    Raises:
        InputError: always.
    """
    if name not in ACTIONS:
        raise InputError(unknown_name("action of detnet search", name, ACTIONS))
    raise InputError(
        f"write the action first, `detnet search {name} RUN`, and its own options behind it; see "
        f"`detnet search {name} --help`"
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
            f"see `detnet search show {shlex.quote(str(place))}`"
        )
