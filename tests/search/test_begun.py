"""A training that was begun: what is gone on with, and what is removed."""

from pathlib import Path

import pytest

from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.search.begun import begun


def test_what_a_kill_left_before_the_first_checkpoint_is_removed(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    assert not begun(tmp_path / "new")
    run.config.write_text("lr: 0.1\n")
    run.log({"event": "step", "iteration": 1})
    assert not begun(tmp_path)
    assert not run.config.exists() and not run.metrics.exists()
    run.lock()  # which is free again
    run.unlock()
    run.config.write_text("lr: 0.1\n")
    run.last.touch()
    assert begun(tmp_path) and run.config.exists()


def test_a_training_under_way_keeps_its_files(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    run.config.write_text("lr: 0.1\n")
    run.log({"event": "step", "iteration": 1})
    run.lock()
    with pytest.raises(InputError, match="another process is training this run"):
        begun(tmp_path)
    run.unlock()
    assert run.config.read_text() == "lr: 0.1\n" and len(run.read_metrics()) == 1
