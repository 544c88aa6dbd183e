"""Who of several processes has ended before its time: each keeps a connection open to the first.

Where one process does not come to an exchange, it fails on some of the others, keeps the rest
waiting for hours, and says nowhere who was missing. The system closes a process's connections
however it ends, `kill -9` too. A machine that vanishes closes nothing: what is sent to it is not
acknowledged, and the system gives up the connection. A process that stands still on a machine that
is alive is silent: so each says from time to time that it is there. Needs no torch.
"""

import contextlib
import errno
import json
import os
import secrets
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any

PATIENCE_S = 20.0  # for an exchange to fail by itself, after somebody was lost
_REACH_S = 60.0  # to reach the first process
_LOOK_S = 0.5  # between two looks whether the first process is at its end
_BEAT_S = 10.0  # between two words that a process is there
SILENCE_S = 300.0  # without one, to be lost: a computation may keep the interpreter for minutes
# The system's own questions on a silent connection: after 10 s, 4 times every 5 s;
# and for how long, in thousandths of a second, what was sent may go unacknowledged.
_ASKING = {"TCP_KEEPIDLE": 10, "TCP_KEEPALIVE": 10, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 4}
_ASKING |= {"TCP_USER_TIMEOUT": 30_000}
_UNREACHABLE = (errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH)
_KEY = "peers"

Stuck = Callable[[str], object]
_open: set["Peers"] = set()
_when_stuck: list[Stuck] = []


class LostProcess(ConnectionError):
    """Another process has ended before its time; the message says which and, where it told, why."""


def when_stuck(end: Stuck) -> None:
    """Says what ends this process if it still waits for a lost one after `PATIENCE_S`.

    Args:
        end: called with the message of a `LostProcess`, on a thread of its own.
    """
    _when_stuck[:] = [end]


class Peers:
    """The processes of a group, of which each learns that another is lost.

    Args:
        store: the group's, of torch's kind, through which the first says where it listens.
        rank: of this process.
        count: of processes.
        address: of the first process's machine.

    Raises:
        LostProcess: the first process cannot be reached.
    """

    def __init__(self, store: Any, rank: int, count: int, address: str) -> None:
        self._rank, self._count = rank, count
        self._places = {rank: place()}
        self._connections: dict[int, socket.socket] = {}
        self._selector = selectors.DefaultSelector()
        self._heard, self._over = threading.Event(), threading.Event()
        self._what = ""
        self._lock = threading.Lock()
        if rank == 0:
            self._secret = secrets.token_hex(16)
            self._server: socket.socket | None = _listen()
            self._selector.register(self._server, selectors.EVENT_READ, None)
            port = self._server.getsockname()[1]
            store.set(_KEY, json.dumps([port, self._secret, place()]))
        else:
            port, self._secret, self._places[0] = json.loads(store.get(_KEY))
            self._server = None
            self._connections[0] = _reach(address, port)
            self._selector.register(self._connections[0], selectors.EVENT_READ, _Words(0))
            self._say(0, {"rank": rank, "secret": self._secret, "place": place()})
        _open.add(self)
        threading.Thread(target=self._listen, name="peers", daemon=True).start()

    def lost(self, *, within_s: float) -> str:
        """What happened to another process, "" if no news of it comes within that time."""
        self._heard.wait(within_s)
        return self._what

    def leave(self, why: str = "") -> None:
        """Tells the others that this process ends.

        Args:
            why: this process ends before its time; "" where it is done.
        """
        word = {"end": why}
        if why and self._rank == 0 and not self._heard.is_set():
            word = {"lost": self._name(0, why)}
        for rank in list(self._connections):
            self._say(rank, word)

    def close(self) -> None:
        """Closes the connections, when nothing is exchanged any more."""
        self._over.set()
        _open.discard(self)

    def _listen(self) -> None:
        """The thread's work."""
        said = time.monotonic()
        while not self._over.is_set() and not self._heard.is_set():
            for key, _ in self._selector.select(min(_LOOK_S, _BEAT_S)):
                if key.fileobj is self._server:
                    self._accept(self._server)
                else:
                    self._read(key.fileobj, key.data)
            since = time.monotonic() - said
            if since >= _BEAT_S:
                said += since
                self._beat(late=since > 2 * _BEAT_S + _LOOK_S)
        if self._heard.is_set() and not self._over.wait(PATIENCE_S):
            for end in _when_stuck:
                end(self._what)
        for connection in [*self._connections.values(), *([self._server] if self._server else [])]:
            connection.close()
        self._selector.close()

    def _beat(self, *, late: bool) -> None:
        """Says that this process is there, and looks who has long not said so.

        Args:
            late: this process has stood still itself, and waits for the others from now on.
        """
        for rank in list(self._connections):
            self._say(rank, {"here": self._rank})
        now = time.monotonic()
        for key in list(self._selector.get_map().values()):
            words: _Words | None = key.data
            if words is None or words.rank is None or words.done:
                continue
            if late:
                words.heard = now
            if now - words.heard > SILENCE_S:
                self._note(
                    f"{self._who(words.rank)} has said nothing for {now - words.heard:.0f} s: see "
                    "whether it is stopped (state T in `ps`), its machine swaps, or is off the "
                    "network"
                )

    def _accept(self, server: Any) -> None:
        with contextlib.suppress(OSError):
            connection, _ = server.accept()
            _keep_alive(connection)
            self._selector.register(connection, selectors.EVENT_READ, _Words())

    def _read(self, connection: Any, words: "_Words") -> None:
        """Takes in what has come on a connection, or that it is closed."""
        why = ""
        try:
            some = connection.recv(4096)
            words.heard = time.monotonic()
        except OSError as error:
            some = b""
            if error.errno in _UNREACHABLE:
                why = error.strerror or str(error)
        for word in words.more(some):
            if self._rank == 0 and words.rank is None:
                if word.get("secret") != self._secret or not isinstance(word.get("rank"), int):
                    break
                words.rank = word["rank"]
                self._connections[words.rank] = connection
                self._places[words.rank] = str(word.get("place"))
            elif "lost" in word:
                self._note(str(word["lost"]))
            elif word.get("end") == "":
                words.done = True
            elif "end" in word and words.rank is not None:
                self._note(self._name(words.rank, str(word["end"])))
        if not some:
            self._drop(connection, words, why)

    def _drop(self, connection: Any, words: "_Words", unreachable: str) -> None:
        self._selector.unregister(connection)
        if words.rank is not None:
            self._connections.pop(words.rank, None)
            if not words.done and not self._over.is_set():
                what = self._name(words.rank, "")
                if unreachable:
                    what = (
                        f"{self._who(words.rank)} cannot be reached any more ({unreachable}): see "
                        "whether its machine is on, on the network, and still part of the job"
                    )
                self._note(what)
        connection.close()

    def _note(self, what: str) -> None:
        """Takes in that somebody is lost, and tells all others."""
        if self._heard.is_set():
            return
        self._what = what
        self._heard.set()
        if self._rank == 0:
            for rank in list(self._connections):
                self._say(rank, {"lost": what})

    def _name(self, rank: int, why: str) -> str:
        what = f"has ended: {why}" if why else "has ended without a word, as after kill -9"
        return f"{self._who(rank)} {what}"

    def _who(self, rank: int) -> str:
        return f"rank {rank} of {self._count} processes ({self._places[rank]})"

    def _say(self, rank: int, word: Mapping[str, Any]) -> None:
        connection = self._connections.get(rank)
        with self._lock, contextlib.suppress(OSError):
            if connection is not None:
                connection.sendall(json.dumps(word).encode() + b"\n")

    def let_go(self) -> None:
        """Closes a forked process's share in the connections: they would outlive this process."""
        for key in list((self._selector.get_map() or {}).values()):
            key.fileobj.close()  # type: ignore[union-attr]


class _Words:
    """What has come on one connection, and from whom; None until they have said it."""

    def __init__(self, rank: int | None = None) -> None:
        self.rank = rank
        self.done = False
        self.heard = time.monotonic()  # when something came last
        self._rest = b""

    def more(self, some: bytes) -> Iterator[dict[str, Any]]:
        *lines, self._rest = (self._rest + some).split(b"\n")
        for line in lines:
            with contextlib.suppress(ValueError):
                word = json.loads(line)
                if isinstance(word, dict):
                    yield word


def place() -> str:
    """Where this process is, for messages."""
    return f"id {os.getpid()} on {socket.gethostname()}"


def _listen() -> socket.socket:
    if socket.has_dualstack_ipv6():
        return socket.create_server(("", 0), family=socket.AF_INET6, dualstack_ipv6=True)
    return socket.create_server(("", 0))


def _reach(address: str, port: int) -> socket.socket:
    try:
        connection = socket.create_connection((address, port), timeout=_REACH_S)
    except OSError as error:
        where = f"{address}, port {port}"
        raise LostProcess(f"rank 0 cannot be reached at {where}: {error.strerror}") from error
    connection.settimeout(None)
    _keep_alive(connection)
    return connection


def _keep_alive(connection: socket.socket) -> None:
    """Has the system ask from time to time whether the other machine is still there."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _ASKING.items():
        if hasattr(socket, name):  # not all systems know all of them
            connection.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)


def _let_go() -> None:
    for peers in _open:
        peers.let_go()
    _open.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)
