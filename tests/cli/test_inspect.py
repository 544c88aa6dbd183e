"""`detnet inspect` end to end on small detectors with random weights."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.cli import main
from detnet.cli.inspect import names_of
from detnet.detectors import create
from detnet.detectors.files import save_model


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    torch.manual_seed(0)
    for backbone, detector in (("detnet59", "faster_rcnn_fpn"), ("resnet50", "retinanet")):
        model = create(
            detector, backbone=backbone, num_classes=3, width=0.125, min_size=96, max_size=192
        )
        (folder / backbone).mkdir()
        save_model(folder / backbone / "model.safetensors", model)
    return folder


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Grey, odd, and lying on its side: upright it is 97 wide and 131 high."""
    path = tmp_path_factory.mktemp("images") / "a b.jpg"
    pixels = np.random.default_rng(0).integers(0, 256, (97, 131), dtype=np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(path, exif=exif)
    return path


def test_two_models_side_by_side(
    runs: Path, image: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    output = tmp_path / "new" / "looks"
    argv = ["inspect", str(runs / "detnet59"), str(image)]
    argv += ["--beside", str(runs / "resnet50" / "model.safetensors"), "--draws", "2"]
    assert main([*argv, "--output", str(output), "--json", "--device", "cpu"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["image_size"] == [131, 97]
    assert facts["pictures"] == [
        str(output / f"a b-{what}.png") for what in ("activations", "receptive-fields")
    ]
    for path in facts["pictures"]:
        with Image.open(path) as picture:
            assert picture.format == "PNG" and picture.width == 2560
    detnet, resnet = facts["models"]
    assert (detnet["name"], resnet["name"]) == ("detnet59", "resnet50")
    assert detnet["input_size"] == resnet["input_size"] == [129, 96]
    c5, kept = (
        [
            {stage["name"]: stage[key] for stage in model["stages"]}["c5"]
            for model in facts["models"]
        ]
        for key in ("size", "kept")
    )
    assert c5 == [[9, 6], [5, 3]]
    assert kept == pytest.approx([54 / (33 * 24), 15 / (33 * 24)])
    for stage in detnet["stages"] + resnet["stages"]:
        assert 0 < stage["effective_68"] <= stage["effective_95"] <= stage["receptive_field"]


def test_the_table_is_read_by_people(
    runs: Path,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["inspect", str(runs / "resnet50"), str(image), "--draws", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "resnet50: resnet50, width 0.125, input 129×96"
    assert lines[2].split("  ")[:3] == ["stage", "cells", "stride"]
    assert lines[3].split()[:5] == ["c2", "33×24", "4", "100.0%", "35"]
    assert [Path(line).name for line in lines[-2:]] == [
        "a b-activations.png",
        "a b-receptive-fields.png",
    ]
    assert all((tmp_path / line).is_file() for line in lines[-2:])


@pytest.mark.parametrize(
    ("model", "picture", "options", "said"),
    [
        ("nowhere", "", [], "nowhere: no such run folder or model file"),
        ("", "", [], "holds no model"),
        ("resnet50", "none.jpg", [], "none.jpg: no such image file"),
        ("resnet50", ".", [], "is a folder; give one image file in it"),
        ("resnet50", "notes.txt", [], "notes.txt: is not an image"),
        ("resnet50", "small.png", [], "small.png: the image is 60×20 pixels, smaller than one"),
        ("resnet50", "", ["--draws", "0"], "--draws must be 1 or more, got 0"),
        ("resnet50", "", ["--output", "notes.txt"], "--output: notes.txt is a file; name a"),
        ("resnet50", "", ["--beside", "nowhere"], "nowhere: no such run folder or model file"),
        ("resnet50", "", ["--device", "abacus"], "device 'abacus' cannot be used"),
    ],
)
def test_mistakes_are_one_line(
    runs: Path,
    image: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    model: str,
    picture: str,
    options: list[str],
    said: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "notes.txt").write_text("no image")
    Image.new("RGB", (60, 20)).save(tmp_path / "small.png")
    assert main(["inspect", str(runs / model), picture or str(image), *options]) == 2
    err = capsys.readouterr().err
    assert said in err and err.startswith("detnet: error: ") and err.count("\n") == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt", "small.png"]


def test_models_are_told_apart_by_as_little_as_needed(tmp_path: Path) -> None:
    files = [tmp_path / name for name in ("a/best.safetensors", "b/a/model.safetensors", "c.st")]
    for path in files:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    assert names_of([tmp_path / "a", files[2]]) == ["a", "c"]
    assert names_of([files[0], files[1]]) == [f"{tmp_path.name}/a", "b/a"]
    assert names_of([files[0], tmp_path / "a"]) == ["a", "a"]
