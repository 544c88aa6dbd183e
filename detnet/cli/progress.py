"""Shows how far long work has come: a bar on a terminal, a plain line now and then elsewhere."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from rich.progress import Progress

Item = TypeVar("Item")
PLAIN_EVERY_S = 15.0


def track(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items while standard error tells how many there were and how long is left.

    Standard output stays free for results.

    Args:
        items: the work, one item per step.
        what: its name, "images".
        total: how many there will be; None if nobody knows.
    """
    if sys.stderr.isatty():
        yield from _bar(items, what, total)
    else:
        yield from _plain(items, what, total)


def new_bar(*, transient: bool) -> "Progress":
    """A bar on standard error: a text, how many of how many, the time so far and the time left.

    Args:
        transient: whether it disappears at the end.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=transient,
    )


@contextmanager
def telling(what: str) -> Iterator[Callable[[int, int], None]]:
    """Gives what tells of work that calls back: a function of (done, in all).

    Args:
        what: the name of what is done, "images read".
    """
    if not sys.stderr.isatty():
        yield _Lines(what).tell
        return
    with new_bar(transient=True) as bar:
        task = bar.add_task(what, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


def _bar(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    with new_bar(transient=True) as progress:
        task = progress.add_task(what, total=total)
        for item in items:
            progress.advance(task)
            yield item


def _plain(items: Iterable[Item], what: str, total: int | None) -> Iterator[Item]:
    lines = _Lines(what)
    for count, item in enumerate(items, 1):
        lines.tell(count, total)
        yield item


class _Lines:
    """A plain line now and then."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.start = self.said = time.monotonic()

    def tell(self, count: int, total: int | None) -> None:
        now = time.monotonic()
        if now - self.said >= PLAIN_EVERY_S:
            self.said = now
            line = plain_line(count, total, now - self.start, self.what)
            print(line, file=sys.stderr, flush=True)


def plain_line(count: int, total: int | None, elapsed_s: float, what: str) -> str:
    """One line of progress: "40 of 200 images, 24 s left"."""
    if not total:
        return f"{count} {what}, {elapsed_s:.0f} s"
    left_s = elapsed_s / count * max(total - count, 0)
    return f"{count} of {total} {what}, {left_s:.0f} s left"
