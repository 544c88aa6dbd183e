"""Carries a search out from its settings, or goes on with one."""

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path

from detnet.cli.settings import add_run_arguments, asked_run, given_settings
from detnet.errors import InputError
from detnet.text import amount, percent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place, the phase, and one option for each setting."""
    from detnet.search.config import PHASES, SearchConfig

    add_run_arguments(parser, SearchConfig)
    parser.add_argument(
        "--phase", choices=PHASES, help="this phase alone; by default all that are left"
    )
    parser.add_argument(
        "--no-estimate", action="store_true", help="do not measure what the phases will take"
    )


def run(args: argparse.Namespace) -> int:
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


def refuse_options(args: argparse.Namespace) -> None:
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
