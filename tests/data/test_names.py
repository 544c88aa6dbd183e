"""Names that lead out of a data set: refused to train on and to convert, an error to `check`."""

import json
import os
from pathlib import Path

import pytest
from PIL import Image

from detnet.cli import main
from detnet.data.check import check
from detnet.data.folders import find_split, leaves
from detnet.data.formats.convert import convert
from detnet.data.formats.voc_xml import read_list
from detnet.data.reading import load_annotations
from detnet.errors import InputError


@pytest.mark.parametrize(
    ("name", "out"),
    [
        ("a.jpg", False),
        ("b/a.jpg", False),
        ("b..c/a..jpg", False),
        ("...", False),
        ("../a.jpg", True),
        ("b/../a.jpg", True),
        ("b/../../a.jpg", True),
        ("..", True),
        ("/etc/passwd", True),
        ("//a", True),
        ("a\0b.jpg", True),
    ],
)
def test_leaves(name: str, out: bool) -> None:
    assert leaves(name) is out


def write_data(root: Path, name: str, *, layout: str = "coco") -> Path:
    """A data set of two images, the second by that name, beside a secret outside of it."""
    data = root / "data"
    folder = data / ("train" if layout == "roboflow" else "images")
    folder.mkdir(parents=True)
    for place in (folder / "a.png", root / "secret.png", root / "other" / "secret.png"):
        place.parent.mkdir(exist_ok=True)
        Image.new("RGB", (60, 40), "red").save(place)
    raw = {
        "images": [
            {"id": 1, "file_name": "a.png", "width": 60, "height": 40},
            {"id": 2, "file_name": name, "width": 60, "height": 40},
        ],
        "annotations": [
            {"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600}
            for i in (1, 2)
        ],
        "categories": [{"id": 1, "name": "thing"}],
    }
    place = data / "annotations" / "instances_train.json"
    if layout == "roboflow":
        place = folder / "_annotations.coco.json"
    place.parent.mkdir(exist_ok=True)
    place.write_text(json.dumps(raw))
    return data


@pytest.mark.parametrize("layout", ["coco", "roboflow"])
@pytest.mark.parametrize("name", ["../../secret.png", "ABSOLUTE", "x/../../../secret.png", "a\0b"])
def test_coco_names_that_lead_out(tmp_path: Path, name: str, layout: str) -> None:
    name = str(tmp_path / "secret.png") if name == "ABSOLUTE" else name
    data = write_data(tmp_path, name, layout=layout)
    for work in (
        lambda: convert(data, tmp_path / "out", target_format="yolo"),
        lambda: load_annotations(find_split(data, "train")),
    ):
        with pytest.raises(InputError, match=r"lies outside of .*data.*--outside-images"):
            work()
    assert not (tmp_path / "out").exists()
    found = [problem for problem in check(data).problems if problem.code == "image-outside"]
    assert [problem.severity for problem in found] == ["error"]
    assert found[0].record.startswith("image 2 (") and found[0].file.endswith(".json")


def test_names_that_start_above_the_images_stay_in_the_data(tmp_path: Path) -> None:
    """The first name lets all start one folder higher, which is no way out either."""
    data = write_data(tmp_path, "secret.png", layout="roboflow")
    place = data / "train" / "_annotations.coco.json"
    for first, second, message in (
        ("data/train/a.png", "other/secret.png", "lies outside of"),
        ("train/a.png", "train/a.png", ""),
    ):
        raw = json.loads(place.read_text())
        raw["images"][0]["file_name"], raw["images"][1]["file_name"] = first, second
        place.write_text(json.dumps(raw))
        if message:
            with pytest.raises(InputError, match=message):
                load_annotations(find_split(data, "train"))
        else:
            loaded, _ = load_annotations(find_split(data, "train"))
            assert loaded.image_path(1) == data / "train" / "a.png"
    explicit = find_split(place, "train", images=data / "train")
    assert load_annotations(explicit)[0].image_path(0).is_file()


def test_it_can_be_allowed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_data(tmp_path, str(tmp_path / "secret.png"))
    loaded, _ = load_annotations(find_split(data, "train", outside=True))
    assert loaded.image_path(1) == tmp_path / "secret.png"
    call = ["convert", str(data), "--to", "yolo", "--output", str(tmp_path / "out")]
    assert main(call) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert main([*call, "--outside-images"]) == 0
    assert len(list((tmp_path / "out" / "images" / "train").iterdir())) == 2
    assert main(["check", str(data)]) == 1
    assert "image-outside" in capsys.readouterr().out


def test_links_inside_may_point_anywhere(tmp_path: Path) -> None:
    data = write_data(tmp_path, "link/secret.png")
    (data / "images" / "link").symlink_to(tmp_path / "other")
    assert load_annotations(find_split(data, "train"))[0].image_path(1).is_file()
    assert not check(data).count("error")
    convert(data, tmp_path / "out", target_format="voc")
    whole = tmp_path / "whole"
    whole.symlink_to(data)
    assert len(load_annotations(find_split(whole, "train"))[0]) == 2


def test_voc_lists_that_lead_out(tmp_path: Path) -> None:
    for name in ("../../x", "/etc/passwd", "a/../../x"):
        (tmp_path / "train.txt").write_text(f"good 1\n{name} 1\n")
        with pytest.raises(InputError, match=r"train.txt: .* leads out of the data set's folder"):
            read_list(tmp_path / "train.txt")


def write_yolo(root: Path, entry: str) -> Path:
    data = root / "data"
    for folder in (data / "images", root / "elsewhere" / "images"):
        folder.mkdir(parents=True)
        Image.new("RGB", (60, 40), "red").save(folder / "a.png")
        (folder / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    (data / "data.yaml").write_text(f"names: [thing]\ntrain: {entry}\n")
    return data


@pytest.mark.parametrize("how", ["up", "absolute", "list", "list of absolutes"])
def test_yolo_files_that_lead_out(tmp_path: Path, how: str) -> None:
    away = tmp_path / "elsewhere" / "images"
    entry = {"up": "../elsewhere/images", "absolute": str(away)}.get(how, "list.txt")
    data = write_yolo(tmp_path, entry)
    line = away / "a.png" if how == "list of absolutes" else "../elsewhere/images/a.png"
    (data / "list.txt").write_text(f"images/a.png\n{line}\n")
    with pytest.raises(InputError, match=r"lies outside of it; .*--outside-images"):
        convert(data, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    done = convert(data, tmp_path / "out", outside=True)
    assert done.counts["train"]["images"] == (2 if "list" in how else 1)


def test_yolo_by_its_own_absolute_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = write_yolo(tmp_path, str(tmp_path / "data" / "images"))
    monkeypatch.chdir(tmp_path)
    assert convert(Path("data"), Path("out")).counts["train"]["images"] == 1
    os.symlink(data, tmp_path / "linked")
    assert convert(Path("linked"), Path("out2")).counts["train"]["images"] == 1
