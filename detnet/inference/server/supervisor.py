"""Holds the address, keeps a worker alive behind it, and ends it in order."""

import contextlib
import errno
import json
import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from detnet.errors import InputError
from detnet.inference.server.settings import TAKES_LESS, ServerSettings

_BACKLOG = 256  # connections that wait to be accepted, also while a worker is replaced
_ENDING = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_GRACE_S = 0.7  # beyond the worker's own time to end
_STEADY_S = 10.0  # of a worker that was ready so long the next one follows at once
_LONGEST_PAUSE_S = 30.0


def listen(host: str, port: int) -> socket.socket:
    """Takes the address, before a model is loaded that could not be served without it.

    Raises:
        InputError: the port is in use or not allowed, or there is no such address.
    """
    if not 0 <= port < 65536:
        raise InputError(f"--port must be 0 … 65535, got {port}")
    try:
        kind, *_, address = socket.getaddrinfo(
            host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE
        )[0]
    except (OSError, UnicodeError):
        raise InputError(f"--host {host}: no address of this machine") from None
    listener = socket.socket(kind, socket.SOCK_STREAM)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(_BACKLOG)
    except OSError as error:
        listener.close()
        raise InputError(_why_not(host, port, error)) from None
    return listener


def _why_not(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return f"port {port} of {host} is in use; choose another by --port, or 0 for any"
    if error.errno == errno.EACCES:
        return f"port {port} of {host} is not allowed to this user; choose one from 1024 by --port"
    if error.errno == errno.EADDRNOTAVAIL:
        return f"--host {host}: no address of this machine"
    return f"port {port} of {host} cannot be used: {error.strerror}"


@dataclass
class _WorkerProcess:
    """A running worker: its process, the pipe that it reports by, and what came through it."""

    process: subprocess.Popen[bytes]
    status: int
    started: float
    ready_at: float | None = None
    read: bytes = b""


class Supervisor:
    """Starts a worker, starts another when it ends by itself, and stops it when told to.

    Args:
        settings: for the worker.
        listener: a socket that listens; workers share it, so that connections wait while one is
            replaced.
        on_ready: called with a worker's facts (engine, precision, runs_as, load_s, image_s,
            and whether it is the first).
        say: takes what an operator should read, a line.
    """

    def __init__(
        self,
        settings: ServerSettings,
        listener: socket.socket,
        *,
        on_ready: Callable[[dict[str, Any]], None],
        say: Callable[[str], None],
    ) -> None:
        self._settings = settings
        self._listener = listener
        self._on_ready = on_ready
        self._say = say
        self._been_ready = False
        self._short_lives = 0

    def run(self) -> None:
        """Serves until the process gets SIGTERM, SIGINT or, unless started by nohup, SIGHUP.

        Raises:
            InputError: the model cannot be served.
        """
        with _signals() as told:
            pause_s = 0.0
            while not told.wait(pause_s):
                worker = self._start()
                try:
                    stopped = self._follow(worker, told)
                finally:
                    _end(worker)
                if stopped:
                    return
                pause_s = self._pause(worker)

    def _start(self) -> _WorkerProcess:
        read, write = os.pipe()
        descriptors = (self._listener.fileno(), write)
        process = subprocess.Popen(
            [sys.executable, "-m", "detnet.inference.server.worker", *map(str, descriptors)],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            pass_fds=descriptors,
            start_new_session=True,  # Ctrl-C is for the parent, which ends it in order
        )
        os.close(write)
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # it ended already, and `_follow` says why
            process.stdin.write(self._settings.to_json().encode() + b"\n")
            process.stdin.flush()
        return _WorkerProcess(process, read, time.monotonic())

    def _follow(self, worker: _WorkerProcess, told: "_Told") -> bool:
        """Listens to a worker until it ends; tells whether that was wanted."""
        deadline: float | None = None
        pipes = [told.descriptor, worker.status]
        while worker.process.poll() is None:  # the signal of its end wakes `select`
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                self._say("the worker did not end in time, and is killed")
                return True
            ready, _, _ = select.select(pipes, [], [], left)
            if told.descriptor in ready and told.to_end():
                if deadline is not None:  # told twice
                    return True
                self._listener.close()
                limit = self._settings.limits.stop_s
                self._say(f"stopping: what was accepted is finished, within {limit + 1:g} s")
                worker.process.terminate()
                deadline = time.monotonic() + limit + _GRACE_S
            if worker.status in ready and not self._read(worker):
                pipes.remove(worker.status)  # it tells no more, and has not ended yet
        while select.select([worker.status], [], [], 0)[0] and self._read(worker):
            pass
        return deadline is not None

    def _read(self, worker: _WorkerProcess) -> bool:
        """Takes what a worker tells; False once it tells no more."""
        data = os.read(worker.status, 65536)
        *lines, worker.read = (worker.read + data).split(b"\n")
        for line in lines:
            facts: dict[str, Any] = json.loads(line)
            if "failed" in facts and not self._been_ready:
                raise InputError(facts["failed"])
            if "failed" in facts:
                self._say(facts["failed"])
            else:
                worker.ready_at = time.monotonic()
                first, self._been_ready = not self._been_ready, True
                # The next one need not try it out before it answers: two images' time.
                self._settings = replace(self._settings, image_s=facts["image_s"])
                self._on_ready({**facts, "first": first})
        return bool(data)

    def _pause(self, worker: _WorkerProcess) -> float:
        """Says that a worker is gone, and how long to wait before the next."""
        code = worker.process.wait()
        how = f"by signal {-code}" if code < 0 else f"with exit code {code}"
        if code == -signal.SIGKILL:
            how += f" (as where memory runs out; {TAKES_LESS})"
        if not self._been_ready:
            raise InputError(f"the server's worker ended {how} before it was ready")
        ready_at = worker.ready_at
        steady = ready_at is not None and time.monotonic() - ready_at > _STEADY_S
        self._short_lives = 0 if steady else self._short_lives + 1
        # Not at all at first, then 1, 2, 4 … s: what ends as soon as it begins needs a person.
        pause_s = min(_LONGEST_PAUSE_S, 2.0 ** (self._short_lives - 2)) * (self._short_lives > 1)
        when = f"in {pause_s:g} s" if pause_s else "now"
        self._say(f"the worker ended {how}; another is started {when}")
        return pause_s


class _Told:
    """The signals that this process got."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor  # where each is a byte, its number

    def to_end(self) -> bool:
        """Takes the signals that came; whether one of them ends the server."""
        return any(number in _ENDING for number in os.read(self.descriptor, 4096))

    def wait(self, seconds: float) -> bool:
        """Waits so long, or until it is told to end."""
        end = time.monotonic() + seconds
        while select.select([self.descriptor], [], [], max(0.0, end - time.monotonic()))[0]:
            if self.to_end():
                return True
        return False


@contextlib.contextmanager
def _signals() -> Iterator[_Told]:
    """Catches the signals that end a server, and that a worker's end sends; `select` sees them."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    ending = [
        number
        for number in _ENDING
        if number != signal.SIGHUP or signal.getsignal(number) != signal.SIG_IGN  # by nohup
    ]
    caught = (*ending, signal.SIGCHLD)
    before = [(number, signal.signal(number, lambda *_: None)) for number in caught]
    wakeup = signal.set_wakeup_fd(write, warn_on_full_buffer=False)
    try:
        yield _Told(read)
    finally:
        signal.set_wakeup_fd(wakeup)
        for number, handler in before:
            signal.signal(number, handler)
        os.close(read)
        os.close(write)


def _end(worker: _WorkerProcess) -> None:
    if worker.process.poll() is None:
        worker.process.kill()
    worker.process.wait()
    assert worker.process.stdin is not None
    with contextlib.suppress(OSError):
        worker.process.stdin.close()
    os.close(worker.status)
