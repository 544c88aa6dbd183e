"""Compares variants over many seeds and data sets: trains what is missing, then answers questions.

    detnet campaign FILE --output runs/c               # or goes on with what is there
    detnet campaign FILE --output runs/c --workers 4 --budget 8
    detnet campaign worker runs/c                      # one more worker, here or elsewhere
    detnet campaign show runs/c                        # each question with its interval

FILE is YAML: variants over a common base, seeds, data sets, and questions such as "detnet59 over
resnet50: AP85 large". Every run is an ordinary run folder. Ctrl-C leaves all of them resumable; the
same command goes on, to the same bits.
"""

import argparse
import json
import shlex
import sys
from pathlib import Path
from typing import Any

from detnet.cli import list_actions
from detnet.cli.arguments import add_results_table, add_storage, folder
from detnet.cli.progress import Screen, telling
from detnet.errors import InputError


class _JoinAction:
    """Takes part in a campaign as one more worker, on this machine or another.

        detnet campaign worker runs/c
        detnet campaign worker runs/c --storage postgresql://USER@HOST/NAME
        CUDA_VISIBLE_DEVICES=1 detnet campaign worker runs/c

    FOLDER is the campaign's, on another machine the same one shared, with the data in the same
    place. SQLite in the folder serves the workers of one machine; for several, give all of them one
    PostgreSQL database, here or as `storage` in the file. Workers may join, be stopped with Ctrl-C,
    or die at any time: another goes on with their run.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        _add_folder(parser)
        add_storage(parser)

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Trains until all is done or this worker is stopped."""
        from detnet.campaign.work import join_campaign

        words = ["detnet", "campaign", "worker", str(args.folder)]
        words += ["--storage", "URL"] if args.storage else []  # it may hold a password
        with Screen(again=shlex.join(words)) as screen:
            over = join_campaign(args.folder, storage=args.storage, on_event=screen)
        return screen.finish(over)


class _AnswersAction:
    """Tells what finished runs say: each question's interval, verdict, and the seeds it needs.

        detnet campaign show runs/c           # writes runs/c/campaign.html and says the main things
        detnet campaign show runs/c --json    # everything as one JSON object
        detnet campaign show runs/c --results-table RESULTS.md

    A campaign that goes on is shown as it is by now. The page is one file that needs no network.
    """

    @staticmethod
    def add_arguments(parser: argparse.ArgumentParser) -> None:
        _add_folder(parser)
        parser.add_argument(
            "--output", metavar="FILE", type=Path, help="the page (default: FOLDER/campaign.html)"
        )
        add_results_table(parser, "the campaign's table")
        parser.add_argument("--json", action="store_true", help="print one JSON object")

    @staticmethod
    def run(args: argparse.Namespace) -> int:
        """Writes the page, and prints the answers."""
        from detnet.campaign.plan import open_campaign
        from detnet.report.campaign.page import write_campaign_page
        from detnet.report.campaign.state import read_campaign_state
        from detnet.report.campaign.text import format_campaign, to_json, write_results_section

        with telling("steps of measuring") as tell:
            state = read_campaign_state(open_campaign(args.folder), progress=tell)
        page = args.output or args.folder / "campaign.html"
        try:
            write_campaign_page(page, state)
        except OSError as error:
            if args.output:
                raise
            remedy = "give the page another place by --output FILE"
            raise InputError(f"{page}: {error.strerror}; {remedy}") from error
        if args.results_table:
            write_results_section(args.results_table, state)
        if args.json:
            print(json.dumps({**to_json(state), "page": str(page)}, allow_nan=False))
            return 0
        print(format_campaign(state))
        print(f"\nlook at {page}")
        return 0


# What stands behind `detnet campaign`: each has a docstring, `add_arguments` and `run`.
ACTIONS: dict[str, Any] = {"worker": _JoinAction, "show": _AnswersAction}


_LEFT = {
    "spent": "the budget allows no more; go on with",
    "failed": "runs failed, see above; try them again with",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds what a campaign is, where it is, and who works on it for how long."""
    parser.add_argument("file", metavar="FILE", type=Path, help="the campaign, a YAML file")
    parser.add_argument(
        "--output", metavar="FOLDER", type=folder, required=True, help="where its runs are kept"
    )
    parser.add_argument(
        "--data-root",
        metavar="DIR",
        type=Path,
        help="where the places of data in FILE start (default: here)",
    )
    parser.add_argument(
        "--workers",
        type=int,
        default=1,
        metavar="N",
        help="processes of this machine that train at once, a thread or a GPU each (default: 1)",
    )
    parser.add_argument(
        "--budget",
        type=float,
        metavar="HOURS",
        help="end after so long; seeds are done in rounds, so that the table is balanced",
    )
    add_storage(parser)
    parser.add_argument(
        "--no-estimate", action="store_true", help="do not measure what each variant will take"
    )
    parser.epilog = list_actions("campaign", ACTIONS)


def run(args: argparse.Namespace) -> int:
    """Trains what is missing, and says how to look at it."""
    from detnet.campaign.plan import begin_campaign
    from detnet.campaign.work import run_campaign

    with Screen(again=command_again(args)) as screen:
        end = run_campaign(
            begin_campaign(args.file, args.output, root=args.data_root, plugins=args.plugins),
            workers=args.workers,
            budget_h=args.budget,
            storage=args.storage,
            estimate=not args.no_estimate,
            on_event=screen,
        )
    code = screen.finish(end != "interrupted")
    if end in _LEFT:
        print(f"{_LEFT[end]}: {screen.again}", file=sys.stderr)
    print(f"see `{shlex.join(['detnet', 'campaign', 'show', str(args.output)])}`")
    return 1 if end == "failed" else code


def command_again(args: argparse.Namespace) -> str:
    """The command that goes on with a campaign in the same way, its budget left to the user."""
    options = {
        "--data-root": args.data_root,
        "--workers": args.workers if args.workers > 1 else None,
        "--storage": "URL" if args.storage else None,  # it may hold a password
    }
    words = ["detnet", "campaign", args.file, "--output", args.output]
    words += [word for option, value in options.items() if value for word in (option, value)]
    words += [word for name in args.plugins for word in ("--plugin", name)]
    words += ["--no-estimate"] if args.no_estimate else []
    return shlex.join(map(str, words))


def _add_folder(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("folder", metavar="FOLDER", type=Path, help="of a campaign")
