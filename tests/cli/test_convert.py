"""The convert command: what it says, and its refusals."""

from pathlib import Path

import pytest
from PIL import Image

from detnet.cli import main


@pytest.fixture
def yolo(tmp_path: Path) -> Path:
    folder = tmp_path / "yolo"
    (folder / "images").mkdir(parents=True)
    (folder / "labels").mkdir()
    Image.new("RGB", (60, 40)).save(folder / "images" / "a.jpg")
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "labels" / "b.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "data.yaml").write_text("names: [dog]\n")
    return folder


def test_convert_then_check(yolo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = yolo.parent / "coco"
    assert main(["convert", str(yolo), "--output", str(output)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train: 1 images, 1 annotations"
    assert lines[1].startswith("note: left out 1 label files without an image")
    assert lines[2] == f"{output}: coco from yolo"
    assert main(["check", str(output)]) == 0


def test_formats_may_be_given(yolo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = yolo.parent / "voc"
    options = ["--from", "yolo", "--to", "voc", "--output", str(output), "--copy"]
    assert main(["convert", str(yolo), *options]) == 0
    assert (output / "Annotations" / "a.xml").is_file()
    assert main(["convert", str(yolo), "--from", "voc", "--output", f"{output}2"]) == 2
    assert "read as voc, no image has an object" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["{yolo}", "--output", "{yolo}"], "exists already"),
        (["{yolo}/none", "--output", "{yolo}/out"], "no such folder"),
        (["{yolo}", "--output", "{yolo}/out", "--to", "yollo"], "did you mean 'yolo'?"),
        (["{yolo}"], "--output"),
    ],
)
def test_mistakes_are_one_line(
    yolo: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", *(argument.format(yolo=yolo) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith("detnet: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
    assert not (yolo / "out").exists()
