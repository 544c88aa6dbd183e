"""`detnet search worker` as several processes on a PostgreSQL server, one of which is killed."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from detnet.cli import main
from tests.cli.test_search_worker import CHEAP, add_supernet
from tests.search.postgres import server, storage
from tests.search.settings_of_search import make_run

__all__ = ["server", "storage"]  # fixtures

pytestmark = pytest.mark.slow
pytest.importorskip("psycopg", reason="PostgreSQL needs the extra `cluster`")

SIZES = {"generations": 2, "population": 6, "parents": 2, "mutations": 2, "crossovers": 2}


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    """Two equal searches, in folders of their own."""
    from detnet.data.scenes import write_scenes

    write_scenes(tmp_path / "scenes", train=4, val=2, size=(128, 96))
    run = make_run(tmp_path / "run", None, tmp_path / "scenes", from_scratch=True, **SIZES, **CHEAP)
    add_supernet(run)
    return run, Path(shutil.copytree(run, tmp_path / "other"))


def start(run: Path, storage: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "detnet", "search", "worker", str(run), "--storage", storage]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def wait_for(worker: subprocess.Popen[str], words: str) -> None:
    assert worker.stderr is not None
    for line in worker.stderr:
        if words in line:
            return
    raise AssertionError(f"ended before it said {words!r}")


def test_a_killed_worker_changes_nothing(runs: tuple[Path, Path], storage: str) -> None:
    run, other = runs
    first = start(run, storage)
    wait_for(first, "candidate 1 of")
    second = start(run, storage)
    time.sleep(0.5)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=60)
    assert first.returncode == -signal.SIGKILL
    out, err = second.communicate(timeout=240)
    assert second.returncode == 0, err[-2000:]
    assert out.startswith("the search is over")
    assert main(["search", "worker", str(other)]) == 0  # alone, in a file
    winners = [json.loads((folder / "winner.json").read_text()) for folder in runs]
    assert winners[0] == winners[1]
