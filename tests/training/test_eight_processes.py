"""Eight real processes take the steps that one takes with all their images."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.engine.distributed import Process
from tests.training.eight_processes import COUNT, NETWORKS, take_steps

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
ALONE = Process(0, 1, torch.device("cpu"))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the eight have left what became of the networks."""
    place = tmp_path_factory.mktemp("eight")
    done = subprocess.run(
        [sys.executable, "-m", "tests.training.eight_processes", str(place)],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        timeout=600,
    )
    logs = "\n".join(log.read_text()[-1500:] for log in sorted(place.glob("*.log")))
    assert done.returncode == 0, logs
    return place


@pytest.mark.parametrize("name", NETWORKS)
def test_three_steps_of_eight_equal_those_of_one(name: str, folder: Path) -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = torch.load(folder / f"{name}.pt", weights_only=True)
    assert found["sums"] == [found["sums"][0]] * COUNT
    expected = take_steps(name, ALONE)
    for ours, theirs in zip(found["losses"], expected["losses"], strict=True):
        assert ours == pytest.approx(theirs, rel=1e-4)
    moved = 0.0
    for key, value in expected["after"].items():
        assert torch.equal(found["before"][key], expected["before"][key])
        if value.is_floating_point():
            torch.testing.assert_close(found["after"][key], value, rtol=1e-5, atol=1e-5, msg=key)
            moved = max(moved, float((value - expected["before"][key]).abs().max()))
    assert moved > 1e-3  # so that equal says something
