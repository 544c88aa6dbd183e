"""Tells a person at a terminal how a training run goes: notes, a bar with the time left, scores."""

import json
import sys
import time
from collections.abc import Callable
from typing import Any

from detnet.cli import EXIT_INTERRUPTED
from detnet.cli.progress import PLAIN_EVERY_S, new_bar
from detnet.errors import InputError

_SCORES = {name: name for name in ("AP", "AP50", "AP75", "APs", "APm", "APl")}
_SCORES |= {"segm_AP": "masks AP", "keypoints_AP": "keypoints AP", "keypoints_AP50": "AP50"}
_SCORES |= {"top1_error": "top-1 error", "top5_error": "top-5 error"}

Watch = Callable[[dict[str, Any]], None]


def follow(start: Callable[[Watch], bool], *, again: str, as_json: bool = False) -> int:
    """Runs a training and shows its events on standard error.

    Args:
        start: runs it with a watcher; False when it was interrupted.
        again: the command that goes on with it.
        as_json: print one object about the run's end on standard output.

    Returns:
        the exit code: 0, or 130 when interrupted.

    Raises:
        InputError: also for a loss that is not finite.
    """
    from detnet.engine.loop import NonFiniteLoss

    screen = _Screen()
    try:
        complete = start(screen)
    except NonFiniteLoss as error:
        raise InputError(
            f"{error}; the state before it is kept: look at these images, or lower lr in the run's "
            f"config.yaml, then go on with `{again}`"
        ) from error
    finally:
        screen.close()
    if not screen.main:
        return 0
    if not complete:
        print(f"saved; go on with: {again}", file=sys.stderr)
        return EXIT_INTERRUPTED
    if as_json:
        print(json.dumps({"run": screen.folder, **screen.end}))
    return 0


class _Screen:
    """Shows events: a rich bar on a terminal, plain lines elsewhere."""

    def __init__(self) -> None:
        self.main = False  # other processes see no events
        self.folder = ""
        self.end: dict[str, Any] = {}
        self._bar: Any = None
        self._task: Any = None
        self._iterations = self._started_at = 0
        self._clock = self._said = time.monotonic()

    def __call__(self, event: dict[str, Any]) -> None:
        self.main = True
        getattr(self, f"_{event['event']}")(event)

    def close(self) -> None:
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
        self.end = {name: value for name, value in event.items() if name != "event"}
        early = ", stopped early" if event["stopped_early"] else ""
        best = ""
        if event["best"] is not None:
            best = f"; best score {100 * event['best']:.1f} at iteration {event['best_iteration']}"
        self._say(f"done after {duration(event['seconds'])}{early}{best}")

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


def duration(seconds: float) -> str:
    """A time a person can read: "3 h 05 min", "12 min", "40 s"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes // 60} h {minutes % 60:02d} min" if minutes >= 60 else f"{minutes} min"
