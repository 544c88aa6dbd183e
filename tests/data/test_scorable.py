"""A file is scored as it is; only the records that no evaluator can score are changed."""

import copy
from typing import Any

import pytest

from detnet.data.scorable import make_scorable
from detnet.evaluation.coco import score

SQUARE = [[10, 10, 30, 10, 30, 30, 10, 30]]


def content(*changes: dict[str, Any]) -> dict[str, Any]:
    """An image of 100 x 60 with a sound object for each change, which is made to it."""
    sound = {"image_id": 5, "category_id": 2, "bbox": [10, 10, 20, 20], "area": 150, "iscrowd": 0}
    records = [{"id": i, **sound, **change} for i, change in enumerate(changes, 1)]
    return {
        "images": [{"id": 5, "file_name": "a.jpg", "width": 100, "height": 60}],
        "annotations": [{k: v for k, v in r.items() if v is not None} for r in records],
        "categories": [{"id": 2, "name": "cell", "keypoints": ["head", "foot"]}],
    }


def test_a_sound_file_is_left_alone() -> None:
    raw = content(
        {"bbox": [90, 50, 30, 30]},  # over the corner
        {"bbox": [-40, 5, 20, 20]},  # wholly outside
        {"area": 1.5},
        {"area": 0},
        {"iscrowd": 1, "id": 900100200300},
        {"bbox": [10, 10, 0.004, 0.004]},
    )
    before = copy.deepcopy(raw)
    found = make_scorable(raw)
    assert found.content is raw and raw == before
    assert (found.records, found.repaired, found.repairs) == (6, 0, [])


def test_what_cannot_be_scored_is_repaired_and_counted() -> None:
    raw = content(
        {},
        {"bbox": [10, 10, 0, 20], "area": None},
        {"bbox": [10, 10, 20, -1]},
        {"area": None, "id": 0, "bbox": [90, 10, 20, 20]},
        {"area": None, "segmentation": [[10, 10, 30, 10, 10, 30]]},
        {"area": -4},
        {"id": 1},
    )
    before = copy.deepcopy(raw)
    found = make_scorable(raw)
    assert raw == before
    assert (found.records, found.repaired) == (7, 6)
    assert found.repairs == [
        "left out 2 without width or height",
        "computed the area of 3",
        "replaced the id of 2",
    ]
    records = found.content["annotations"]
    assert [record["area"] for record in records] == [150, 400, 200, 400, 150]
    assert records[1]["bbox"] == [90, 10, 20, 20]  # over the border, as it is
    assert len({record["id"] for record in records} - {0}) == 5 and records[0]["id"] == 1


def test_masks_are_mended_where_they_are_scored() -> None:
    raw = content(
        {"segmentation": SQUARE},
        {"segmentation": [[1, 1, 2]], "bbox": [90, 10, 20, 20]},
        {"segmentation": None},
    )
    assert make_scorable(raw).content is raw
    found = make_scorable(raw, masks=True)
    assert found.repairs == ["took the box as mask of 2"] and found.repaired == 2
    records = found.content["annotations"]
    assert records[0]["segmentation"] is SQUARE
    results = [
        {"image_id": 5, "category_id": 2, "score": 0.9, "segmentation": [[*corners]]}
        for corners in ((90, 10, 100, 10, 100, 30, 90, 30), SQUARE[0], SQUARE[0])
    ]
    assert score(found.content, results, iou_type="segm")["AR100"] == 1


def test_keypoints_of_another_number_are_left_out() -> None:
    points = [12, 12, 2, 14, 14, 1]
    raw = content({"keypoints": points}, {"keypoints": points[:3]}, {"keypoints": []}, {})
    assert make_scorable(raw).content is raw
    found = make_scorable(raw, keypoints=True)
    assert found.repairs == ["left out the keypoints of 1"]
    kept = [record.get("keypoints") for record in found.content["annotations"]]
    assert kept == [points, [], [], None]


@pytest.mark.parametrize("records", [0, 2])
def test_nothing_is_left(records: int) -> None:
    found = make_scorable(content(*[{"bbox": [1, 1, 0, 5]}] * records), masks=True, keypoints=True)
    assert found.content["annotations"] == [] and found.repaired == records
