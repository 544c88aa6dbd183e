"""The check command: exit codes, the JSON object, and a report that one can read."""

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from detnet.cli import main


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A set of one split with twelve images of 60x40, one box each, and nothing wrong."""
    (tmp_path / "images").mkdir()
    (tmp_path / "annotations").mkdir()
    raw: dict[str, Any] = {
        "images": [],
        "annotations": [],
        "categories": [{"id": 4, "name": "cat"}],
    }
    for i in range(1, 13):
        Image.new("RGB", (60, 40), (i, 2 * i, 3 * i)).save(tmp_path / "images" / f"{i}.png")
        raw["images"].append({"id": i, "file_name": f"{i}.png", "width": 60, "height": 40})
        raw["annotations"].append(
            {"id": i, "image_id": i, "category_id": 4, "bbox": [1, 2, 30, 20], "area": 600}
        )
    (tmp_path / "annotations" / "instances_train.json").write_text(json.dumps(raw))
    return tmp_path


def break_boxes(data: Path) -> None:
    path = data / "annotations" / "instances_train.json"
    raw = json.loads(path.read_text())
    for annotation in raw["annotations"]:
        annotation["bbox"] = [40, 2, 30, 20]
    raw["annotations"][6]["category_id"] = 5
    path.write_text(json.dumps(raw))


def test_nothing_wrong(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "train: annotations/instances_train.json (coco), images in images"
    assert [line.split() for line in lines[1:4]] == [[], ["train"], ["images", "12"]]
    assert [line.split() for line in lines if "cat" in line] == [["cat", "12", "(12)"]]
    assert lines[-1] == "no errors, no warnings, no remarks"


def test_problems_are_grouped_and_counted(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_boxes(data)
    assert main(["check", str(data)]) == 1
    out = capsys.readouterr().out
    assert out.index("Errors") < out.index("unknown-category: 1") < out.index("Warnings")
    assert "  box-outside: 12\n" in out
    assert (
        "    annotations/instances_train.json: annotation 1 (image 1.png): box (40, 2, 70, 22) "
        "reaches outside its image of 60 x 40\n" in out
    )
    assert out.count("reaches outside") == 3
    assert "… and 9 more (--all lists them)" in out
    assert out.endswith("1 error, 12 warnings, no remarks\n")


def test_all_lists_all(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_boxes(data)
    assert main(["check", str(data), "--all"]) == 1
    assert capsys.readouterr().out.count("reaches outside") == 12


def test_json_is_one_object(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    break_boxes(data)
    assert main(["check", str(data), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert list(report) == ["problems", "statistics"]
    assert list(report["problems"][0]) == ["severity", "code", "file", "record", "message"]
    assert report["problems"][0]["record"] == "annotation 7 (image 7.png)"
    assert report["statistics"]["splits"]["train"]["images"] == 12


def test_a_cut_file_is_an_error_not_a_refusal(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = data / "annotations" / "instances_train.json"
    path.write_text(path.read_text()[:200])
    assert main(["check", str(data), "--json"]) == 1
    report = json.loads(capsys.readouterr().out)
    assert [problem["code"] for problem in report["problems"]] == ["unreadable-json"]
    assert main(["check", str(data)]) == 1
    assert "unreadable-json: 1" in capsys.readouterr().out


def test_explicit_paths(data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = (data / "annotations" / "instances_train.json").rename(tmp_path / "boxes.json")
    images = (data / "images").rename(tmp_path / "photos")
    assert main(["check", "--annotations", str(file), "--images", str(images)]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == f"boxes: {file} (coco), images in {images}"
    assert lines[2].split() == ["boxes"]
    assert main(["check", str(file), "--images", str(images)]) == 0
    capsys.readouterr()
    (images / "3.png").unlink()
    assert main(["check", "--annotations", str(file), "--images", str(images)]) == 1
    assert "image 3 (3.png): the file does not exist" in capsys.readouterr().out
    assert main(["check", "--annotations", str(file), "--no-images"]) == 0


def test_names_of_any_characters(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = data / "annotations" / "instances_train.json"
    path.write_text(path.read_text().replace('"3.png"', '"a\\ud800\\nb.png"'))
    assert main(["check", str(data)]) == 1
    assert "image 3 (a??b.png): " in capsys.readouterr().out


def test_two_sets_taken_for_the_years_of_one_are_both_named(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("one", "two"):
        assert (
            main(["convert", str(data), "--to", "voc", "--output", f"{tmp_path}/sets/{name}"]) == 0
        )
    capsys.readouterr()
    assert main(["check", f"{tmp_path}/sets"]) == 0
    first = capsys.readouterr().out.splitlines()[0]
    assert first == "train: one/ImageSets/Main/train.txt, two/ImageSets/Main/train.txt (voc)"


def test_split(data: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(data), "--split", "train"]) == 0
    capsys.readouterr()
    assert main(["check", str(data), "--split", "train", "val"]) == 2
    assert "val" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "give either DATA or --annotations FILE"),
        (["{data}/none"], "none"),
        (["{data}", "--annotations", "{data}/annotations/instances_train.json"], "give either"),
        (
            ["--annotations", "{data}/annotations/instances_train.json", "--split", "val"],
            "--split is one of DATA's",
        ),
        (["{data}", "--images", "{data}/images"], "--images goes with --annotations"),
        (["--annotations", "{data}/none.json"], "none.json: no such annotation file"),
    ],
)
def test_mistakes_are_one_line(
    data: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["check", *(argument.format(data=data) for argument in arguments)]) == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.startswith("detnet: error: ")
    assert captured.err.count("\n") == 1
    assert message in captured.err
