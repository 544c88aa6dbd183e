"""A file is scored as it is, but for records that none can score; and known by what it says."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from detnet.coco.ground_truth import (
    GroundTruth,
    fingerprint,
    ground_truth_of_table,
    read_ground_truth,
)
from detnet.coco.scorable import AS_IT_IS
from detnet.coco.table import AnnotationTable
from detnet.errors import InputError
from detnet.evaluation.coco import score
from tests.contracts import check_refused

RLE = {"size": [40, 60], "counts": [100, 50, 2250]}
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


def mended(raw: dict[str, Any], iou_type: str = "bbox") -> GroundTruth:
    before = copy.deepcopy(raw)
    truth = ground_truth_of_table(AnnotationTable(raw, "x.json"), iou_type, mend=True)
    assert raw == before
    return truth


def test_a_sound_file_is_left_alone() -> None:
    raw = content(
        {"bbox": [90, 50, 30, 30]},  # over the corner
        {"bbox": [-40, 5, 20, 20]},  # wholly outside
        {"area": 1.5},
        {"area": 0},
        {"iscrowd": 1, "id": 900100200300},
        {"bbox": [10, 10, 0.004, 0.004]},
        {"id": 0},  # lost by pycocotools, but ids are not scored by
    )
    truth = mended(raw)
    assert truth.taken == AS_IT_IS
    assert truth.boxes.tolist() == [record["bbox"] for record in raw["annotations"]]


def test_what_cannot_be_scored_is_repaired_and_counted() -> None:
    truth = mended(
        content(
            {},
            {"bbox": [10, 10, 0, 20], "area": None},
            {"bbox": [10, 10, 20, -1]},
            {"area": None, "bbox": [90, 10, 20, 20]},
            {"area": None, "segmentation": [[10, 10, 30, 10, 10, 30]]},
            {"area": -4},
        )
    )
    assert truth.taken == (
        "repaired in 5 of 6 annotations: left out 2 without width or height; computed the area of 3"
    )
    assert truth.areas.tolist() == [150, 400, 200, 400]
    assert truth.boxes[1].tolist() == [90, 10, 20, 20]  # over the border, as it is


def test_masks_are_mended_where_they_are_scored() -> None:
    raw = content(
        {"segmentation": SQUARE},
        {"segmentation": [[1, 1, 2]], "bbox": [90, 10, 20, 20]},
        {"segmentation": None},
    )
    assert mended(raw).taken == AS_IT_IS
    truth = mended(raw, "segm")
    assert truth.taken == "repaired in 2 of 3 annotations: took the box as mask of 2"
    results = [
        {"image_id": 5, "category_id": 2, "score": 0.9, "segmentation": [[*corners]]}
        for corners in ((90, 10, 100, 10, 100, 30, 90, 30), SQUARE[0], SQUARE[0])
    ]
    assert score(truth, results, iou_type="segm")["AR100"] == 1


def test_keypoints_of_another_number_are_left_out() -> None:
    points = [12, 12, 2, 14, 14, 1]
    short = {"keypoints": points[:3], "num_keypoints": 1}
    raw = content({"keypoints": points}, short, {"keypoints": []}, {})
    assert mended(raw).taken == AS_IT_IS
    truth = mended(raw, "keypoints")
    assert truth.taken == "repaired in 1 of 4 annotations: left out the keypoints of 1"
    assert truth.keypoints is not None and truth.labelled is not None
    assert truth.keypoints[0].tolist() == [[12, 12, 2], [14, 14, 1]]
    assert truth.labelled.tolist() == [2, 0, 0, 0] and not truth.keypoints[1:].any()


def test_an_object_of_a_category_without_keypoints_has_none_labelled() -> None:
    raw = content({"keypoints": [12, 12, 2]}, {"category_id": 4, "num_keypoints": 3})
    raw["categories"] = [
        {"id": 2, "name": "cell", "keypoints": ["middle"]},
        {"id": 4, "name": "dust"},
    ]
    labelled = ground_truth_of_table(AnnotationTable(raw, "x.json"), "keypoints").labelled
    assert labelled is not None and labelled.tolist() == [1, 0]


@pytest.mark.parametrize("told", [-1, 1.5, 1e30])
def test_a_number_of_keypoints_that_cannot_be_is_refused_or_counted(told: float) -> None:
    raw = content({"keypoints": [12, 12, 2, 14, 14, 1], "num_keypoints": told})
    labelled = mended(raw, "keypoints").labelled
    assert labelled is not None and labelled.tolist() == [2]
    table = AnnotationTable(raw, "x.json")
    with pytest.raises(InputError, match=r"^x.json: annotation 1 .*num_keypoints .* is not how"):
        ground_truth_of_table(table, "keypoints", mend=False)


@pytest.mark.parametrize("names", [17, "nose"])
def test_keypoints_that_are_not_named_by_a_list_are_refused(names: object) -> None:
    raw = content({"keypoints": [12, 12, 2, 14, 14, 1]})
    raw["categories"][0]["keypoints"] = names
    with pytest.raises(
        InputError, match=r'category 2 \(cell\): must name its "keypoints" by a list'
    ):
        ground_truth_of_table(AnnotationTable(raw, "x.json"), "keypoints", mend=False)


def test_nothing_is_left() -> None:
    truth = mended(content(*[{"bbox": [1, 1, 0, 5], "segmentation": SQUARE}] * 2), "segm")
    assert truth.boxes.shape == (0, 4) and truth.masks == []
    assert truth.taken.startswith("repaired in 2 of 2")


def test_no_two_categories_have_one_name() -> None:
    names = ["cell", "cell", "cell (id 1)", "dust"]
    truth = mended(
        {
            "images": [],
            "annotations": [],
            "categories": [{"id": i, "name": name} for i, name in enumerate(names)],
        }
    )
    assert truth.names == ("cell (id 0)", "cell (id 1) (id 1)", "cell (id 1) (id 2)", "dust")


def test_a_category_whose_name_is_no_text_is_refused() -> None:
    raw = content({})
    raw["categories"][0]["name"] = "c\ud800ll"
    with pytest.raises(InputError, match="category 2 .*: name .* is not UTF-8; rename it"):
        ground_truth_of_table(AnnotationTable(raw, "x.json"), "bbox")


@pytest.mark.parametrize("table", ["images", "categories"])
def test_true_is_no_id(table: str, truth: dict[str, Any]) -> None:
    truth["annotations"] = []
    truth[table][1]["id"] = True
    check_refused(
        lambda: read_ground_truth(truth), "annotations: ", '"id" must be a whole number, found true'
    )


@pytest.mark.parametrize("others", [None, 0, False])
def test_a_crowd_may_be_marked_true(truth: dict[str, Any], others: Any) -> None:
    """It says the same as 1, to pycocotools, too."""
    truth["annotations"][0]["iscrowd"], truth["annotations"][1]["iscrowd"] = True, others
    assert read_ground_truth(truth).crowd.tolist() == [True, False]


def test_ground_truth_that_was_read_already(truth: dict[str, Any]) -> None:
    columns = read_ground_truth(truth)
    assert read_ground_truth(columns) is columns
    assert columns.taken == "the file as it is, but for 1 area that it lacks: width x height"
    with pytest.raises(ValueError, match="was read for bbox, read it for segm"):
        read_ground_truth(columns, iou_type="segm")
    truth["annotations"][0] |= {"area": 12, "ignore": 1}
    columns = read_ground_truth(truth)
    assert columns.taken == "the file as it is" and columns.difficult is not None
    assert columns.difficult.tolist() == [True, False] and not columns.crowd.any()


@pytest.mark.parametrize("table", ["images", "categories"])
def test_repeated_id(table: str, truth: dict[str, Any]) -> None:
    truth[table].append(dict(truth[table][0]))
    check_refused(lambda: read_ground_truth(truth), "annotations: ", "is used 2 times")


def test_files_that_are_not_ground_truth(tmp_path: Path) -> None:
    file = tmp_path / "gt.json"
    for content in ("[]", '{"images": [], "annotations": []}', '{"images": 3}', "1"):
        file.write_text(content)
        check_refused(lambda: read_ground_truth(file), f"{file}: not in COCO format", "")
    file.write_bytes(b"\xff\xd8\xff\xe0 jpeg")
    check_refused(lambda: read_ground_truth(file), f"{file}: ", "not JSON")
    check_refused(lambda: read_ground_truth(tmp_path / "no.json"), f"{tmp_path}", "cannot be read")
    check_refused(lambda: read_ground_truth(tmp_path), f"{tmp_path}", "cannot be read")


def turned(record: dict[str, Any]) -> dict[str, Any]:
    """The same record with its keys in another order."""
    return dict(reversed(record.items()))


def test_fingerprint_is_of_what_is_said(truth: dict[str, Any]) -> None:
    same = {name: [turned(r) for r in reversed(records)] for name, records in truth.items()}
    same["annotations"][1] |= {"area": 12.0, "id": 77, "iscrowd": 0, "bbox": [1, 2.0, 3, 4]}
    same["annotations"][0] |= {"bbox": [-0.0, 0, 0, 9.5]}
    mine = fingerprint(read_ground_truth(truth))
    assert len(mine) == 64 and fingerprint(read_ground_truth(turned(same))) == mine
    changes: list[tuple[str, int, dict[str, Any]]] = [
        ("annotations", 0, {"bbox": [1, 2, 3, 4.5], "area": 12}),
        ("annotations", 0, {"area": 13}),
        ("annotations", 0, {"iscrowd": 1}),
        ("annotations", 0, {"category_id": 7}),
        ("annotations", 0, {"image_id": 3}),
        ("images", 1, {"id": 4}),
        ("categories", 1, {"name": "c"}),
    ]
    seen = {mine}
    for table, index, change in changes:
        other = json.loads(json.dumps(truth))
        other[table][index] |= change
        if table == "images":
            other["annotations"][1]["image_id"] = 4
        seen.add(fingerprint(read_ground_truth(other)))
    assert len(seen) == 1 + len(changes)
    more = truth | {"images": [*truth["images"], {"id": 5}]}
    assert fingerprint(read_ground_truth(more)) not in seen


def test_fingerprint_of_masks(truth: dict[str, Any]) -> None:
    truth["images"][1] |= {"height": 40, "width": 60}
    for record in truth["annotations"]:
        record["segmentation"] = RLE
    mine = fingerprint(read_ground_truth(truth, iou_type="segm"))
    truth["annotations"].reverse()
    assert fingerprint(read_ground_truth(truth, iou_type="segm")) == mine
    truth["annotations"][0]["segmentation"] = {"size": [40, 60], "counts": [99, 51, 2250]}
    assert fingerprint(read_ground_truth(truth, iou_type="segm")) != mine
