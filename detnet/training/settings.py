"""Settings of any kind: put together from defaults, a preset or file and options, read, written.

A kind is a frozen dataclass. Nothing here imports torch: `detnet train --help` answers at once.
"""

import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from importlib.resources import files
from pathlib import Path
from typing import Any, ClassVar, Self, TypeVar, get_type_hints

import yaml

from detnet.errors import InputError
from detnet.files import read_yaml, write_text
from detnet.kinds import of_kind, say_kind
from detnet.plugins import load_plugins
from detnet.tables import unknown_name
from detnet.text import one_line

HUB = "hub:"  # begins the name of weights on a hub
SHA256 = "#sha256="  # stands behind a path or name, with what the file must be
_TABLES = ("space",)  # settings that hold a whole table, which is another one where it changes
_LENGTHS = ("iterations", "epochs")


@dataclass(frozen=True)
class Settings:
    """What settings of every kind say.

    Args:
        preset: that they were begun from; "" for none.
        departures: settings that were given otherwise than the preset has them.
        plugins: modules imported before anything else, which register names of the user's own; of
            a file's those beside it are found, too.
    """

    preset_folder: ClassVar[str] = ""  # of those that come with the package
    preset: str = ""
    departures: dict[str, Any] = field(default_factory=dict)
    plugins: list[str] = field(default_factory=list)

    @classmethod
    def make(cls, source: str | None, changes: Mapping[str, Any]) -> Self:
        """Puts settings together: the defaults, then a preset or file, then single changes.

        Args:
            source: a preset's name or a YAML file; None for the defaults alone.
            changes: field -> value; settings in groups are merged one by one, all else is replaced.

        Raises:
            InputError: an unknown preset or field (with the nearest), a value of the wrong kind.
        """
        known, where = presets(cls.preset_folder), source or "options"
        values: Mapping[str, Any] = read_source(source, known) if source else {}
        _require_whole(values, known, where)
        values = _with_plugins(values, Path(where).parent)
        changes = _with_plugins(changes, None)
        values = {**cls.fitting(values, changes)}
        config = typed(cls, combine(values, changes), where=where, options=changes)
        preset = source if source in known else config.preset
        own = [name for name in changes if name not in (*RECORDED, *config.places())]
        if not preset or not own:
            return replace(config, preset=preset)
        before = typed(cls, values, where=where)
        changed = {name: (getattr(before, name), getattr(config, name)) for name in own}
        departures = combine(config.departures, _different(changed))
        return replace(config, preset=preset, departures=departures)

    @classmethod
    def read(cls, path: Path) -> Self:
        """Reads the settings that a run wrote into its folder.

        Raises:
            InputError: not settings, or those of another kind of run.
        """
        values = read_yaml(path)
        known = [entry.name for entry in fields(cls)]
        strange = [name for name in values if name not in known]
        if strange:
            raise InputError(
                f"{path}: the settings of another kind of run ({strange[0]!r}); detectors are "
                "trained by `detnet train`, classifiers by `detnet pretrain`, searches run by "
                "`detnet search`"
            )
        return typed(cls, values, where=str(path))

    @classmethod
    def fitting(cls, values: Mapping[str, Any], changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """A file's settings without those that lose their meaning by single changes."""
        return values

    def places(self) -> tuple[str, ...]:
        """The settings that are paths."""
        return ()


Config = TypeVar("Config", bound=Settings)
# What an option of its own on the command line, or none, stands for.
RECORDED = tuple(entry.name for entry in fields(Settings))


def with_plugins(config: Config, *, beside: Path | None = None) -> Config:
    """The settings once their plugins are imported, named so that any process finds these.

    Args:
        beside: see `load_plugins`.
    """
    return replace(config, plugins=load_plugins(config.plugins, beside=beside))


def option_help(kind: type[Settings]) -> dict[str, str]:
    """What each field means, read from the docstrings of the class and its bases."""
    found: dict[str, str] = {}
    for base in reversed(kind.__mro__):
        text = (base.__doc__ or "").partition("Args:")[2].partition("Raises:")[0]
        items = re.findall(r"^ {8}(\w+): (.+(?:\n {12}.+)*)", text, re.MULTILINE)
        found |= {name: " ".join(words.split()) for name, words in items}
    return found


def presets(folder: str = "") -> dict[str, Path]:
    """The recipes that come with the package, by name.

    Args:
        folder: of `presets/`, one for each kind of settings; detection's are at the top.
    """
    place = Path(str(files("detnet.training") / "presets")) / folder
    return {path.stem: path for path in sorted(place.glob("*.yaml"))}


def read_source(source: str, known: Mapping[str, Path]) -> dict[str, Any]:
    """Reads a preset by its name, or a YAML file.

    Raises:
        InputError: there is none, or it holds no settings.
    """
    if source in known:
        return read_yaml(known[source])
    if not Path(source).is_file():
        if source.endswith((".yaml", ".yml")):
            raise InputError(f"{source}: no such settings file")
        raise InputError(unknown_name("preset", source, known))
    return read_yaml(Path(source))


def _require_whole(values: Mapping[str, Any], known: Mapping[str, Path], where: str) -> None:
    """Refuses a file that names a preset without its settings: it would not follow it."""
    name = values.get("config", values.get("preset"))
    if not name or not isinstance(name, str):
        return
    recipe = read_yaml(known[name]) if name in known else ("departures",)
    if "config" in values or any(each not in values for each in recipe):
        raise InputError(
            f"{where}: a settings file does not begin from preset {name}; give --config {name} "
            f"with the rest as options, or copy what --config {name} --print-config prints"
        )


def combine(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """A file's settings with single changes, those of its groups one by one.

    A length replaces the file's, in whatever unit, and steps of the rate that the file gives as
    iterations lie at the same share of it; plugins are added to the file's.
    """
    dropped = [name for name in _LENGTHS if any(other in changes for other in _LENGTHS)]
    found = {name: value for name, value in values.items() if name not in dropped}
    length, steps = values.get("iterations"), values.get("steps")
    if dropped and isinstance(steps, list) and of_kind(length, int) and of_kind(steps, list[float]):
        found["steps"] = [s if s < 1 else round(s / length, 6) for s in steps if s < length]
    for name, change in changes.items():
        old = values.get(name)
        if name == "plugins":
            found[name] = [*dict.fromkeys([*(old or ()), *change])]
        elif isinstance(change, Mapping) and isinstance(old, Mapping) and name not in _TABLES:
            found[name] = combine(old, change)
        else:
            found[name] = change
    return found


def typed(
    kind: type[Config], values: Mapping[str, Any], *, where: str, options: Collection[str] = ()
) -> Config:
    """Checks names and kinds of settings; jsonargparse knows unions, lists and literals.

    Args:
        where: that they are from, for messages.
        options: names of those that are from the command line instead.

    Raises:
        InputError: an unknown setting (with the nearest), a value of the wrong kind.
    """
    from jsonargparse import ArgumentError, ArgumentParser

    names = [entry.name for entry in fields(kind)]
    for name in values:
        if name not in names:
            raise InputError(f"{where}: {unknown_name('setting', name, names)}")
    hints = get_type_hints(kind)

    def mistake(name: str) -> InputError:
        got = "nothing" if values[name] is None else f"{values[name]!r:.60}"
        text = f"setting {name} must be {say_kind(hints[name])}, got {got}"
        return InputError(f"{'options' if name in options else where}: {text}")

    for name, value in values.items():
        if value is None and not of_kind(None, hints[name]):  # jsonargparse lets it pass
            raise mistake(name)
    lists = [entry.name for entry in fields(kind) if str(entry.type).startswith("list")]
    values = {
        name: [value] if name in lists and not isinstance(value, list | tuple) else value
        for name, value in values.items()
    }
    parser = ArgumentParser(exit_on_error=False)
    parser.add_class_arguments(kind, "run")
    try:
        checked = parser.parse_object({"run": values})
    except (ArgumentError, TypeError, ValueError) as error:
        found = re.findall(r'[Kk]ey "run\.(\w+)"', str(error))
        wrong = next((name for name in found if name in values), None)
        if wrong is None:
            raise InputError(f"{where}: {one_line(error)}") from error
        raise mistake(wrong) from error
    return kind(**checked.run.as_dict())


def dump_config(config: Settings) -> str:
    """The settings as YAML, in the order of the fields."""
    return yaml.safe_dump(asdict(config), sort_keys=False, allow_unicode=True)


def write_config(config: Settings, path: Path) -> None:
    """Writes the settings with absolute paths, so that a run can be resumed from anywhere."""
    write_text(path, dump_config(absolute(config)))


def absolute(config: Config) -> Config:
    """The settings with absolute paths.

    A sha256 behind one is kept, and sqlite:/// before one; a name on a hub is none.
    """
    found: dict[str, Any] = {}
    for name in config.places():
        text = getattr(config, name)
        if text and not text.startswith(HUB):
            scheme, slashes, rest = text.rpartition(":///")
            path, mark, digest = rest.partition(SHA256)
            found[name] = f"{scheme}{slashes}{Path(path).resolve()}{mark}{digest}"
    return replace(config, **found)


def _with_plugins(values: Mapping[str, Any], beside: Path | None) -> Mapping[str, Any]:
    """As `with_plugins`, of values whose kinds are not checked yet."""
    named = values.get("plugins", [])
    named = [named] if isinstance(named, str) else named
    if not named or not of_kind(named, list[str]):
        return values
    return {**values, "plugins": load_plugins(named, beside=beside)}


def _different(pairs: Mapping[str, tuple[Any, Any]]) -> dict[str, Any]:
    """What became of each setting that is another one than before, in groups one by one."""
    found = {}
    for name, (before, after) in pairs.items():
        if isinstance(before, Mapping) and isinstance(after, Mapping) and name not in _TABLES:
            after = _different({key: (before.get(key), value) for key, value in after.items()})
            before = {}
        if before != after:
            found[name] = after
    return found
