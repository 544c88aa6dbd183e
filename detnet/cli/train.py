"""Trains a detector on a data set in COCO format, or goes on with a run.

    detnet train --data DATA --output runs/a --config small --backbone detnet59
    detnet train --data DATA --output runs/b --epochs 12 --detector-option box_head=4conv1fc
    detnet train --resume runs/a

Settings come from the defaults (DetNet's recipe for COCO), then from --config, then from single
options. For several devices: torchrun --nproc-per-node 2 -m detnet train …
"""

import argparse
from dataclasses import fields
from pathlib import Path
from typing import Any

from detnet.errors import InputError
from detnet.tables import unknown_name


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the run's place and one option for each setting."""
    from detnet.recipes.config import TrainConfig, option_help, presets

    parser.add_argument("--output", metavar="RUN", help="folder for the new run")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    parser.add_argument(
        "--config", metavar="PRESET", help=f"a YAML file, or one of {', '.join(presets())}"
    )
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    parser.add_argument(
        "--detector-option",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="one of detector_options; may be given several times",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    texts = option_help()
    defaults = TrainConfig()
    for entry in fields(TrainConfig):
        if entry.name == "detector_options":
            continue
        default = getattr(defaults, entry.name)
        shown = "" if default in (None, "", []) else f" (default: {_shown(default)})"
        parser.add_argument(
            f"--{entry.name.replace('_', '-')}",
            dest=entry.name,
            default=argparse.SUPPRESS,
            nargs="+" if isinstance(default, list) else None,
            metavar=_metavar(default),
            help=(texts[entry.name] + shown).replace("%", "%%"),
        )


def run(args: argparse.Namespace) -> int:
    """Trains, and tells how it went."""
    from detnet.backbones import BACKBONES
    from detnet.detectors import DETECTORS
    from detnet.engine.runs import RunFolder
    from detnet.recipes.config import dump_config, make_config, read_config

    changes = _changes(args)
    if args.resume:
        given = [name for name in ("output", "config") if getattr(args, name)] + sorted(changes)
        if given:
            option = given[0].replace("_", "-")
            raise InputError(
                f"--resume goes on with the run's own settings; --{option} cannot be changed"
            )
        config = read_config(RunFolder.open(args.resume).config)
    else:
        config = make_config(args.config, changes)
    if args.print_config:
        print(dump_config(config), end="")
        return 0
    if not args.resume and not args.output:
        raise InputError("give --output RUN for a new run, or --resume RUN to go on with one")

    for name, table in ((config.backbone, BACKBONES), (config.detector, DETECTORS)):
        if name not in table:  # before torch is imported: a mistake is answered at once
            raise InputError(unknown_name(table.kind, name, table))

    from detnet.cli.training import Watch, follow
    from detnet.recipes.detect import resume, train

    place = Path(args.resume or args.output)
    again = f"detnet train --resume {place}"

    def start(watch: Watch) -> bool:
        return resume(place, watch=watch) if args.resume else train(config, place, watch=watch)

    return follow(start, again=again, as_json=args.json)


def _changes(args: argparse.Namespace) -> dict[str, Any]:
    """The settings given on the command line, their values read as YAML."""
    from detnet.recipes.config import TrainConfig

    given = {
        entry.name: _value(getattr(args, entry.name), entry.type)
        for entry in fields(TrainConfig)
        if hasattr(args, entry.name)
    }
    options = {}
    for item in args.detector_option:
        name, equals, text = item.partition("=")
        if not equals:
            raise InputError(f"--detector-option {item}: write NAME=VALUE")
        options[name] = _yaml(text)
    if options:
        given["detector_options"] = options
    return given


def _value(value: str | list[str], kind: Any) -> Any:
    if isinstance(value, list):
        return value if kind == list[str] else [_yaml(item) for item in value]
    return value if kind in (str, str | None) else _yaml(value)


def _yaml(text: str) -> Any:
    import yaml

    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) else value  # YAML takes 1e-4 for a string
    except (yaml.YAMLError, ValueError):
        return text


def _shown(default: Any) -> str:
    if isinstance(default, list):
        return " ".join(f"{item:.4g}" if isinstance(item, float) else str(item) for item in default)
    return str(default).lower() if isinstance(default, bool) else str(default)


def _metavar(default: Any) -> str:
    if isinstance(default, bool):
        return "BOOL"
    if isinstance(default, int | float | list):
        return "N"
    return "VALUE"
