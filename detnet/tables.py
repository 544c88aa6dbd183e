"""Tables of names whose values are imported only when they are asked for, open to plugins."""

import difflib
import importlib
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from detnet.errors import InputError

_FEW = 8  # names that are listed beside the nearest


class NameTable(Mapping[str, Any]):
    """A dict from published name to builder that imports a builder on first use.

    Listing the names costs no import of torch, which keeps `detnet COMMAND --help` fast.

    Args:
        kind: what the names are, for messages: "backbone", "detector".
        homes: name -> "module:function".
        listed_by: the command that lists the names, for messages.
    """

    def __init__(self, kind: str, homes: Mapping[str, str], listed_by: str = "") -> None:
        self.kind, self.listed_by = kind, listed_by
        self._homes: dict[str, Any] = dict(homes)

    def register(self, name: str, value: Any) -> None:
        """Adds a name; a module that does so is named by `--plugin MODULE`.

        Args:
            name: new, of letters, digits, "_", "-" and ".".
            value: what the name stands for, or "module:function", to be imported on first use.

        Raises:
            ValueError: the name stands for something else already, or is no valid name. A
                function or class defined again, as in a notebook's cell, replaces its old self.
        """
        if not re.fullmatch(r"[\w.-]+", name):
            raise ValueError(f"{name!r} is no name of a {self.kind}: letters, digits, _, - and .")
        known = self._homes.get(name, value)
        if known is not value and known != value and _definition(known) != _definition(value):
            raise ValueError(f"there is a {self.kind} {name!r} already: {known}")
        self._homes[name] = value

    def require(self, name: str) -> None:
        """Refuses a name that stands for nothing; imports nothing.

        Raises:
            InputError: naming the nearest.
        """
        if not isinstance(name, str):
            raise InputError(
                f"a {self.kind} is asked for by its name, got a {type(name).__name__}; "
                "`register` what makes yours under a name of its own"
            )
        if name not in self._homes:
            raise InputError(self.unknown(name))

    def unknown(self, name: object, others: Iterable[str] = ()) -> str:
        """Says that a name stands for nothing, and how a plugin's name comes to be known.

        Args:
            others: names beside the table's.
        """
        hint = "a plugin's is known with --plugin MODULE"
        said = unknown_name(self.kind, name, [*self._homes, *others], hint)
        left_out = self.listed_by and said.endswith(hint)
        return f"{said}; `{self.listed_by}` lists all" if left_out else said

    def __getitem__(self, name: str) -> Any:
        self.require(name)
        home = self._homes[name]
        if not isinstance(home, str):
            return home
        module, function = home.split(":")
        return getattr(importlib.import_module(module), function)

    def __contains__(self, name: object) -> bool:
        return name in self._homes

    def __iter__(self) -> Iterator[str]:
        return iter(self._homes)

    def __len__(self) -> int:
        return len(self._homes)

    def __repr__(self) -> str:
        return f"<{self.kind}s: {', '.join(self)}>"


def _definition(value: Any) -> object:
    """Where a function or class is written; anything else stands for itself."""
    if not hasattr(value, "__qualname__"):
        return value
    return value.__module__, value.__qualname__


def nearest(name: str, known: Iterable[str]) -> str | None:
    """The known name that was probably meant, None if no one is near."""
    names = list(known)
    longer = [other for other in names if other.startswith(name)]
    if len(longer) == 1:  # an abbreviation, which difflib would find farther than a short name
        return longer[0]
    near = difflib.get_close_matches(name, names, n=8, cutoff=0.5)
    # Of those alike, difflib puts detnet110 before detnet59 for detnet60: it counts equal letters.
    return min(near, key=lambda other: _distance(name, other), default=None)


def _distance(name: str, other: str) -> tuple[int, int]:
    """How many letters were mistyped or, next to each other, swapped; then the lengths' difference.

    Damerau 1964, in its restricted form.
    """
    before: list[int] = []
    row = list(range(len(other) + 1))
    for i, a in enumerate(name, 1):
        before, last, row = row, before, [i]
        for j, b in enumerate(other, 1):
            cost = min(before[j] + 1, row[-1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and (a, name[i - 2]) == (other[j - 2], b):
                cost = min(cost, last[j - 2] + 1)
            row.append(cost)
    return row[-1], abs(len(name) - len(other))


def require_known(kind: str, given: Iterable[str], allowed: Iterable[str]) -> None:
    """Refuses the first name that is not allowed.

    Raises:
        InputError: as `unknown_name` says it.
    """
    known = list(dict.fromkeys(allowed))
    for name in given:
        if name not in known:
            raise InputError(unknown_name(kind, name, known))


def unknown_name(kind: str, name: object, allowed: Iterable[str], hint: str = "") -> str:
    """Says that `name` is not allowed, and what is: the nearest, and all if these are few.

    Args:
        hint: stands before a list, which may be long.
    """
    names = list(allowed)
    near = nearest(str(name), names)
    parts = [f"did you mean {near!r}?"] if near else []
    parts += [hint] if hint else []
    if not near or len(names) <= _FEW:
        parts.append(f"choose from: {', '.join(names)}")
    text = "; ".join(parts).replace("?; ", "? ")
    return f"unknown {kind} {name!r}; {text}"
