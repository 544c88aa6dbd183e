"""Two launchers with a rendezvous, as on two machines, and one run folder."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest
import yaml

from tests.conftest import TINY
from tests.forked import places
from tests.training.toy_task import events_of

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not Path("/proc").exists(), reason="processes are found in /proc"),
]

Launcher = subprocess.Popen[str]
PER_NODE = 2


@contextmanager
def two_nodes(scenes: Path, one: Path, other: Path, *, iterations: int) -> Iterator[list[Launcher]]:
    """Starts `detnet train --output runs/a` in two folders, two processes in each."""
    port = places(2)[0]["MASTER_PORT"]
    settings = {"data": str(scenes), **TINY, "batch_size": 4, "iterations": iterations}
    settings |= {"val_split": "none", "checkpoint_every": 2}
    command = [sys.executable, "-m", "torch.distributed.run", "--nnodes", "2"]
    command += ["--nproc-per-node", str(PER_NODE), "--rdzv-backend", "c10d", "--rdzv-id", "7"]
    command += ["--rdzv-endpoint", f"127.0.0.1:{port}", "--local-addr", "127.0.0.1"]
    command += ["-m", "detnet", "train", "--config", "tiny.yaml", "--output", "runs/a"]
    with ExitStack() as stack:
        nodes = []
        for place in (one, other):
            (place / "tiny.yaml").write_text(yaml.safe_dump(settings))
            with (place / "said.txt").open("a") as said:
                node = subprocess.Popen(
                    command,
                    cwd=place,
                    env={**os.environ, "OMP_NUM_THREADS": "1"},
                    stderr=said,
                    text=True,
                    start_new_session=True,
                )
            stack.callback(end, node)
            nodes.append(node)
        yield nodes


def end(node: Launcher) -> None:
    if node.poll() is None:
        os.killpg(node.pid, signal.SIGKILL)
    node.wait()


def said(place: Path) -> str:
    return (place / "said.txt").read_text()


def test_one_run_in_one_folder(scenes: Path, tmp_path: Path) -> None:
    with two_nodes(scenes, tmp_path, tmp_path, iterations=3) as nodes:
        codes = [node.wait(timeout=400) for node in nodes]
    assert codes == [0, 0], said(tmp_path)[-3000:]
    events = events_of(tmp_path / "runs" / "a")
    assert [event["event"] for event in events] == ["step"] * 3 + ["end"]
    assert "4 processes" in said(tmp_path)
    found = {path.name for path in (tmp_path / "runs" / "a").iterdir()}
    assert {"config.yaml", "last.ckpt", "metrics.jsonl", "model.safetensors"} <= found
    assert not [name for name in found if "shared" in name or name.endswith(".part")]


def test_a_folder_that_is_not_shared(scenes: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    with two_nodes(scenes, one, other, iterations=3) as nodes:
        codes = [node.wait(timeout=400) for node in nodes]
    assert 0 not in codes
    for place in (one, other):
        assert re.search(
            r"detnet: error: runs/a: rank \d \(id \d+ on .+\) does not see what rank 0 writes "
            "there; give a folder on a file system that all machines share\n",
            said(place),
        ), said(place)[-3000:]
        assert not list(place.glob("runs/a/*"))


def test_all_say_which_was_killed(scenes: Path, tmp_path: Path) -> None:
    one, other = tmp_path / "one", tmp_path / "other"
    one.mkdir(), other.mkdir()
    (tmp_path / "runs").mkdir()
    for place in (one, other):
        (place / "runs").symlink_to(tmp_path / "runs")
    with two_nodes(scenes, one, other, iterations=100_000) as nodes:
        while not (tmp_path / "runs" / "a" / "last.ckpt").exists():
            assert nodes[0].poll() is None, said(one)[-3000:]
            time.sleep(0.1)
        victim = children(nodes[1].pid)[0]
        os.kill(int(victim), signal.SIGKILL)
        killed = time.monotonic()
        codes = [node.wait(timeout=60) for node in nodes]
        assert time.monotonic() - killed < 60
    assert 0 not in codes
    told = rf"detnet: error: rank \d of 4 processes \(id {victim} on .+\) has ended without a word"
    assert len(re.findall(told, said(one) + said(other))) == 3, said(one)[-3000:]


def children(process: int) -> list[str]:
    """Its trainings, by their ids."""
    tasks = Path(f"/proc/{process}/task").glob("*/children")
    found = [child for task in tasks for child in task.read_text().split()]
    return [c for c in found if b"detnet" in Path(f"/proc/{c}/cmdline").read_bytes()]
