"""`detnet campaign worker` as several processes on a PostgreSQL server, one of which is lost."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from detnet.campaign.agenda import open_campaign_study
from detnet.campaign.plan import begin_campaign
from tests.campaign.conftest import campaign_data
from tests.campaign.small_campaign import CAMPAIGN, TRAIN
from tests.search.postgres import QUOTED, server, storage

__all__ = ["campaign_data", "server", "storage"]  # fixtures

pytestmark = pytest.mark.slow
pytest.importorskip("psycopg", reason="PostgreSQL needs the extra `cluster`")


def start(folder: Path, storage: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "detnet", "campaign", "worker", str(folder)]
    return subprocess.Popen(
        [*command, "--storage", storage],
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def test_what_a_lost_machine_was_at_is_gone_on_with(
    tmp_path: Path, campaign_data: Path, storage: str
) -> None:
    """Of a machine that is no more the heartbeat alone tells, and the folder what is done."""
    file, folder = tmp_path / "c.yaml", tmp_path / "c"
    changes = {"train": {**TRAIN, "iterations": 12, "evaluate_every": 2}, "seeds": 1}
    file.write_text(yaml.safe_dump({**CAMPAIGN, **changes}))
    campaign = begin_campaign(file, folder, root=campaign_data)
    workers = [start(folder, storage) for _ in range(2)]

    def is_begun(number: int) -> bool:
        place = campaign.place(campaign.plan.runs[number])
        return (place / "last.ckpt").exists() and not (place / "model.safetensors").exists()

    with open_campaign_study(campaign, storage) as study:

        def taken() -> list[tuple[int, int, int]]:
            """Trial, run and process of what is at work and has a checkpoint."""
            return [
                (trial._trial_id, slot, int(trial.user_attrs["worker"].rpartition("-")[2]))
                for trial in study.get_trials()
                if trial.state.name == "RUNNING" and is_begun(slot := trial.user_attrs["slot"])
            ]

        end = time.monotonic() + 300
        while not (found := taken()):
            assert time.monotonic() < end and all(one.poll() is None for one in workers)
            time.sleep(0.05)
        trial, lost, process = found[0]
        study._storage.set_trial_user_attr(trial, "worker", "elsewhere-00000000-1")
        os.kill(process, signal.SIGKILL)
        dead, alive = sorted(workers, key=lambda worker: worker.pid != process)
        out, _ = alive.communicate(timeout=300)
        dead.communicate()
        assert (dead.returncode, alive.returncode) == (-signal.SIGKILL, 0), out
        attempts = [one for one in study.get_trials() if one.user_attrs["slot"] == lost]
    assert [one.state.name for one in attempts] == ["FAIL", "COMPLETE"]
    assert all(map(campaign.is_done, campaign.runs)) and not (folder / "study.db").exists()
    told = "".join(path.read_text() for path in folder.glob("*/*/*/environment.json"))
    assert "postgresql://me:***@" in told and QUOTED not in told
