"""What is read and built before a run begins, so that mistakes leave no folder."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.training.run import run_task
from tests.training.toy_task import CONFIG, ToyTask, carry_out


@pytest.fixture(scope="module")
def complete(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = tmp_path_factory.mktemp("complete") / "run"
    assert carry_out(run)[0]
    return run


def test_a_folder_with_a_run_is_refused_before_the_data_are_read(complete: Path) -> None:
    task = ToyTask(CONFIG)
    task.read_data = pytest.fail  # type: ignore[method-assign]
    with pytest.raises(InputError, match="holds a run already"):
        run_task(task, complete, resume=False, on_event=lambda event: None)


def test_a_run_is_never_written_over(complete: Path) -> None:
    before = (complete / "metrics.jsonl").read_bytes()
    with pytest.raises(InputError, match="holds a run already .*--resume"):
        carry_out(complete)
    assert (complete / "metrics.jsonl").read_bytes() == before


@pytest.mark.parametrize(("changes", "message"), [
    ({"batch_size": 3, "accumulate": 2}, "batch_size 3 cannot be divided"),
    ({"momentum": 0.5, "device": "cuda"}, "device cuda"),
])  # fmt: skip
def test_a_mistake_leaves_no_folder(changes: dict[str, Any], message: str, tmp_path: Path) -> None:
    if torch.cuda.is_available() and "device" in changes:
        pytest.skip("this machine has CUDA")
    with pytest.raises(InputError, match=message):
        carry_out(tmp_path / "run", changes=changes)
    assert not (tmp_path / "run").exists()


def test_settings_are_written_as_they_are_resolved(tmp_path: Path) -> None:
    """What the weights decide is in config.yaml, so that no file need be asked again."""

    class Settling(ToyTask):
        def resolve(self, *, load_weights: bool) -> list[str]:
            self.config = replace(self.config, stride_in="3x3")
            return super().resolve(load_weights=load_weights)

    run_task(Settling(CONFIG), tmp_path / "run", resume=False, on_event=lambda event: None)
    assert "stride_in: 3x3" in RunFolder.open(tmp_path / "run").config.read_text()
    assert (tmp_path / "run" / "environment.json").is_file()


def test_a_folder_whose_making_failed_holds_no_run(tmp_path: Path) -> None:
    (tmp_path / "run" / "environment.json").mkdir(parents=True)
    with pytest.raises(OSError):
        carry_out(tmp_path / "run")
    RunFolder.require_none(tmp_path / "run")
