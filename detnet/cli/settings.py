"""The settings of a run as options of the command line, whatever the kind of run."""

import argparse
from collections.abc import Callable, Collection, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from detnet.errors import InputError
from detnet.plugins import load_plugins
from detnet.training.settings import Config, RunConfig, Settings, option_help


def add_run_arguments(
    parser: argparse.ArgumentParser,
    kind: type[Settings],
    presets: Mapping[str, Path],
    *,
    leave_out: Collection[str] = (),
) -> None:
    """Adds the run's place and one option for each setting.

    Args:
        leave_out: settings that have an option of their own.
    """
    parser.add_argument("--output", metavar="RUN", help="folder for the new run")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    parser.add_argument(
        "--config", metavar="PRESET", help=f"a YAML file, or one of {', '.join(presets)}"
    )
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    texts = option_help(kind)
    defaults = kind()
    for entry in fields(kind):
        if entry.name in ("plugins", *leave_out):
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


def add_options_argument(parser: argparse.ArgumentParser, setting: str, *, help: str = "") -> None:
    """Adds the option for single entries of a setting that holds several, by their names.

    Args:
        setting: whose name ends in "options", as detector_options.
    """
    text = help or f"one of {setting}; may be given several times"
    parser.add_argument(
        f"--{setting.removesuffix('s').replace('_', '-')}",
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help=text,
    )


def given_options(args: argparse.Namespace, *settings: str) -> dict[str, dict[str, Any]]:
    """What was given of `add_options_argument`, by setting; without those of which nothing was.

    Raises:
        InputError: an entry without its value.
    """
    found: dict[str, dict[str, Any]] = {}
    for setting in settings:
        name = setting.removesuffix("s")
        for item in getattr(args, name):
            key, equals, text = item.partition("=")
            if not equals:
                raise InputError(f"--{name.replace('_', '-')} {item}: write NAME=VALUE")
            found.setdefault(setting, {})[key] = from_yaml(text)
    return found


def given_settings(args: argparse.Namespace, kind: type[Settings]) -> dict[str, Any]:
    """The settings given on the command line, their values read as YAML."""
    given = {
        entry.name: _value(getattr(args, entry.name), entry.type)
        for entry in fields(kind)
        if entry.name != "plugins" and hasattr(args, entry.name)
    }
    return given | ({"plugins": args.plugins} if args.plugins else {})


def refuse_changes(args: argparse.Namespace, changes: Mapping[str, Any]) -> None:
    """Refuses settings beside --resume.

    Raises:
        InputError: naming the first.
    """
    given = [name for name in ("output", "config") if getattr(args, name)]
    given += sorted(changes.keys() - {"plugins"})
    if given:
        option = given[0].replace("_", "-")
        raise InputError(
            f"--resume goes on with the run's own settings; --{option} cannot be changed"
        )


def settle_config(
    args: argparse.Namespace,
    changes: Mapping[str, Any],
    *,
    make: Callable[[str | None, Mapping[str, Any]], Config],
    read: Callable[[Path], Config],
    dump: Callable[[Config], str],
) -> Config | None:
    """Puts a run's settings together, or reads those of the run that is resumed.

    Args:
        changes: what the options say.
        make, read, dump: of the kind of run.

    Returns:
        the settings; None where --print-config asks for no more than to see them.

    Raises:
        InputError: no such run, options beside --resume, or settings that cannot be.
    """
    if args.resume:
        from detnet.engine.runs import RunFolder

        refuse_changes(args, changes)
        config = read(RunFolder.open(args.resume).config)
    else:
        config = make(args.config, changes)
    load_plugins(config.plugins)
    if args.print_config:
        print(dump(config.filled() if isinstance(config, RunConfig) else config), end="")
        return None
    return config


def require_place(args: argparse.Namespace) -> Path:
    """The run's folder.

    Raises:
        InputError: none is given.
    """
    if not args.resume and not args.output:
        raise InputError("give --output RUN for a new run, or --resume RUN to go on with one")
    return Path(args.resume or args.output)


def from_yaml(text: str) -> Any:
    """Reads one value; what is no YAML stays text."""
    import yaml

    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) else value  # YAML takes 1e-4 for a string
    except (yaml.YAMLError, ValueError):
        return text


def _value(value: str | list[str], kind: Any) -> Any:
    if isinstance(value, list):
        return value if kind == list[str] else [from_yaml(item) for item in value]
    return value if kind in (str, str | None) else from_yaml(value)


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
