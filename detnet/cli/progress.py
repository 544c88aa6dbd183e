"""Shows how far long work has come: a bar on a terminal, a plain line now and then elsewhere."""

import json
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, TypeVar

from detnet.cli import EXIT_INTERRUPTED
from detnet.engine.launch import is_main
from detnet.errors import InputError
from detnet.text import duration

if TYPE_CHECKING:
    from pathlib import Path

    from rich.progress import Progress

Item = TypeVar("Item")
PLAIN_EVERY_S = 15.0
_SCORES = {name: name for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
_SCORES |= {"segm_AP": "masks AP", "keypoints_AP": "keypoints AP", "keypoints_AP50": "AP50"}
_SCORES |= {"top1_error": "top-1 error", "top5_error": "top-5 error"}


def track(items: Iterable[Item], *, what: str, total: int | None = None) -> Iterator[Item]:
    """Yields the items while standard error tells how many there were and how long is left.

    Standard output stays free for results.

    Args:
        items: the work, one item per step.
        what: its name, "images".
        total: how many there will be; None if nobody knows.
    """
    with telling(what) as tell:
        tell(0, total)
        for count, item in enumerate(items, 1):
            tell(count, total)
            yield item


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
def telling(what: str) -> Iterator[Callable[[int, int | None], None]]:
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


class _Lines:
    """A plain line now and then."""

    def __init__(self, what: str) -> None:
        self.what = what
        self.start = self.said = time.monotonic()

    def tell(self, count: int, total: int | None) -> None:
        now = time.monotonic()
        if count and now - self.said >= PLAIN_EVERY_S:
            self.said = now
            line = plain_line(count, total, now - self.start, self.what)
            print(line, file=sys.stderr, flush=True)


def plain_line(count: int, total: int | None, elapsed_s: float, what: str) -> str:
    """One line of progress: "40 of 200 images, 24 s left"."""
    if not total:
        return f"{count} {what}, {elapsed_s:.0f} s"
    left_s = elapsed_s / count * max(total - count, 0)
    return f"{count} of {total} {what}, {left_s:.0f} s left"


class Screen:
    """Shows events of trainings and searches on standard error, as a bar on a terminal.

    Enter it before the training: a loss that is not finite becomes an `InputError` that says how to
    go on.

    Args:
        again: the command that goes on with the training.
    """

    def __init__(self, *, again: str) -> None:
        self.again = again
        self.folder = ""
        self.end: dict[str, Any] = {}
        self._bar: Any = None
        self._task: Any = None
        self._iterations = self._started_at = 0
        self._clock = self._said = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        getattr(self, f"_{event['event']}")(event)

    def __enter__(self) -> "Screen":
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        self.close()
        if kind is not None and kind.__name__ == "NonFiniteLoss":  # its module imports torch
            raise InputError(
                f"{error}; the state before it is kept: look at these images, or lower lr in the "
                f"run's config.yaml, then go on with `{self.again}`"
            ) from error

    def finish(self, complete: bool, *, as_json: bool = False, folder: "Path | None" = None) -> int:
        """Says what came of it, and gives the exit code: 0, or 130 when it was interrupted.

        Args:
            as_json: print one object about the run's end on standard output.
            folder: of the run, which tells its end where it was complete before it was resumed.
        """
        if not is_main():
            return 0
        if not complete:
            print(f"saved; go on with: {self.again}", file=sys.stderr)
            return EXIT_INTERRUPTED
        if as_json:
            if folder is not None and not self.end:
                from detnet.engine.runs import RunFolder

                self._keep_end(RunFolder(folder).end() or {})
            print(json.dumps({"run": self.folder or str(folder or ""), **self.end}))
        return 0

    def close(self) -> None:
        """Takes the bar away."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _note(self, event: dict[str, Any]) -> None:
        self._say(event["text"])

    def _start(self, event: dict[str, Any]) -> None:
        self._iterations, self._started_at = event["iterations"], event["iteration"]
        self.folder = event["folder"]
        self._clock = self._said = time.monotonic()
        processes = f", {event['processes']} processes" if event["processes"] > 1 else ""
        self._say(
            f"{event['images']} training and {event['val_images']} validation images, "
            f"{event['params'] / 1e6:.2f} M parameters, {event['device']} {event['precision']}"
            f"{processes}; iterations {event['iteration']} to {event['iterations']}, "
            f"{event['per_epoch']} an epoch; run folder {event['folder']}"
        )
        self._clock = time.monotonic()
        self.close()  # of the training before, where one command has several
        if sys.stderr.isatty():
            self._open_bar(event)

    def _progress(self, event: dict[str, Any]) -> None:
        done = event["iteration"]
        text = f"loss {event['loss']:.3f}  {event['images_per_s']:.1f} images/s"
        now = time.monotonic()
        if self._bar is not None:
            self._bar.update(self._task, completed=done, description=text)
            return
        first = done == self._started_at + 5
        if first or now - self._said >= PLAIN_EVERY_S or done == self._iterations:
            self._said = now
            left = (now - self._clock) / (done - self._started_at) * (self._iterations - done)
            self._say(
                f"iteration {done} of {self._iterations}  epoch {event['epoch']:.1f}  {text}  "
                f"lr {event['lr']:.4g}  {duration(left)} left"
            )

    def _evaluation(self, event: dict[str, Any]) -> None:
        shown = [
            f"{text} {100 * event[name]:.1f}"
            for name, text in _SCORES.items()
            if event.get(name) is not None
        ]
        if event.get("val_loss") is not None:
            shown.append(f"validation loss {event['val_loss']:.3f}")
        best = "  (best so far)" if event["best"] else ""
        self._say(f"evaluation at epoch {event['epoch']:.1f}: {'  '.join(shown)}{best}")

    def _end(self, event: dict[str, Any]) -> None:
        self._keep_end(event)
        early = ", stopped early" if event["stopped_early"] else ""
        best = ""
        if event["best"] is not None:
            best = f"; best score {100 * event['best']:.1f} at iteration {event['best_iteration']}"
        self._say(f"done after {duration(event['seconds'])}{early}{best}")

    def _keep_end(self, event: dict[str, Any]) -> None:
        self.end = {name: value for name, value in event.items() if name != "event"}

    def _generation(self, event: dict[str, Any]) -> None:
        count = event.get("candidates")
        told = f": {count} candidates" if count else ""
        self._say(f"generation {event['generation']}{told}")

    def _candidate(self, event: dict[str, Any]) -> None:
        self._say(candidate_text(event))

    def _open_bar(self, event: dict[str, Any]) -> None:
        self._bar = new_bar(transient=False)
        self._task = self._bar.add_task(
            "training", total=event["iterations"], completed=event["iteration"]
        )
        self._bar.start()

    def _say(self, text: str) -> None:
        if self._bar is not None:
            self._bar.console.print(text, highlight=False, markup=False)
        else:
            print(text, file=sys.stderr, flush=True)


def candidate_text(event: dict[str, Any]) -> str:
    """A scored or failed candidate in words."""
    where = f"candidate {event['settled']} of {event['candidates']}"
    costs = f"{event['costs']['macs'] / 1e6:.1f} M multiply-adds"
    if event["state"] == "done":
        best = f" (best so far {100 * event['best']:.2f})" if event["best"] is not None else ""
        how = f"score {100 * event['values'][0]:.2f}{best}"
    else:
        again = "; tried again" if event["state"] == "waiting" else "; left out"
        how = f"failed: {event['error']}{again}"
    took = f", {event['seconds']:.1f} s" if event["seconds"] is not None else ""
    found = event.get("hit_rate")
    kept = f", {found:.0%} of images from memory" if found is not None else ""
    return f"  {where}: {event['text']}, {costs}{took}{kept}: {how}"
