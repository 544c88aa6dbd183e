"""Which format a folder is taken for, where it holds files of two."""

import json
from pathlib import Path

import pytest
from PIL import Image

from detnet.data.formats.convert import convert
from detnet.data.formats.sources import recognise
from detnet.errors import InputError
from tests.data.voc_devkit import DOG, annotation


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """An image of 60x40, for labels of either format."""
    data = tmp_path / "data"
    for part in ("images", "labels"):
        (data / part).mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(data / "images" / "a.jpg")
    return data


@pytest.mark.parametrize("beside", ["labels", "images"])
@pytest.mark.parametrize("stray", ["", "labels", "images"])
def test_a_stray_xml_makes_no_voc_folder(folder: Path, beside: str, stray: str) -> None:
    (folder / "data.yaml").write_text("train: images\nnames: [dog]\n")
    (folder / beside / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / stray / "project.xml").write_text("<project/>")
    assert recognise(folder) == "yolo"
    assert convert(folder, folder.parent / "out").source_format == "yolo"


def test_an_error_names_the_format_that_was_taken(folder: Path) -> None:
    (folder / "data.yaml").write_text("train: photos\nnames: [dog]\n")
    (folder / "labels" / "a.txt").write_text("0 0.5 0.5 0.5 0.5\n")
    (folder / "project.xml").write_text("<project/>")
    out = folder.parent / "out"
    with pytest.raises(InputError, match=r"'photos'.*; read as yolo, --from names another format$"):
        convert(folder, out)
    with pytest.raises(InputError, match=r"'photos'.*; read as yolo$"):
        convert(folder, out, source_format="yolo")
    with pytest.raises(InputError, match=r"starts with <project>.*; read as voc$"):
        convert(folder, out, source_format="voc")


def test_coco_annotations_whose_images_are_nowhere_stay_coco(folder: Path) -> None:
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_train.json").write_text("{}")
    (folder / "images").rename(folder / "photos")
    (folder / "project.xml").write_text("<project/>")
    assert recognise(folder) == "coco"


@pytest.mark.parametrize("named", ["data.yaml", "classes.txt"])
def test_xml_files_beside_a_list_of_classes_are_voc(folder: Path, named: str) -> None:
    (folder / "labels" / "a.xml").write_text(annotation("a", [DOG]))
    (folder / named).write_text("names: [dog]\n" if named == "data.yaml" else "dog\n")
    assert recognise(folder) == "voc"
    assert convert(folder, folder.parent / "out").source_format == "voc"


def test_keypoints_that_are_left_out_are_told(folder: Path) -> None:
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 20], "area": 600}
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}],
        "annotations": [{**box, "keypoints": [5, 6, 2], "num_keypoints": 1}],
        "categories": [{"id": 1, "name": "dog", "keypoints": ["nose"], "skeleton": []}],
    }
    (folder / "annotations").mkdir()
    (folder / "annotations" / "instances_train.json").write_text(json.dumps(content))
    done = convert(folder, folder.parent / "out", target_format="voc")
    assert done.notes == ["left out the keypoints, keeping their boxes"]
