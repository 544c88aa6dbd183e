"""`detnet bench` end to end on real small detectors with random weights."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.cli import main
from detnet.detectors import create
from detnet.detectors.files import save_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    folder = tmp_path_factory.mktemp("runs")
    for name in ("a", "b"):
        torch.manual_seed(0)
        model = create(
            "fcos", backbone="resnet50", num_classes=3, width=0.125, min_size=64, max_size=96
        )
        (folder / name).mkdir()
        save_model(folder / name / "best.safetensors", model)
    return [str(folder / "a"), str(folder / "b")]


def test_two_models_beside_each_other(
    runs: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    generator = np.random.default_rng(0)
    for index in range(3):
        pixels = generator.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{index}.png")
    output = tmp_path / "out"
    argv = ["bench", *runs, "--data", str(tmp_path), "--repeats", "3", "--output", str(output)]
    assert main([*argv, "--device", "cpu", "--precision", "fp32"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("model", "p50", "ms", "p90", "ms", "p99", "ms", "images/s", "objects"),
        *("memory", "MB", "ratio"),
    ]
    assert [line.split()[0] for line in lines[1:3]] == ["a", "b"]
    assert lines[1].split()[-1] == "1.00"
    assert [line.split()[0] for line in lines[5:11]] == [
        *("decode", "resize", "backbone", "pyramid", "heads", "post-processing"),
    ]
    assert "3 turns on" in lines[-1]
    facts = json.loads((output / "bench.json").read_text())
    assert facts["images"] == ["0.png", "1.png", "2.png"] and facts["turns"] == 3
    assert [timing["name"] for timing in facts["timings"]] == ["a", "b"]
    first = facts["timings"][0]
    assert first["times_as_fast"] == 1 and first["precision"] == "fp32"
    assert first["stages"]["backbone"]["p50_ms"] > 0
    ElementTree.fromstring((output / "bench.svg").read_text())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--repeats", "0"], "--repeats must be 1 or more, got 0"),
        (["--score-threshold", "2"], "--score-threshold must be in 0 … 1"),
        (["--image-size", "0", "9"], "--image-size must be 1 pixel or more, got 0"),
        (["--data", "x", "--image-size", "8", "9"], "give --data, whose images have their sizes"),
        (["--precision", "fp23"], "unknown 'fp23'"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--output", "taken"], "taken: is a file"),
    ],
)
def test_bad_options_are_one_line(
    runs: list[str],
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    assert main(["bench", runs[0], *options]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("detnet: error: ") and err.count("\n") == 1


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path)]) == 2
    assert "holds no model" in capsys.readouterr().err
