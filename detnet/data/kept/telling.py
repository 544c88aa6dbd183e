"""Whom to tell of a reading that takes long; the command line says it, nobody else does."""

from collections.abc import Callable

_listeners: list[Callable[[str], object]] = []


def when_reading(tell: Callable[[str], object]) -> None:
    """Says who is told, before it begins, that a large annotation file is read.

    Args:
        tell: called with a line that names the file.
    """
    _listeners[:] = [tell]


def say_reading(line: str) -> None:
    """Tells whoever wants to know."""
    for tell in _listeners:
        tell(line)
