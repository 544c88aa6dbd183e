"""Carries a search out from its settings, or goes on with one."""

import argparse
import json
import os
from pathlib import Path
from typing import Any

from detnet.cli.settings import (
    add_run_arguments,
    from_yaml,
    given_settings,
    require_place,
    settle_config,
)
from detnet.errors import InputError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place, the phase, and one option for each setting."""
    from detnet.search.config import GROUPS, PHASES, SearchConfig, presets, setting_help

    add_run_arguments(parser, SearchConfig, presets(), leave_out=GROUPS)
    parser.add_argument(
        "--phase", choices=PHASES, help="this phase alone; by default all that are left"
    )
    parser.add_argument(
        "--no-estimate", action="store_true", help="do not measure what the phases will take"
    )
    texts = setting_help()
    for group in GROUPS:
        parser.add_argument(
            f"--{group.replace('_', '-')}",
            dest=_dest(group),
            action="append",
            default=[],
            metavar="NAME=VALUE",
            help=f"one of these: {texts[group]} May be given several times; dots go deeper, as in "
            "detector_options.box_head=4conv1fc",
        )


def run(args: argparse.Namespace) -> int:
    """Searches, and tells how it went."""
    from detnet.search.config import dump_config, make_config, read_config

    changes = _changes(args)
    config = settle_config(args, changes, make=make_config, read=read_config, dump=dump_config)
    if config is None:
        return 0
    place = require_place(args)

    from detnet.cli.search.telling import in_words
    from detnet.cli.training import Watch, follow
    from detnet.search.phases import run_phases

    def start(watch: Watch) -> bool:
        return run_phases(
            None if args.resume else config,
            place,
            only=args.phase,
            resume=bool(args.resume),
            estimate=not args.no_estimate,
            watch=in_words(watch),
        )

    phase = f" --phase {args.phase}" if args.phase else ""
    code = follow(start, again=f"detnet search --resume {place}{phase}")
    if code == 0 and os.environ.get("RANK", "0") == "0":  # one of several processes tells it
        _tell(place, as_json=args.json)
    return code


def refuse_options(args: argparse.Namespace) -> None:
    """Refuses options of a search in front of an action, which has its own.

    Raises:
        InputError: naming the first.
    """
    given = [name for name in ("output", "resume", "config", "phase") if getattr(args, name)]
    given += sorted(_changes(args))
    if given:
        raise InputError(
            f"--{given[0].replace('_', '-')} does not go with the action {args.action}; see "
            f"`detnet search {args.action} --help`"
        )


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, those of each group together."""
    from detnet.search.config import GROUPS, SearchConfig

    given = given_settings(args, SearchConfig)
    for group in GROUPS:
        for item in getattr(args, _dest(group)):
            name, equals, text = item.partition("=")
            if not equals:
                raise InputError(f"--{group.replace('_', '-')} {item}: write NAME=VALUE")
            *outer, last = name.replace("-", "_").split(".")
            place = given.setdefault(group, {})
            for part in outer:
                place = place.setdefault(part, {})
            place[last] = from_yaml(text)
    return given


def _dest(group: str) -> str:
    return f"{group}_changes"


def _tell(place: Path, *, as_json: bool) -> None:
    """Says what there is now."""
    from detnet.search.standalone.sharing import read_json

    winner = place / "winner.json"
    found = read_json(winner) if winner.is_file() else None
    if as_json:
        print(json.dumps({"run": str(place), "winner": found}))
    elif found:
        print(
            f"winner {found['path']}: score {100 * found['score']:.1f}, "
            f"{found['macs'] / 1e6:.1f} M multiply-adds, {found['params'] / 1e6:.2f} M parameters; "
            f"see `detnet search show {place}`"
        )
