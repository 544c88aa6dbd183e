"""COCO's files as tools write them."""

import json
from pathlib import Path
from typing import Any

import pytest

from detnet.data.folders import find_split
from detnet.data.reading import load_annotations
from detnet.errors import InputError

GROUP = {"id": 0, "name": "plate", "supercategory": "none"}
PLATE = {"id": 1, "name": "plate", "supercategory": "plate"}


def write_roboflow(folder: Path, categories: list[dict[str, Any]], *, category_id: int) -> Path:
    box = {"id": 1, "image_id": 1, "category_id": category_id, "bbox": [1, 2, 30, 20], "area": 600}
    image = {"id": 1, "file_name": "a.jpg", "width": 60, "height": 40}
    content = {"images": [image], "annotations": [box], "categories": categories}
    (folder / "train").mkdir()
    (folder / "train" / "_annotations.coco.json").write_text(json.dumps(content))
    return folder


def test_the_group_of_a_class_is_no_second_one(tmp_path: Path) -> None:
    data = write_roboflow(tmp_path, [GROUP, PLATE], category_id=1)
    train, _ = load_annotations(find_split(data, "train"))
    assert train.categories.to_json() == [{"id": 1, "name": "plate"}]
    assert train.labels.tolist() == [1]


def test_the_group_may_have_the_name_of_one_class_of_several(tmp_path: Path) -> None:
    car = {"id": 1, "name": "car", "supercategory": "plate"}
    data = write_roboflow(tmp_path, [GROUP, car, {**PLATE, "id": 2}], category_id=2)
    train, _ = load_annotations(find_split(data, "train"))
    assert (train.categories.names, train.labels.tolist()) == (("car", "plate"), [2])


def test_a_group_of_another_name_stays(tmp_path: Path) -> None:
    group, plate = {**GROUP, "name": "plates"}, {**PLATE, "supercategory": "plates"}
    data = write_roboflow(tmp_path, [group, plate], category_id=1)
    train, _ = load_annotations(find_split(data, "train"))
    assert (train.categories.names, train.labels.tolist()) == (("plates", "plate"), [2])


@pytest.mark.parametrize(
    ("first", "second", "used"), [(GROUP, PLATE, 0), (GROUP, {**PLATE, "supercategory": "x"}, 1)]
)
def test_other_classes_of_one_name_are_refused(
    tmp_path: Path, first: dict[str, Any], second: dict[str, Any], used: int
) -> None:
    data = write_roboflow(tmp_path, [first, second], category_id=used)
    with pytest.raises(InputError, match=r"category 0 \(plate\): name 'plate' is used 2 times"):
        load_annotations(find_split(data, "train"))
