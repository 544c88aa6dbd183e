"""SIGKILL of real trainings, also while they write a checkpoint: gone on with, the same bits."""

import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.training.detection.config import TrainConfig
from detnet.training.settings import write_config
from tests.training.toy_task import different

ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.skipif(
    not Path("/proc/self/stat").exists(), reason="what a process is doing is read in /proc"
)


def carry_out(folder: Path, tiny: TrainConfig, plan: dict[str, Any]) -> dict[str, Any]:
    """Runs the plan in one Python of its own; what came of each kill."""
    for workers in (0, 2):
        write_config(replace(tiny, workers=workers), folder / f"{workers}.yaml")
    (folder / "plan.json").write_text(json.dumps(plan))
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.killed_runs", str(folder)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        stderr=subprocess.PIPE,
        text=True,
        timeout=3000,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    found: dict[str, Any] = json.loads((folder / "done.json").read_text())
    return found


def run_of(kills: list[dict[str, Any]], *, workers: int = 0, processes: int = 1) -> dict[str, Any]:
    return {"settings": f"{workers}.yaml", "processes": processes, "kills": kills}


def test_killed_twice_and_once_in_the_middle_of_a_checkpoint(
    tiny: TrainConfig, tmp_path: Path
) -> None:
    kills = [{"moment": "writing", "share": 0.3}, {"moment": "lines", "count": 3, "group": True}]
    plan = {"whole": run_of([]), "killed": run_of(kills, workers=2)}
    first, second = carry_out(tmp_path, tiny, plan)["killed"]
    assert first["came"] and first["codes"] == [-9] and first["partial"] is not None
    assert second["came"] and second["codes"] == [-9] and second["lines"] >= 3
    assert different(tmp_path / "whole", tmp_path / "killed") == []
    assert not (tmp_path / "killed" / ".last.ckpt.part").exists()


@pytest.mark.slow
@pytest.mark.parametrize("processes", [1, 2])
@pytest.mark.parametrize("workers", [0, 2])
def test_killed_again_and_again(
    workers: int, processes: int, tiny: TrainConfig, tmp_path: Path
) -> None:
    """Ten kills a run: within checkpoints, after lines, at any time; of one process or of all."""
    chance = np.random.default_rng((workers, processes))

    def kill(moment: str, **where: Any) -> dict[str, Any]:
        who = int(chance.integers(processes)) if chance.random() < 0.5 else "all"
        group = bool(chance.random() < 0.5)
        return {"moment": moment, **where, "who": 0 if moment == "writing" else who, "group": group}

    plan = {"whole": run_of([], processes=processes)}
    for number in range(3):
        kills = [kill("writing", share=float(chance.random())) for _ in range(3)]
        kills += [kill("lines", count=int(chance.integers(1, 5))) for _ in range(4)]
        kills += [kill("time", share=float(chance.random())) for _ in range(3)]
        kills = [kills[index] for index in chance.permutation(len(kills))]
        plan[f"killed{number}"] = run_of(kills, workers=workers, processes=processes)
    done = carry_out(tmp_path, tiny, plan)
    # Some come too late, when the run is complete; the next ones are of another run then.
    landed = [kill for kills in done.values() for kill in kills if -9 in kill["codes"]]
    within = [kill for kill in landed if kill["moment"] == "writing" and kill["came"]]
    assert len(landed) >= 20
    assert len(within) >= 3 and all(kill["partial"] is not None for kill in within)
    runs = sorted(path.name for path in tmp_path.glob("killed*") if path.is_dir())
    assert len(runs) >= 3
    for name in runs:
        assert different(tmp_path / "whole", tmp_path / name) == [], name
