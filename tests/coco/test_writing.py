"""What is written as COCO's is what was read, and pycocotools takes it."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO

from detnet.coco.writing import to_coco_dict
from detnet.data.folders import Split
from detnet.data.reading import load_annotations

WriteData = Callable[..., Split]
Record = Callable[..., dict[str, Any]]


def test_ground_truth_for_evaluators(
    write_data: WriteData, record: Record, capsys: pytest.CaptureFixture[str]
) -> None:
    polygon = [[1, 2, 11, 2, 11, 7, 1, 7]]
    split = write_data(
        [(60, 40), (50, 70)],
        [
            record(0, 1, [1, 2, 10, 5], category_id=7, segmentation=polygon),
            record(900100000007, 0, [473.07 - 450, 0.1, 30.29, 20.3], area=12.5, iscrowd=1),
        ],
        categories=[{"id": 7, "name": "b"}, {"id": 1, "name": "a"}],
        files=False,
    )
    annotations, _ = load_annotations(split, masks=True)
    truth = json.loads(json.dumps(to_coco_dict(annotations)))
    assert [a["id"] for a in truth["annotations"]] == [1, 2]
    assert [a["image_id"] for a in truth["annotations"]] == [100, 101]
    assert [a["category_id"] for a in truth["annotations"]] == [1, 7]
    assert [a["iscrowd"] for a in truth["annotations"]] == [1, 0]
    assert truth["annotations"][0]["area"] == 12.5
    # Not a digit may be lost on the way, or scores would differ from those of the file itself.
    assert truth["annotations"][0]["bbox"] == [473.07 - 450, 0.1, 30.29, 20.3]
    assert truth["categories"] == [{"id": 1, "name": "a"}, {"id": 7, "name": "b"}]
    coco = COCO()
    coco.dataset = truth
    coco.createIndex()
    assert coco_mask.area(coco.anns[2]["segmentation"]) == 50
    assert capsys.readouterr().out  # pycocotools says what it did; nothing else is printed here


def test_ground_truth_of_some_images(write_data: WriteData, record: Record) -> None:
    split = write_data(
        [(60, 40), (50, 70)],
        [record(1, 0, [1, 2, 10, 5]), record(2, 1, [3, 4, 10, 5])],
        files=False,
    )
    truth = to_coco_dict(load_annotations(split)[0], [1])
    assert [image["id"] for image in truth["images"]] == [101]
    assert [a["bbox"] for a in truth["annotations"]] == [[3, 4, 10, 5]]
    assert "segmentation" not in truth["annotations"][0]
