"""`detnet predict` end to end on a real small detector with random weights."""

import json
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detnet.cli import main
from detnet.cli.arguments import Parser
from detnet.cli.predict import _load, _tell_surest, add_arguments
from detnet.detectors import create
from detnet.detectors.base import PreciseLayer
from detnet.detectors.files import save_model
from detnet.inference.media import MediaFile
from detnet.inference.models import load
from detnet.inference.predictor import Predictor
from detnet.inference.video import VideoWriter


@pytest.fixture(scope="module")
def run_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    torch.manual_seed(0)
    model = create(
        "faster_rcnn_fpn", backbone="resnet50", num_classes=3, width=0.125, min_size=64, max_size=96
    )
    model.info.categories = [{"id": 3, "name": "cat"}, {"id": 90, "name": "dog"}]
    save_model(folder / "best.safetensors", model)
    return folder


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    folder = tmp_path / "in"
    (folder / "deep").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for name in ("a.jpg", "deep/a.jpg", "b.png"):
        pixels = generator.integers(0, 256, (60, 90, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / name)
    return folder


def test_pictures_and_results_are_written(
    run_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (pictures / "notes.txt").write_text("no image")
    (pictures / "broken.jpg").write_bytes((pictures / "a.jpg").read_bytes()[:400])
    output = tmp_path / "out"
    argv = ["predict", str(run_folder), str(pictures), "--output", str(output), "--json"]
    assert main([*argv, "--score-threshold", "0.2", "--batch-size", "2"]) == 0
    out, err = capsys.readouterr()
    summary = json.loads(out)
    assert summary["images"] == 3 and summary["objects"] > 0
    assert sorted(Path(path).name for path in summary["skipped"]) == ["broken.jpg", "notes.txt"]
    assert "broken.jpg" in err and err.count("\n") == 1

    images = json.loads((output / "images.json").read_text())
    assert [image["id"] for image in images] == [1, 2, 3]
    for image in images:
        assert (image["width"], image["height"]) == (90, 60)
        with Image.open(output / image["drawn"]) as drawn, Image.open(image["path"]) as original:
            assert drawn.size == original.size
    assert sorted(image["drawn"] for image in images) == ["a.jpg", "b.png", "deep/a.jpg"]
    results = json.loads((output / "predictions.json").read_text())
    assert len(results) == summary["objects"]
    assert {record["category_id"] for record in results} <= {3, 90}
    assert all(record["score"] >= 0.2 and len(record["bbox"]) == 4 for record in results)


def test_the_summary_is_read_by_people(
    run_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", str(run_folder), str(pictures / "a.jpg"), "--output", str(tmp_path / "o")]
    assert main([*argv, "--score-threshold", "1"]) == 0
    first, why = capsys.readouterr().out.splitlines()
    assert first.startswith("0 objects in 1 image: ")
    found = re.fullmatch(r"none above 1; the surest is (0\.\d\d) \(--score-threshold\)", why)
    assert found
    assert json.loads((tmp_path / "o" / "predictions.json").read_text()) == []

    assert main([*argv, "--score-threshold", found[1], "--json"]) == 0
    summary = json.loads(capsys.readouterr().out)
    assert summary["objects"] >= 1 and summary["unsure"] is None


def test_what_an_earlier_call_left_is_told(
    run_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "out"
    argv = ["predict", str(run_folder), "--output", str(output), "--score-threshold", "0.2"]
    assert main([*argv, str(pictures)]) == 0
    assert "replaced" not in capsys.readouterr().err
    (output / "mine.txt").write_text("kept")
    assert main([*argv, str(pictures / "a.jpg")]) == 0
    told = f"detnet: {output / 'predictions.json'} of an earlier call is replaced"
    assert f"{told}; 2 files that it drew and this call does not will stay\n" == (
        capsys.readouterr().err
    )
    assert (output / "b.png").is_file() and (output / "mine.txt").is_file()
    assert main([*argv, str(pictures / "a.jpg")]) == 0
    assert capsys.readouterr().err == f"{told}\n"
    for content in ("[1, {}, {", "7", '[1, {"drawn": []}]'):
        (output / "images.json").write_text(content)
        assert main([*argv, str(pictures / "a.jpg")]) == 0
        assert capsys.readouterr().err == f"{told}\n"


def test_a_few_of_many_files_are_asked_how_sure_the_model_was(
    run_folder: Path, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("detnet.cli.predict.AGAIN", 2)
    files = [MediaFile(file, tmp_path, False, False) for file in sorted(pictures.rglob("*.*g"))]
    assert len(files) == 3
    predictor = load(run_folder, score_threshold=1.0)
    assert "; the surest in 2 of 3 files is 0." in str(_tell_surest(predictor, files))
    predictor.score_threshold = 0.01
    assert _tell_surest(predictor, files) is None


@pytest.mark.parametrize(
    ("options", "fast", "cast"),
    [
        (["--precision", "bf16"], "never", torch.bfloat16),
        (["--precision", "fp32"], "always", torch.float32),
        ([], "always", torch.bfloat16),
        ([], "never", torch.float32),
    ],
)
def test_the_weights_are_of_the_precision(
    run_folder: Path,
    options: list[str],
    fast: str,
    cast: torch.dtype,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("DETNET_BF16", fast)
    parser = Parser()
    add_arguments(parser)
    argv = [str(run_folder), "a.jpg", "--output", "out", "--device", "cpu", *options]
    predictor, _ = _load(parser.parse_args(argv))
    linear = [m for m in predictor._network.modules() if isinstance(m, nn.Linear)]
    last = [layer for layer in linear if isinstance(layer, PreciseLayer)]
    assert {layer.weight.dtype for layer in linear if layer not in last} == {cast}
    assert {layer.weight.dtype for layer in last} == {torch.float32}
    assert predictor.dtype == (torch.bfloat16 if cast == torch.bfloat16 else None)


def test_a_video_becomes_a_drawn_video_with_predictions_per_frame(
    run_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pytest.importorskip("av", reason="needs the video extra")
    film = tmp_path / "film.mp4"
    generator = np.random.default_rng(0)
    with VideoWriter(film, rate=Fraction(10)) as writer:
        for _ in range(3):
            writer.write(generator.integers(0, 256, (60, 90, 3), dtype=np.uint8))
    output = tmp_path / "out"
    argv = ["predict", str(run_folder / "best.safetensors"), str(film), "--output", str(output)]
    assert main([*argv, "--score-threshold", "0.2", "--batch-size", "2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["images"] == 3
    images = json.loads((output / "images.json").read_text())
    assert [(image["frame"], image["time_s"]) for image in images] == [(0, 0.0), (1, 0.1), (2, 0.2)]
    assert {image["drawn"] for image in images} == {"film.mp4"}
    assert (output / "film.mp4").stat().st_size > 1000


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--score-threshold", "50"], "argument --score-threshold: must be in 0 … 1, got 50;"),
        (["--score-threshold", "x"], "argument --score-threshold: must be in 0 … 1, got x;"),
        (["--batch-size", "0"], "--batch-size must be 1 or more"),
        (["--precision", "fp23"], "unknown 'fp23' (did you mean 'fp32'?)"),
        (["--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_bad_options_are_one_line(
    run_folder: Path,
    pictures: Path,
    tmp_path: Path,
    options: list[str],
    said: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    argv = ["predict", str(run_folder), str(pictures), "--output", str(tmp_path / "o"), *options]
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("detnet: error: ") and err.count("\n") == 1


def test_an_image_asked_for_that_is_cut_is_named_and_the_rest_kept(
    run_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    cut = tmp_path / "cut.jpg"
    cut.write_bytes((pictures / "a.jpg").read_bytes()[:1200])
    output = tmp_path / "out"
    argv = ["predict", str(run_folder), str(pictures / "b.png"), str(cut), "--output", str(output)]
    assert main(argv) == 2
    err = capsys.readouterr().err
    assert err.startswith("detnet: error: ") and "cut.jpg" in err and err.count("\n") == 1
    assert [image["file_name"] for image in json.loads((output / "images.json").read_text())] == [
        "b.png"
    ]


def test_a_device_out_of_memory_is_one_line(
    run_folder: Path,
    pictures: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(Predictor, "predict_batch", lambda *given: torch.empty(10**15))
    argv = ["predict", str(run_folder), str(pictures), "--output", str(tmp_path / "out")]
    assert main([*argv, "--device", "cpu"]) == 2
    told = capsys.readouterr().err.splitlines()[-1]
    assert told.startswith("detnet: error: cpu: out of memory: 3725290.30 GiB more were asked for")
    assert told.endswith("--batch-size 1 and --precision bf16 take less")


def test_a_missing_model_is_one_line(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", str(tmp_path), str(pictures), "--output", str(tmp_path / "o")]
    assert main(argv) == 2
    assert "holds no model (best.safetensors or model.safetensors)" in capsys.readouterr().err
    assert not (tmp_path / "o").exists()


def test_views_and_soft_suppression(
    run_folder: Path, pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    argv = ["predict", str(run_folder), str(pictures / "a.jpg"), "--score-threshold", "0.1"]
    found = []
    for options in ([], ["--soft-nms", "gaussian", "--tta-scales", "48", "64", "--tta-flip"]):
        output = tmp_path / f"out{len(options)}"
        assert main([*argv, "--output", str(output), "--precision", "fp32", *options]) == 0
        found.append(json.loads((output / "predictions.json").read_text()))
    assert found[0] != found[1] and found[1]
    assert main([*argv, "--output", str(tmp_path / "bad"), "--tta-scales", "0"]) == 2
    assert "--tta-scales must be 1 pixel or more, got 0" in capsys.readouterr().err
