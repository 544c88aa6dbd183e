"""The settings of a run as options of the command line: one language for every kind of run."""

import argparse
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Generic

from detnet.engine.launch import image_readers
from detnet.errors import InputError
from detnet.training.run_config import RunConfig
from detnet.training.settings import (
    RECORDED,
    Config,
    Settings,
    dump_config,
    option_help,
    presets,
    with_plugins,
)

_MANY = "may be given several times, dots go deeper"


@dataclass(frozen=True)
class Asked(Generic[Config]):
    """What the command line asks for: a new run in a folder, or to go on with the one there."""

    config: Config
    folder: Path
    resume: bool


def add_run_arguments(parser: argparse.ArgumentParser, kind: type[Settings]) -> None:
    """Adds the run's place and one option for each setting."""
    parser.add_argument("--output", metavar="RUN", help="folder for the new run")
    parser.add_argument("--resume", metavar="RUN", help="go on with the run in this folder")
    names = ", ".join(presets(kind.preset_folder))
    parser.add_argument("--config", metavar="PRESET", help=f"a YAML file, or one of {names}")
    parser.add_argument("--print-config", action="store_true", help="print the settings and stop")
    parser.add_argument("--json", action="store_true", help="print one JSON object at the end")
    texts, defaults = option_help(kind), kind()
    for entry in fields(kind):
        default = getattr(defaults, entry.name)
        if entry.name in RECORDED:
            continue
        if isinstance(default, dict):
            add_group_argument(parser, entry.name, texts[entry.name])
            continue
        shown = "" if default in (None, "", []) else f" (default: {_shown(default)})"
        if entry.default_factory is image_readers:
            shown = f" (default: by this machine's cores, here {default})"
        parser.add_argument(
            _option(entry.name),
            dest=entry.name,
            default=argparse.SUPPRESS,
            nargs="+" if isinstance(default, list) else None,
            metavar=_metavar(default),
            help=(texts[entry.name] + shown).replace("%", "%%"),
        )


def add_group_argument(parser: argparse.ArgumentParser, setting: str, text: str) -> None:
    """Adds the option for single entries of a setting that holds several, by their names."""
    parser.add_argument(
        _option(setting),
        dest=setting,
        action="append",
        default=argparse.SUPPRESS,
        metavar="NAME=VALUE",
        help=f"{text.rstrip('.')}; {_MANY}".replace("%", "%%"),
    )


def asked_run(args: argparse.Namespace, kind: type[Config]) -> Asked[Config] | None:
    """Puts a run's settings together, or reads those of the run that is resumed.

    Returns:
        None where --print-config asks for no more than to see them.

    Raises:
        InputError: no such run or none named, options beside --resume, or settings that cannot be.
    """
    if args.resume:
        from detnet.engine.runs import RunFolder

        given = _first_given(args, kind)
        if given:
            raise InputError(
                f"--resume goes on with the run's own settings; {given} cannot be changed"
            )
        config = with_plugins(kind.read(RunFolder.open(args.resume).config))
    else:
        config = kind.make(args.config, given_settings(args, kind))
    if args.print_config:
        print(dump_config(_resolved(config, load_weights=not args.resume)), end="")
        return None
    if not args.resume and not args.output:
        raise InputError("give --output RUN for a new run, or --resume RUN to go on with one")
    return Asked(config, Path(args.resume or args.output), bool(args.resume))


def _resolved(config: Settings, *, load_weights: bool) -> Settings:
    """A training's settings as it would have them; a resumed run's tell what weights decided."""
    if not isinstance(config, RunConfig):
        return config
    from detnet.training.resolve import resolve

    return resolve(config, load_weights=load_weights).config


def given_settings(args: argparse.Namespace, kind: type[Settings]) -> dict[str, Any]:
    """The settings given on the command line, their values read as YAML.

    Raises:
        InputError: an entry of a group without its value.
    """
    found: dict[str, Any] = {"plugins": args.plugins} if args.plugins else {}
    defaults = kind()
    for entry in fields(kind):
        if entry.name in RECORDED or not hasattr(args, entry.name):
            continue
        if isinstance(getattr(defaults, entry.name), dict):
            found[entry.name] = given_group(args, entry.name)
        else:
            found[entry.name] = _value(getattr(args, entry.name), entry.type)
    return found


def given_group(args: argparse.Namespace, setting: str) -> dict[str, Any]:
    """What was given of `add_group_argument`.

    Raises:
        InputError: an entry without its value, or one within another that is no group.
    """
    found: dict[str, Any] = {}
    for item in getattr(args, setting, ()):
        name, equals, text = item.partition("=")
        if not equals:
            raise InputError(f"{_option(setting)} {item}: write NAME=VALUE")
        *outer, last = name.replace("-", "_").split(".")
        place = found
        for part in outer:
            place = place.setdefault(part, {})
            if not isinstance(place, dict):
                raise InputError(f"{_option(setting)} {item}: {part} was given a value of its own")
        place[last] = _from_yaml(text)
    return found


def _first_given(args: argparse.Namespace, kind: type[Settings]) -> str | None:
    """The first option given of a new run's place or settings; None for none."""
    given = [name for name in ("output", "config") if getattr(args, name)]
    given += sorted(given_settings(args, kind).keys() - {"plugins"})
    return _option(given[0]) if given else None


def _option(setting: str) -> str:
    """detector_options -> --detector-option."""
    name = setting.removesuffix("s") if setting.endswith("_options") else setting
    return f"--{name.replace('_', '-')}"


def _from_yaml(text: str) -> Any:
    """Reads one value; what is no YAML stays text."""
    import yaml

    try:
        value = yaml.safe_load(text)
        return float(value) if isinstance(value, str) else value  # YAML takes 1e-4 for a string
    except (yaml.YAMLError, ValueError):
        return text


def _value(value: str | list[str], kind: Any) -> Any:
    if value == ["[]"]:
        return []
    if isinstance(value, list):
        return value if kind == list[str] else [_from_yaml(item) for item in value]
    return value if kind in (str, str | None) else _from_yaml(value)


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
