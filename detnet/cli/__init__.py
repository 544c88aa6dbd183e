"""The command line: one file per command, found by name, errors in one line.

    detnet COMMAND --help

A command is a module with `add_arguments(parser)` and `run(args) -> int`; the first line of its
docstring is its help. Its `ACTIONS`, if it has any, are classes with the same two, chosen by the
first word behind the command. Only the chosen command's module is imported, and nothing here or
there imports torch before `run`, so that `--help` answers at once.
"""

import argparse
import ast
import contextlib
import importlib
import importlib.util
import io
import os
import sys
from collections.abc import Mapping, Sequence
from inspect import getdoc  # `inspect` is a command here
from pathlib import Path
from types import ModuleType
from typing import Any

import detnet
from detnet.cli.arguments import Parser, did_you_mean, tell
from detnet.data.kept.telling import when_reading
from detnet.engine.launch import is_main
from detnet.errors import InputError
from detnet.plugins import load_plugins
from detnet.text import one_line

# In the order in which a newcomer needs them; `detnet --help` keeps it.
COMMANDS = {
    "demo": "detnet.cli.demo",
    "check": "detnet.cli.check",
    "convert": "detnet.cli.convert",
    "pretrain": "detnet.cli.pretrain",
    "train": "detnet.cli.train",
    "search": "detnet.cli.search",
    "campaign": "detnet.cli.campaign",
    "evaluate": "detnet.cli.evaluate",
    "predict": "detnet.cli.predict",
    "bench": "detnet.cli.bench",
    "serve": "detnet.cli.serve",
    "score": "detnet.cli.score",
    "compare": "detnet.cli.compare",
    "report": "detnet.cli.report",
    "export": "detnet.cli.export",
    "inspect": "detnet.cli.inspect",
    "weights": "detnet.cli.weights",
    "recipes": "detnet.cli.recipes",
    "info": "detnet.cli.info",
    "detectors": "detnet.cli.detectors",
}

EXIT_USER_ERROR = 2
EXIT_INTERRUPTED = 130  # 128 + SIGINT, as shells have it
EXIT_BROKEN_PIPE = 141  # 128 + SIGPIPE


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns the exit code of the process.

    A user's mistake (`InputError`, a missing file, a full disk) becomes one line on standard error
    and exit code 2; any other exception is a defect and keeps its traceback.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # names of files may hold any bytes
    try:
        code = _dispatch(sys.argv[1:] if argv is None else list(argv))
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        # The reader (`| head`) has gone; without this Python complains once more at exit.
        _silence_stdout()
        return EXIT_BROKEN_PIPE
    except (InputError, OSError) as error:
        _say(f"error: {message_of(error)}")
        return EXIT_USER_ERROR
    except KeyboardInterrupt:
        _say("interrupted")
        return EXIT_INTERRUPTED


def message_of(error: Exception) -> str:
    """The message of an error on a single line; for an OSError, the file and what went wrong."""
    if isinstance(error, OSError) and error.strerror:
        where = f"{os.fsdecode(error.filename)}: " if error.filename is not None else ""
        return f"{where}{error.strerror}"
    return one_line(error)


def summary_of(module: str) -> str:
    """First line of a module's docstring, read from its source without importing it."""
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        return ""
    tree = ast.parse(Path(spec.origin).read_text(encoding="utf-8"))
    return (ast.get_docstring(tree) or "").partition("\n")[0].rstrip(".")


def _dispatch(argv: list[str]) -> int:
    if not argv or argv[0] in ("-h", "--help"):
        print(_overview())
        return 0
    name, rest = argv[0], argv[1:]
    if name == "--version":
        print(f"detnet {detnet.__version__}")
        return 0
    if name not in COMMANDS:
        kind = "option" if name.startswith("-") else "command"
        known = ["--help", "--version"] if kind == "option" else list(COMMANDS)
        raise InputError(f"unknown {kind} {name!r}{did_you_mean(name, known)}; see `detnet --help`")
    # First of all, so that the names which they add are known to whatever reads the others.
    plugins = Parser(prog=f"detnet {name}", add_help=False)
    _add_plugin_argument(plugins)
    asked, rest = plugins.parse_known_args(rest)
    asked.plugins = load_plugins(asked.plugins)
    module: Any = importlib.import_module(COMMANDS[name])
    actions = getattr(module, "ACTIONS", {})
    if rest and rest[0] in actions:
        name, module, rest = f"{name} {rest[0]}", actions[rest[0]], rest[1:]
    try:
        args = make_parser(name, module).parse_args(rest, asked)
    except SystemExit as finished:  # argparse's --help
        return finished.code if isinstance(finished.code, int) else 0
    if is_main():
        when_reading(tell)
    return int(module.run(args))


def make_parser(name: str, module: ModuleType | type) -> Parser:
    """Gives a command's parser, with what all commands take.

    Args:
        name: as it is typed after `detnet`.
        module: the command's, or an action's class; its docstring is the help.
    """
    parser = Parser(
        prog=f"detnet {name}",
        description=getdoc(module),
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    command: Any = module
    command.add_arguments(parser)
    _add_plugin_argument(parser)
    return parser


def list_actions(name: str, actions: Mapping[str, type]) -> str:
    """What stands behind a command, for the end of its help.

    Args:
        name: of the command.
        actions: the first line of a class's docstring is its help.
    """
    width = max(map(len, actions))
    summaries = {
        action: (getdoc(each) or "").partition("\n")[0] for action, each in actions.items()
    }
    lines = [f"  {action:<{width}}  {text.rstrip('.')}" for action, text in summaries.items()]
    told = f"`detnet {name} ACTION --help` tells an action's options."
    return "\n".join(["actions:", *lines, "", told])


def _add_plugin_argument(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--plugin",
        dest="plugins",
        action="append",
        default=[],
        metavar="MODULE",
        help="import a module, from here or installed, that registers a backbone, a detector or "
        "another name of your own; one elsewhere as FOLDER/X.py or FOLDER:X; may be given several "
        "times",
    )


def _overview() -> str:
    width = max(map(len, COMMANDS))
    lines = [
        "usage: detnet COMMAND [options]",
        "",
        "Backbones designed for object detection: build, train, measure and use them.",
        "",
        "commands:",
        *(f"  {name:<{width}}  {summary_of(module)}" for name, module in COMMANDS.items()),
        "",
        "options:",
        f"  {'--version':<{width}}  the version of this program",
        "",
        "`detnet COMMAND --help` tells a command's options.",
    ]
    return "\n".join(lines)


def _say(message: str) -> None:
    with contextlib.suppress(OSError):  # nobody listens any more, but the exit code still tells
        print(f"detnet: {message}", file=sys.stderr, flush=True)


def _silence_stdout() -> None:
    devnull = os.open(os.devnull, os.O_WRONLY)
    try:
        os.dup2(devnull, sys.stdout.fileno())
    except (OSError, ValueError):
        pass  # standard output is no real file, so nothing is flushed at exit
    finally:
        os.close(devnull)
