"""`detnet bench` end to end on real small detectors with random weights."""

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from detnet.cli import main
from detnet.cli.arguments import Parser
from detnet.cli.bench import _candidates, add_arguments
from tests.inference.engines.tiny import tiny_export
from tests.inference.export.test_engine_choice import run_with_export


def test_two_models_beside_each_other(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("onnxruntime", reason="needs the export extra")
    models = [str(tiny_export(tmp_path / name)) for name in ("a", "b")]
    generator = np.random.default_rng(0)
    (tmp_path / "in").mkdir()
    for index in range(3):
        pixels = generator.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{index}.png")
    output = tmp_path / "out"
    argv = ["bench", *models, "--data", str(tmp_path / "in"), "--score-threshold", "0.1"]
    assert main([*argv, "--repeats", "3", "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split() == [
        *("model", "p50", "ms", "p90", "ms", "p99", "ms", "images/s", "objects"),
        *("memory", "MB", "ratio"),
    ]
    assert [line.split()[0] for line in lines[1:3]] == ["a", "b"]
    assert lines[1].split()[-1] == "1.00"
    stages = ["decode", "resize", "network", "post-processing"]
    assert [line.split()[0] for line in lines[5:9]] == stages
    assert "3 turns on" in lines[-1]
    facts = json.loads((output / "bench.json").read_text())
    assert facts["images"] == ["0.png", "1.png", "2.png"] and facts["turns"] == 3
    assert [timing["name"] for timing in facts["timings"]] == ["a", "b"]
    first = facts["timings"][0]
    assert first["times_as_fast"] == 1 and first["engine"] == "onnxruntime"
    assert first["stages"]["network"]["p50_ms"] > 0
    ElementTree.fromstring((output / "bench.svg").read_text())


def test_models_times_engines_times_precisions(tmp_path: Path) -> None:
    pytest.importorskip("onnxruntime", reason="needs the export extra")
    export = tiny_export(tmp_path / "e")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "best.safetensors").touch()
    parser = Parser()
    add_arguments(parser)
    argv = [str(tmp_path / "run"), str(export), "--precision", "fp32", "bf16"]
    names = [each.name for each in _candidates(parser.parse_args(argv))]
    assert names == ["run fp32", "run bf16", "e"]


def test_what_only_torch_can_do_is_not_timed_in_a_faster_export(tmp_path: Path) -> None:
    run = run_with_export(tmp_path, torch_s=0.3, export_s=0.2)
    parser = Parser()
    add_arguments(parser)

    def engines(*words: str) -> list[tuple[str, str]]:
        found = _candidates(parser.parse_args([str(run), *words]))
        return [(each.model.name, each.precision) for each in found]

    export, own = "best-onnx-fp32", "best.safetensors"
    assert engines("--precision", "fp32") == [(export, "auto")]
    assert engines("--precision", "bf16", "fp32") == [(own, "bf16"), (export, "auto")]
    assert engines("--device", "cuda", "--precision", "fp32") == [(own, "fp32")]
    words = ("--engine", "torch", "onnxruntime", "--precision", "fp32", "bf16")
    assert engines(*words) == [(own, "fp32"), (own, "bf16"), (export, "auto")]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--repeats", "0"], "--repeats must be 1 or more, got 0"),
        (["--score-threshold", "2"], "argument --score-threshold: must be in 0 … 1"),
        (["--image-size", "0", "9"], "--image-size must be 1 pixel or more, got 0"),
        (["--data", "x", "--image-size", "8", "9"], "give --data, whose images have their sizes"),
        (["--precision", "fp23"], "unknown 'fp23'"),
        (["--data", "nowhere"], "nowhere: no such file or folder"),
        (["--output", "taken"], "--output: taken is a file; name a folder"),
    ],
)
def test_bad_options_are_one_line(
    options: list[str],
    said: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("taken").touch()
    Path("model").mkdir()
    Path("model/best.safetensors").touch()
    assert main(["bench", "model", *options]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("detnet: error: ") and err.count("\n") == 1


def test_a_missing_model_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", str(tmp_path)]) == 2
    assert "holds no model" in capsys.readouterr().err
