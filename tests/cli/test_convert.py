"""The convert command: what it says, and its refusals."""

import json
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
    assert "no image has an object; read as voc\n" in capsys.readouterr().err


def test_images_are_linked_unless_copies_are_asked_for(yolo: Path) -> None:
    source = (yolo / "images" / "a.jpg").stat().st_ino
    for options, same in (([], True), (["--copy"], False)):
        output = yolo.parent / f"coco{len(options)}"
        assert main(["convert", str(yolo), "--output", str(output), *options]) == 0
        (image,) = output.rglob("a.jpg")
        assert (image.stat().st_ino == source) == same


def test_vocs_options_are_passed_on(tmp_path: Path) -> None:
    """A difficult object from 10 to 30 and 5 to 25: from the ninth pixel on, as VOC counts."""
    folder = tmp_path / "voc"
    folder.mkdir()
    Image.new("RGB", (60, 40)).save(folder / "a.jpg")
    corners = "<xmin>10</xmin><ymin>5</ymin><xmax>30</xmax><ymax>25</ymax>"
    found = "<object><name>cat</name><difficult>{}</difficult><bndbox>{}</bndbox></object>"
    objects = found.format(1, corners) + found.format(0, corners)
    size = "<size><width>60</width><height>40</height></size>"
    (folder / "a.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    for number, (options, box, crowds) in enumerate(
        (
            ([], [9, 4, 21, 21], [1, 0]),
            (["--zero-based"], [10, 5, 20, 20], [1, 0]),
            (["--keep-difficult"], [9, 4, 21, 21], [0, 0]),
        )
    ):
        output = tmp_path / f"coco{number}"
        assert main(["convert", str(folder), "--output", str(output), *options]) == 0
        raw = json.loads((output / "annotations" / "instances_train.json").read_text())
        assert [record["bbox"] for record in raw["annotations"]] == [box, box]
        assert [record["iscrowd"] for record in raw["annotations"]] == crowds


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
