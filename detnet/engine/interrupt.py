"""Signals become a flag, so that a run ends between two steps."""

import os
import signal
import threading
import time
from collections.abc import Callable
from types import FrameType, TracebackType
from typing import Any


class Interrupt:
    """Turns SIGTERM and Ctrl-C into the flag `set`, so that a run ends between two steps.

    Enter it before the data loader starts its workers: they inherit its handlers, and a signal to
    the whole process group does not end them first. A second Ctrl-C, two seconds later or more, is
    Python's own KeyboardInterrupt (torchrun repeats the first one at once). Nested, the inner one
    takes over the outer one's flag when it begins, and hands it back when it ends. Outside the main
    thread, where Python allows no handlers, the flag can only be set by hand.

    Args:
        heard: called at once with the name of the first signal, on a thread of its own: the main
            one may be anywhere, in the middle of a line that it prints, too.
    """

    patience_s = 2.0

    def __init__(self, heard: Callable[[str], None] | None = None) -> None:
        self._heard = heard
        self.set = False
        self.signal: str | None = None
        self._process = os.getpid()
        self._since = 0.0
        self._before: dict[int, Any] = {}
        self._around: Interrupt | None = None

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._install(number, self._handle)
            around = getattr(self._before[signal.SIGTERM], "__self__", None)
            if isinstance(around, Interrupt):
                self._around = around
                self._take(around)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()
        if self._around is not None:  # which heard nothing meanwhile
            self._around._take(self)

    def _take(self, other: "Interrupt") -> None:
        if other.set:  # else one that comes just now would be lost
            self.set, self.signal, self._since = True, other.signal, other._since

    def _install(self, number: int, handler: Any) -> None:
        self._before[number] = signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker of the data loader: the main process tells it when to end
        now = time.monotonic()
        if not self.set:
            self.set, self.signal, self._since = True, signal.Signals(number).name, now
            if self._heard is not None:
                threading.Thread(target=self._heard, args=(self.signal,), daemon=True).start()
            # A SIGTERM to the group ends the workers too. torch would raise at their death
            # wherever this process is, in the middle of a step; the next batch tells soon enough.
            if hasattr(signal, "SIGCHLD"):
                self._install(signal.SIGCHLD, signal.SIG_DFL)
        elif number == signal.SIGINT and now - self._since >= self.patience_s:
            raise KeyboardInterrupt
