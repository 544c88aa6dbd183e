"""`detnet pretrain` as a person calls it, on a few pictures."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from detnet.cli import main
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import describe
from detnet.training.resolve import resolve

QUICK = [
    "--backbone", "resnet50", "--width", "0.125", "--image-size", "32", "--batch-size", "4",
    "--lr-batch", "0", "--workers", "0", "--precision", "fp32", "--device", "cpu",
]  # fmt: skip


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pictures")
    for split in ("train", "val"):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(4):
                pixels = np.random.default_rng(number).integers(0, 256, (40, 52, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(
                    folder / split / name / f"{number}.png"
                )
    return folder


def error_line(capsys: pytest.CaptureFixture[str], arguments: list[str]) -> str:
    """Runs a command that must fail with exit code 2 and one line, and gives the line."""
    capsys.readouterr()
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    lines = captured.err.splitlines()
    assert lines[-1].startswith("detnet: error: ")
    assert sum(line.startswith("detnet: error: ") for line in lines) == 1
    return lines[-1]


def test_print_config_is_a_file_that_config_takes(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    asked = ["--lr", "1e-3", "--epochs", "7", "--steps", "0.5", "9", "--norm", "sync"]
    assert main(["pretrain", "--config", "modern", *asked, "--print-config"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    assert main(["pretrain", "--config", str(path), "--print-config"]) == 0
    assert capsys.readouterr().out == text
    for line in ("lr: 0.001", "epochs: 7", "- 9", "norm: sync", "mixup: 0.2"):
        assert line in text


def test_print_config_shows_what_would_be_run(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    """Defaults are written out; what is not there are weights, iterations beside epochs, and
    the threads, which the machine decides.
    """
    assert main(["pretrain", "--image-size", "112", "--print-config"]) == 0
    text = capsys.readouterr().out
    values = yaml.safe_load(text)
    missing = [name for name, value in values.items() if value is None]
    assert missing == ["weights", "iterations", "threads"]
    assert values["norm_momentum"] == torch.nn.BatchNorm2d(1).momentum
    assert (values["epochs"], values["test_short_side"], values["stride_in"]) == (100, 128, "1x1")
    path = tmp_path / "mine.yaml"
    path.write_text(text)
    printed, meant = (
        PretrainConfig.make(str(path), {}),
        PretrainConfig.make(None, {"image_size": 112}),
    )
    assert printed.length == meant.length
    assert describe(printed, ["a"]) == describe(resolve(meant).config, ["a"])
    assert main(["pretrain", "--weights", "w.safetensors", "--print-config"]) == 2
    assert "w.safetensors: no such" in capsys.readouterr().err  # they decide what is left open


def test_a_run_tells_how_it_goes(
    capsys: pytest.CaptureFixture[str], pictures: Path, tmp_path: Path
) -> None:
    torch.set_num_threads(1)
    run = tmp_path / "run"
    arguments = ["--data", str(pictures), "--output", str(run), "--iterations", "2", *QUICK]
    assert main(["pretrain", *arguments, "--json"]) == 0
    captured = capsys.readouterr()
    assert json.loads(captured.out)["iteration"] == 2
    for text in (
        "2 classes", "G multiply-adds an image of 32×32", "8 training and 8 validation images",
        "iteration 2 of 2", "top-1 error", "best so far", "best score",
    ):  # fmt: skip
        assert text in captured.err
    assert main(["pretrain", "--resume", str(run)]) == 0
    assert "complete at iteration 2" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--data", "nowhere"], "nowhere: no such folder"),
        (["--backbone", "detnet-59"], "did you mean 'detnet59'"),
        (["--config", "smal"], "did you mean 'small_images'"),
        (["--detector", "retinanet"], "unknown option '--detector'"),
        (["--imagesize", "64"], "did you mean '--image-size'"),
        (["--batch-size", "many"], "batch_size.*many"),
        (["--mixup", "-1"], "mixup must not be negative"),
        (["--best-metric", "AP"], "best_metric must be one of top1, top5"),
        (["--weights", "a.pth#sha256=12"], "#sha256= takes 64 hexadecimal digits"),
        (["--weights", "hub:nobody"], "write hub:OWNER/NAME"),
        (["--resume", "nowhere"], "--resume goes on with the run's own settings"),
    ],
)
def test_mistakes_are_one_line(
    capsys: pytest.CaptureFixture[str],
    pictures: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
) -> None:
    import re

    run = tmp_path / "run"
    line = error_line(
        capsys, ["pretrain", "--data", str(pictures), "--output", str(run), *QUICK, *arguments]
    )
    assert re.search(message, line), line
    assert not run.exists()


def test_no_place_for_the_run(capsys: pytest.CaptureFixture[str], pictures: Path) -> None:
    line = error_line(capsys, ["pretrain", "--data", str(pictures)])
    assert "give --output RUN for a new run" in line


def test_a_detection_run_is_not_resumed_here(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.yaml").write_text("detector: retinanet\n")
    line = error_line(capsys, ["pretrain", "--resume", str(tmp_path)])
    assert "config.yaml: the settings of another kind of run ('detector')" in line
