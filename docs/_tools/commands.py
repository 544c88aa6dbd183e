"""Writes the command-line reference: a page for each command, made of its parser."""

import argparse
import importlib
import inspect
import re
from collections.abc import Iterator
from dataclasses import dataclass
from types import ModuleType

from detnet.cli import COMMANDS, make_parser
from detnet.cli.arguments import Parser

_DEFAULT = re.compile(r"\s*\(default: (?P<value>.*)\)$", re.DOTALL)


@dataclass(frozen=True)
class Command:
    """A command as it is typed after `detnet`, and its module or, of an action, class."""

    name: str
    module: ModuleType | type

    @property
    def page(self) -> str:
        """The name of its page, without a suffix."""
        return self.name.replace(" ", "-")

    @property
    def summary(self) -> str:
        """What it does, in one line."""
        return (self.module.__doc__ or "").partition("\n")[0]

    def parser(self) -> Parser:
        """Its parser, as the command line makes it."""
        return make_parser(self.name, self.module)


def commands() -> Iterator[Command]:
    """Yields all commands in the order of `detnet --help`, actions of a command after it."""
    for name, place in COMMANDS.items():
        module = importlib.import_module(place)
        yield Command(name, module)
        for action, inner in getattr(module, "ACTIONS", {}).items():
            yield Command(f"{name} {action}", inner)


def command_page(command: Command) -> str:
    """Gives a command's page: what it does, how it is called, its arguments and options."""
    parser = command.parser()
    actions = [each for each in parser._actions if each.help != argparse.SUPPRESS]
    options = [each for each in actions if each.option_strings]
    arguments = [each for each in actions if not each.option_strings]
    usage = " ".join(parser.format_usage().split()).removeprefix("usage: ")
    lines = [f"# detnet {command.name}", "", prose(inspect.getdoc(command.module) or ""), ""]
    lines += ["## Usage", "", "```text", _wrapped(usage), "```", ""]
    if arguments:
        lines += ["## Arguments", ""]
        for each in arguments:
            lines += [f"`{each.metavar or each.dest}`", f": {_told(parser, each)[0]}", ""]
    lines += ["## Options", "", f"```{{program}} detnet {command.name}", "```", ""]
    for each in options:
        lines += [
            f"````{{option}} {_signature(parser, each)}",
            _described(parser, each),
            "````",
            "",
        ]
    return "\n".join(lines)


def index_page(found: list[Command]) -> str:
    """Gives the page that lists all commands."""
    lines = [
        "# Commands",
        "",
        "Made from the program itself: what `--help` tells, command by command.",
        "",
    ]
    lines += ["| command | |", "|---|---|"]
    lines += [f"| [`detnet {each.name}`]({each.page}.md) | {each.summary} |" for each in found]
    lines += ["", "```{toctree}", ":hidden:", "", *(each.page for each in found), "```", ""]
    return "\n".join(lines)


def prose(docstring: str) -> str:
    """A docstring as Markdown: blocks that are indented are what is typed."""
    parts = []
    for part in docstring.strip().split("\n\n"):
        if part.startswith("    "):
            typed = "\n".join(line.removeprefix("    ") for line in part.splitlines())
            parts.append(f"```sh\n{typed}\n```")
        else:
            parts.append(_quoted(part))
    return "\n\n".join(parts)


def _described(parser: Parser, action: argparse.Action) -> str:
    told, default = _told(parser, action)
    lines = [told]
    if action.choices and action.metavar:
        lines += ["", "One of " + ", ".join(f"`{choice}`" for choice in action.choices) + "."]
    if default:
        lines += ["", f"Default: `{default}`"]
    return "\n".join(lines)


def _told(parser: Parser, action: argparse.Action) -> tuple[str, str]:
    """An action's help without its default, and the default; empty where there is none."""
    told = parser._get_formatter()._expand_help(action) if action.help else ""
    match = _DEFAULT.search(told)
    told = _DEFAULT.sub("", told)
    default = match["value"] if match else ""
    if not match and not isinstance(action.default, bool) and action.default not in (None, [], ()):
        default = "" if action.default == argparse.SUPPRESS else str(action.default)
    return _quoted(told[:1].upper() + told[1:]).rstrip(".") + ".", default


def _quoted(text: str) -> str:
    """Markdown of a plain text: options and names with underscores as code, nothing as markup."""
    pieces = re.split(r"(`[^`]*`)", text)
    for place in range(0, len(pieces), 2):
        piece = re.sub(r"([*_<>\[\]#])", r"\\\1", pieces[place])
        pieces[place] = re.sub(r"(?<![\w-])(--[a-z][\w-]*|\w+\\_[\w\\]*\w)", _as_code, piece)
    return "".join(pieces)


def _as_code(match: re.Match[str]) -> str:
    return "`" + match[0].replace("\\", "") + "`"


def _signature(parser: Parser, action: argparse.Action) -> str:
    values = (
        parser._get_formatter()._format_args(action, _metavar(action)) if action.nargs != 0 else ""
    )
    return ", ".join(f"{option} {values}".strip() for option in action.option_strings)


def _metavar(action: argparse.Action) -> str:
    if action.choices and not action.metavar:
        return "{" + ",".join(map(str, action.choices)) + "}"
    return action.dest.upper()


def _wrapped(usage: str, width: int = 88) -> str:
    """The usage in lines, broken between its options."""
    lines, line = [], ""
    for piece in re.findall(r"\[[^\[\]]*(?:\[[^\]]*\][^\[\]]*)*\]|\S+", usage):
        if line and len(line) + 1 + len(piece) > width:
            lines.append(line)
            line = "    " + piece
        else:
            line = f"{line} {piece}".strip() if line.strip() else line + piece
    return "\n".join([*lines, line])
