import json
import sys
from pathlib import Path

import pytest
import torch

from detnet.engine.environment import cpu_name, describe_environment
from detnet.engine.runs import RunFolder


def test_a_run_says_where_its_numbers_come_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GOMP_SPINCOUNT", "1000")
    monkeypatch.setenv("HOST_OF_MINE", "secret")
    monkeypatch.setattr(sys, "argv", ["detnet", "--storage", "postgresql://me:secret@h/n"])
    run = RunFolder.create(tmp_path / "run")
    run.write_environment()
    found = json.loads(run.environment.read_text())
    assert found["threads"] == torch.get_num_threads()
    assert found["variables"]["GOMP_SPINCOUNT"] == "1000"
    assert "secret" not in run.environment.read_text()
    assert found["packages"]["torch"] == describe_environment()["packages"]["torch"]
    assert found["python"].startswith("3.")
    assert found["cpu"] == cpu_name() != ""
    assert found["cpu_cores"] >= 1 and found["processes"] == 1
