"""Lines between processes, here between threads of one; `test_lost.py` kills real ones."""

import json
import os
import socket
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest
import torch.distributed as dist

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
    while len(met[0]._lines) < 2 and time.monotonic() < end:
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
    assert three[0].lost(within_s=0.3) == "" and set(three[0]._lines) == {1, 2}


def test_a_first_process_that_cannot_be_reached_is_named(tmp_path: Path) -> None:
    store = dist.FileStore(str(tmp_path / "store"), 2)
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    store.set("peers", json.dumps([port, "secret", "id 1 on far"]))
    with pytest.raises(LostProcess, match=rf"rank 0 cannot be reached at 127.0.0.1, port {port}"):
        Peers(store, 1, 2, "127.0.0.1")
