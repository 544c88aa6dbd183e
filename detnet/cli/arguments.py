"""An argparse parser whose mistakes are `InputError`s of one line, with the nearest name."""

import argparse
import re
from collections.abc import Iterable, Sequence
from typing import Any, NoReturn

from detnet.errors import InputError
from detnet.tables import nearest

_CHOICE = re.compile(
    r"^(?P<what>.+): invalid choice: '(?P<seen>[^']*)' \(choose from (?P<all>.*)\)$"
)


class Parser(argparse.ArgumentParser):
    """Raises `InputError` instead of printing a usage page and ending the process.

    Abbreviated options are off: `--out` must not change its meaning when an option is added.
    """

    def __init__(self, **options: Any) -> None:
        super().__init__(**{"allow_abbrev": False, **options})

    def parse_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> argparse.Namespace:
        """Parses everything or raises `InputError` naming the first argument not understood."""
        parsed, extra = self.parse_known_args(args, namespace)
        if extra:
            name = extra[0].partition("=")[0]
            if name.startswith("-"):
                options = [option for action in self._actions for option in action.option_strings]
                self.error(f"unknown option {name!r}{did_you_mean(name, options)}")
            self.error(f"unexpected argument {name!r}")
        return parsed

    def error(self, message: str) -> NoReturn:
        """Raises the mistake as an `InputError` that says where the options are listed."""
        choice = _CHOICE.match(message)
        if choice:
            names = [name.strip().strip("'") for name in choice["all"].split(",")]
            hint = did_you_mean(choice["seen"], names)
            message = (
                f"{choice['what']}: unknown {choice['seen']!r}{hint}; one of {', '.join(names)}"
            )
        raise InputError(f"{message}; see `{self.prog} --help`")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A remark ` (did you mean 'x'?)` when one of the known names is near, else nothing."""
    near = nearest(name, known)
    return f" (did you mean {near!r}?)" if near else ""
