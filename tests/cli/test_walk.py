"""The way from the command line to the first step: short, and past no closure."""

import inspect
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
import yaml

import detnet
from detnet.cli import main
from detnet.training.detection.train import DetectionTask
from tests.conftest import TINY

PACKAGE = str(Path(detnet.__file__).parent)
MOST = 8


@pytest.fixture
def settings(tmp_path: Path) -> str:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump({**TINY, "iterations": 1, "val_split": "none"}))
    return str(path)


def frames_of(run: Callable[[], Any], monkeypatch: pytest.MonkeyPatch) -> list[FrameType]:
    """Our frames on the stack when the loop is about to take its first step."""
    seen: list[FrameType] = []

    def look(task: DetectionTask, model: Any, iteration: int) -> None:
        frame = inspect.currentframe()
        while frame := frame.f_back if frame else None:
            if frame.f_code.co_filename.startswith(PACKAGE):
                seen.append(frame)

    monkeypatch.setattr(DetectionTask, "before_step", look)
    assert run() == 0
    return seen[::-1]


@pytest.mark.parametrize("resume", [False, True])
def test_at_most_eight_frames_lie_between_command_line_and_loop(
    scenes: Path, tmp_path: Path, settings: str, resume: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(tmp_path / "run")
    command = ["train", "--config", settings, "--data", str(scenes), "--output", run]
    if resume:
        command[1:] = ["--resume", begun_by_a_kill(command, tmp_path, monkeypatch)]
    frames = frames_of(lambda: main(command), monkeypatch)
    names = [f"{Path(frame.f_code.co_filename).stem}.{frame.f_code.co_name}" for frame in frames]
    assert names[-1] == "loop.train_steps", names
    assert len(names) <= MOST, names
    # A function inside a function would show where it was made.
    assert not [frame for frame in frames if "<locals>" in frame.f_code.co_qualname], names


def begun_by_a_kill(command: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The folder of a run that has its settings and no checkpoint yet."""
    with monkeypatch.context() as patched:
        patched.setattr(DetectionTask, "before_step", _die)
        with pytest.raises(ZeroDivisionError):
            main(command)
    return str(tmp_path / "run")


def _die(task: DetectionTask, model: Any, iteration: int) -> None:
    raise ZeroDivisionError


def test_a_mistyped_option_is_refused_before_the_annotations_are_read(
    scenes: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """However large they are: here they are damaged, and are not even looked at."""
    broken = tmp_path / "annotations.json"
    broken.write_text("{")
    command = ["train", "--output", str(tmp_path / "run"), "--train-annotations", str(broken)]
    assert main([*command, "--detector-option", "boxhead=4conv1fc"]) == 2
    told = capsys.readouterr().err
    assert "did you mean 'box_head'" in told and "annotations.json" not in told
    for wrong in (["--frozen", "c9"], ["--best-metric", "mAP"], ["--weights", "none.pth"]):
        assert main([*command, *wrong]) == 2
        assert "annotations.json" not in capsys.readouterr().err
