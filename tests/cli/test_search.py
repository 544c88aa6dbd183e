"""`detnet search` as a person calls it, up to where the work begins: that is in tests/search."""

import json
from pathlib import Path

import pytest
import torch
import yaml

from detnet.cli import main
from tests.search.small_search import settings, write_classes, write_data


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Runs a command that must fail with exit code 2 and one line, and gives the line."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[-1].startswith("detnet: error: ")
    return lines[-1]


def test_print_config_is_a_file_that_config_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--max-macs", "90e6", "--finetune", "epochs=7", "--finetune", "min-sizes=[128, 160]"]
    asked += ["--finetune", "detector_options.roi_batch=64", "--objectives", "macs", "params"]
    assert main(["search", "--config", "small", *asked, "--print-config"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main(["search", "--config", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == text
    read = yaml.safe_load(text)
    assert read["max_macs"] == 90e6 and read["objectives"] == ["macs", "params"]
    assert read["finetune"]["epochs"] == 7 and read["finetune"]["min_sizes"] == [128, 160]
    assert read["finetune"]["detector_options"]["roi_batch"] == 64
    assert read["finetune"]["detector_options"]["box_head"] == "4conv1fc"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give --output RUN for a new run, or --resume RUN"),
        (["--spce", "x"], "unknown option '--spce' (did you mean '--space'?)"),
        (["--phase", "tran"], "unknown 'tran' (did you mean 'retrain'?)"),
        (["--config", "smal"], "unknown preset 'smal'; did you mean 'small'"),
        (["--finetune", "epochs"], "--finetune epochs: write NAME=VALUE"),
        (["--output", "x", "--data", "nowhere"], "nowhere: no such folder"),
        (["shw", "x"], "unknown action of detnet search 'shw'; did you mean 'show'"),
        (["--json", "show", "x"], "write the action first, `detnet search show RUN`"),
        (["show", "--otput", "x", "y"], "unknown option '--otput' (did you mean '--output'?)"),
        (["--resume", "nowhere"], "nowhere: there is no such run folder"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in error_line(capsys, ["search", *arguments])


def test_help_tells_the_actions_and_theirs(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "--help"]) == 0
    text = capsys.readouterr().out
    for word in ("worker", "show", "validate", "baselines", "--phase", "detnas_fpn_300m"):
        assert word in text
    assert main(["search", "validate", "--help"]) == 0
    assert "--count" in capsys.readouterr().out


def test_a_phase_alone_and_the_next(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    torch.set_num_threads(1)
    data, classes = write_data(tmp_path / "data"), write_classes(tmp_path / "classes")
    path, run = tmp_path / "mine.yaml", tmp_path / "run"
    path.write_text(yaml.safe_dump(settings(data, classes)))
    command = ["search", "--config", str(path), "--output", str(run), "--phase", "pretrain"]
    assert main([*command, "--pretrain", "iterations=2", "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out) == {"run": str(run), "winner": None}
    for text in (
        "256 paths", "4 of 12 training images are kept apart", "what it will take on cpu",
        "  pretrain: 8 images (0.5 epochs)", "iteration 2 of 2",
    ):  # fmt: skip
        assert text in captured.err
    assert main(["search", "--resume", str(run), "--phase", "pretrain"]) == 0
    assert "pretrain: done before" in capsys.readouterr().err
    line = error_line(capsys, ["search", "--resume", str(run), "--phase", "search"])
    assert f"run `detnet search --resume {run} --phase finetune` first" in line
    line = error_line(capsys, ["search", "--resume", str(run), "--seed", "3"])
    assert "--seed cannot be changed" in line
    assert "holds a run already" in error_line(capsys, command)
