"""Lines between processes, mostly between threads of one; `test_runs_of_eight.py` kills others."""

import errno
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

import detnet
from detnet.engine import peers as subject
from detnet.engine.peers import LostProcess, Peers, place, when_stuck

SOON_S = 5.0


@pytest.fixture
def three(tmp_path: Path) -> Iterator[list[Peers]]:
    """Three that have met."""
    store = dist.FileStore(str(tmp_path / "store"), 3)
    store.set_timeout(timedelta(seconds=SOON_S))
    met = [Peers(store, rank, 3, "127.0.0.1") for rank in range(3)]
    end = time.monotonic() + SOON_S
    while len(met[0]._connections) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    yield met
    for one in met:
        one.close()


@pytest.mark.parametrize("rank", [0, 2])
def test_all_others_learn_why_one_has_ended(rank: int, three: list[Peers]) -> None:
    three[rank].leave("data: no such folder")
    three[rank].close()
    told = f"rank {rank} of 3 processes ({place()}) has ended: data: no such folder"
    for other in {0, 1, 2} - {rank}:
        assert three[other].lost(within_s=SOON_S) == told
    assert str(os.getpid()) in told


@pytest.mark.parametrize("rank", [0, 2])
def test_a_death_without_a_word_is_noticed(rank: int, three: list[Peers]) -> None:
    three[rank].close()
    for other in {0, 1, 2} - {rank}:
        assert "has ended without a word, as after kill -9" in three[other].lost(within_s=SOON_S)
    assert f"rank {rank} of 3" in three[1].lost(within_s=0)


def test_an_end_in_order_is_no_loss(three: list[Peers]) -> None:
    for one in reversed(three):
        one.leave()
        one.close()
    assert [one.lost(within_s=0.1) for one in three] == [""] * 3


def test_who_waits_for_ever_is_ended(three: list[Peers], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(subject, "PATIENCE_S", 0.1)
    ended: list[str] = []
    monkeypatch.setattr(subject, "_when_stuck", [])
    when_stuck(ended.append)
    three[1].leave("out of memory")
    three[1].close()
    end = time.monotonic() + SOON_S
    while len(ended) < 2 and time.monotonic() < end:
        time.sleep(0.01)
    assert ended == [f"rank 1 of 3 processes ({place()}) has ended: out of memory"] * 2


def test_a_stranger_is_not_listened_to(three: list[Peers]) -> None:
    server = three[0]._server
    assert server is not None
    with socket.create_connection(("127.0.0.1", server.getsockname()[1])) as line:
        for word in ({"rank": 2, "secret": "guessed"}, {"lost": "all"}, {"end": "me"}, ["x"], 3):
            line.sendall(json.dumps(word).encode() + b"\n")
        line.sendall(b"\xff\x00 no JSON\n")
    assert three[0].lost(within_s=0.3) == "" and set(three[0]._connections) == {1, 2}


def test_a_first_process_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store.set("peers", json.dumps([port, "secret", "id 1 on far"]))
    with pytest.raises(LostProcess, match=rf"rank 0 cannot be reached at 127.0.0.1, port {port}"):
        Peers(store, 1, 2, "127.0.0.1")


PEER = """
import sys, time
from pathlib import Path
from detnet.engine import peers
class Store:
    def get(self, key):
        while not (file := Path(sys.argv[1], key)).exists():
            time.sleep(0.01)
        return file.read_bytes()
peers._BEAT_S, peers.SILENCE_S = 0.1, float(sys.argv[3])
print(peers.Peers(Store(), int(sys.argv[2]), 3, "127.0.0.1").lost(within_s=60))
"""


class Folder:
    """A store of the group's; whoever reads finds it whole."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def set(self, key: str, value: str) -> None:
        (self.path / "beside").write_text(value)
        (self.path / "beside").rename(self.path / key)


@pytest.mark.skipif(not hasattr(signal, "SIGSTOP"), reason="no process can be stopped")
def test_one_that_stands_still_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopped, as one of a machine that hangs: its lines stay open, and the system answers."""
    monkeypatch.setattr(subject, "_BEAT_S", 0.1)
    monkeypatch.setattr(subject, "SILENCE_S", 3.0)
    first = Peers(Folder(tmp_path), 0, 3, "127.0.0.1")
    start = [sys.executable, "-c", PEER, str(tmp_path)]
    environment = {**os.environ, "PYTHONPATH": str(Path(detnet.__file__).parents[1])}
    others = [
        subprocess.Popen(
            [*start, str(rank), "30"], env=environment, stdout=subprocess.PIPE, text=True
        )
        for rank in (1, 2)
    ]
    try:
        end = time.monotonic() + 60
        while len(first._connections) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        assert first.lost(within_s=4.0) == ""  # they say that they are there
        others[1].send_signal(signal.SIGSTOP)
        told = first.lost(within_s=60)
        assert told.startswith(f"rank 2 of 3 processes (id {others[1].pid} on ")
        assert "has said nothing for 3 s: see whether it is stopped (state T in `ps`)" in told
        others[1].send_signal(signal.SIGCONT)
        assert [other.communicate(timeout=60)[0] for other in others] == [f"{told}\n"] * 2
    finally:
        for other in others:
            other.kill()
            other.wait()
        first.close()


def test_who_has_stood_still_itself_blames_nobody(three: list[Peers]) -> None:
    """A whole job that was stopped, and goes on: nobody has said anything in between."""
    long_ago = time.monotonic() - 2 * subject.SILENCE_S
    for late in (True, False):
        for key in three[0]._selector.get_map().values():
            if key.data is not None and key.data.rank == 2:
                key.data.heard = long_ago
        three[0]._beat(late=late)
        assert bool(three[0].lost(within_s=0)) is not late
    assert "rank 2 of 3 processes" in three[1].lost(within_s=SOON_S)


class Gone:
    """A line to a machine that does not answer: this system's word for it."""

    def __init__(self, line: socket.socket) -> None:
        self.line = line

    def recv(self, _: int) -> bytes:
        raise OSError(errno.ETIMEDOUT, os.strerror(errno.ETIMEDOUT))

    def fileno(self) -> int:
        return self.line.fileno()

    def close(self) -> None:
        self.line.close()


def test_a_machine_that_has_vanished_is_named(three: list[Peers]) -> None:
    (key,) = (k for k in three[0]._selector.get_map().values() if k.data and k.data.rank == 1)
    three[0]._read(Gone(three[0]._connections[1]), key.data)
    told = three[2].lost(within_s=SOON_S)
    assert told == three[0].lost(within_s=0)
    assert told.startswith(f"rank 1 of 3 processes ({place()}) cannot be reached any more (")
    assert "whether its machine is on, on the network, and still part of the job" in told
