"""Bad records of ground truth and of results: one line that names file and record."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from detnet.coco.ground_truth import fingerprint, read_ground_truth
from detnet.errors import InputError
from detnet.evaluation.detections import read_detections
from tests.contracts import check_refused

RLE = {"size": [40, 60], "counts": [100, 50, 2250]}


@pytest.fixture
def results() -> list[dict[str, Any]]:
    found = {"image_id": 10**11 + 7, "category_id": 7, "bbox": [1, 2, 3, 4], "score": 1}
    return [found, found | {"score": 0.5, "bbox": [0, 0, 5.5, 2]}]


def test_columns(truth: dict[str, Any], results: list[dict[str, Any]]) -> None:
    columns = read_ground_truth(truth)
    assert columns.names == ("a", "b (id 7)", "b (id 90)")
    assert columns.image_ids.tolist() == [3, 10**11 + 7]
    assert columns.images.tolist() == [1, 0] and columns.categories.tolist() == [2, 0]
    assert columns.areas.tolist() == [12, 2] and not columns.crowd.any()
    found = read_detections(results, columns)
    assert found.images.tolist() == [1, 1] and found.categories.tolist() == [1, 1]
    assert found.areas.tolist() == [12, 11] and found.scores.tolist() == [1, 0.5]
    assert read_detections([], columns).boxes.shape == (0, 4)


def test_sizes_of_masks_are_those_of_boxes_only_where_boxes_are(truth: dict[str, Any]) -> None:
    truth["images"][1] |= {"height": 50, "width": 50}
    truth["annotations"][0]["segmentation"] = RLE
    truth["annotations"][1]["segmentation"] = [[5, 5, 15, 5, 15, 25, 5, 25]]
    columns = read_ground_truth(truth, iou_type="segm")
    result = {"image_id": 10**11 + 7, "category_id": 5, "score": 0.5, "segmentation": RLE}
    found = read_detections([result], columns, iou_type="segm")
    assert found.areas.tolist() == [50]
    # Column-major runs: 20 pixels at the foot of the third column, 30 at the top of the fourth.
    assert found.boxes.tolist() == [[2, 0, 2, 40]]
    found = read_detections([result | {"bbox": [0, 0, 5, 5]}], columns, iou_type="segm")
    assert found.areas.tolist() == [25]


def nan(records: list[Any]) -> None:
    records[1]["bbox"] = [0, float("nan"), 1, 1]


def endless(records: list[Any]) -> None:
    records[0]["bbox"] = [0, 0, 1e308, 1e308]


def text(records: list[Any]) -> None:
    records[1]["bbox"] = [0, "1", 1, 1]


def three(records: list[Any]) -> None:
    records[1]["bbox"] = [0, 1, 1]


def all_three(records: list[Any]) -> None:
    for record in records:
        record["bbox"] = [0, 1, 1]


def negative(records: list[Any]) -> None:
    records[1]["bbox"] = [5, 5, -1, 2]


def no_box(records: list[Any]) -> None:
    del records[1]["bbox"]


def named_image(records: list[Any]) -> None:
    records[1]["image_id"] = "3"


def half_image(records: list[Any]) -> None:
    records[1]["image_id"] = 3.5


def huge_image(records: list[Any]) -> None:
    records[1]["image_id"] = 10**30


def long_number(records: list[Any]) -> None:
    records[0]["bbox"] = [0, 0, 10**400, 1]


def other_image(records: list[Any]) -> None:
    records[1]["image_id"] = 4


def other_category(records: list[Any]) -> None:
    records[1]["category_id"] = 91


def not_a_record(records: list[Any]) -> None:
    records[1] = [1, 2]


COMMON: list[tuple[Callable[[list[Any]], None], int, str]] = [
    (nan, 1, '"bbox" must be 4 finite numbers, found the list [0, nan, 1, 1]'),
    (endless, 0, "too large a number"),
    (long_number, 0, '"bbox" must be 4 finite numbers'),
    (text, 1, "\"bbox\" must be 4 finite numbers, found the list [0, '1', 1, 1]"),
    (three, 1, '"bbox" must be 4 finite numbers, found the list [0, 1, 1]'),
    (all_three, 0, '"bbox" must be 4 finite numbers, found the list [0, 1, 1]'),
    (negative, 1, "bbox [5, 5, -1, 2] has a negative width or height"),
    (no_box, 1, 'has no "bbox"'),
    (named_image, 1, "\"image_id\" must be a whole number, found the text '3'"),
    (half_image, 1, '"image_id" must be a whole number, found 3.5'),
    (huge_image, 1, '"image_id" must be a whole number'),
    (other_image, 1, ""),
    (other_category, 1, ""),
    (not_a_record, 1, "must be an object, found the list [1, 2]"),
]


@pytest.mark.parametrize("spoil, index, message", COMMON)
def test_bad_record(
    spoil: Callable[[list[Any]], None],
    index: int,
    message: str,
    truth: dict[str, Any],
    results: list[dict[str, Any]],
    tmp_path: Path,
) -> None:
    columns = read_ground_truth(truth)
    spoil(results)
    file = tmp_path / "dt.json"
    file.write_text(json.dumps(results))
    check_refused(lambda: read_detections(file, columns), f"{file}: results[{index}]", message)
    spoil(truth["annotations"])
    file.write_text(json.dumps(truth))
    name = f"annotations[{index}]" if spoil is not_a_record else f"annotation {index + 1}"
    check_refused(lambda: read_ground_truth(file), f"{file}: {name}", message)


@pytest.mark.parametrize(
    "change, message",
    [
        ({"score": "high"}, "\"score\" must be a finite number, found the text 'high'"),
        ({"score": None}, 'has no "score"'),
        ({"score": float("inf")}, '"score" must be a finite number, found inf'),
    ],
)
def test_bad_score(
    change: dict[str, Any], message: str, truth: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    results[1] |= change
    check_refused(
        lambda: read_detections(results, read_ground_truth(truth)), "results: results[1]", message
    )


@pytest.mark.parametrize(
    "change, message",
    [
        ({"area": float("nan")}, '"area" must be a finite number, found nan'),
        ({"area": -1}, "area -1 is negative"),
        ({"area": 1e10}, "area 10000000000.0 is too large a number"),
        ({"iscrowd": 2}, '"iscrowd" must be 0 or 1, found 2'),
        ({"iscrowd": "no"}, "\"iscrowd\" must be 0 or 1, found the text 'no'"),
        ({"iscrowd": float("nan")}, '"iscrowd" must be 0 or 1, found nan'),
        ({"iscrowd": [1]}, '"iscrowd" must be 0 or 1, found the list [1]'),
    ],
)
def test_bad_annotation(change: dict[str, Any], message: str, truth: dict[str, Any]) -> None:
    truth["annotations"][1] |= change
    check_refused(lambda: read_ground_truth(truth), "annotations: annotation 2", message)


BOOLEANS = [
    ({"image_id": True}, '"image_id" must be a whole number, found true'),
    ({"category_id": True}, '"category_id" must be a whole number, found true'),
    ({"bbox": [True, 0, 5, 5]}, '"bbox" must be 4 finite numbers, found the list [True, 0, 5, 5]'),
]


@pytest.mark.parametrize(("change", "message"), BOOLEANS)
@pytest.mark.parametrize("every", [False, True])
def test_true_is_no_number(change: dict[str, Any], message: str, every: bool) -> None:
    """Though it counts as 1 in Python, beside other numbers in numpy, too."""
    sound = {"image_id": 1, "category_id": 1, "bbox": [1, 2, 3, 4]}
    truth: dict[str, Any] = {
        "images": [{"id": 1}, {"id": 0}],
        "categories": [{"id": 1, "name": "a"}],
        "annotations": [{"id": 1, **sound}, {"id": 2, **sound}],
    }
    results = [{**sound, "score": 0.5}, {**sound, "score": 0.25}]
    columns = read_ground_truth(truth)
    at = 0 if every else 1
    for record in (results[at:], truth["annotations"][at:]):
        for one in record:
            one |= change
    check_refused(lambda: read_detections(results, columns), f"results: results[{at}]", message)
    check_refused(lambda: read_ground_truth(truth), f"annotations: annotation {at + 1}", message)
    check_refused(
        lambda: read_detections([{**sound, "score": 1}, {**sound, "score": True}], columns),
        "results: results[1]",
        '"score" must be a finite number, found true',
    )


@pytest.mark.parametrize("iou_type", ["bbox", "segm", "keypoints"])
def test_records_may_hold_numpy(iou_type: str) -> None:
    """As a caller's own loop leaves them."""
    fields = {"bbox": [1.0, 2, 3, 4], "segmentation": RLE, "keypoints": [2, 3, 2]}
    truth: dict[str, Any] = {
        "images": [{"id": 1, "height": 40, "width": 60}],
        "categories": [{"id": 1, "name": "a", "keypoints": ["middle"]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **fields}],
    }
    result = {"image_id": 1, "category_id": 1, **fields, "score": 0.5}
    arrays = {key: np.array(fields[key]) for key in ("bbox", "keypoints")}
    ids = {key: np.int64(1) for key in ("image_id", "category_id")}
    theirs = truth | {
        "annotations": [truth["annotations"][0] | arrays | ids | {"iscrowd": np.bool_(False)}]
    }
    columns = read_ground_truth(truth, iou_type=iou_type)
    others = read_ground_truth(theirs, iou_type=iou_type)
    assert fingerprint(others) == fingerprint(columns)
    plain = read_detections([result], columns, iou_type=iou_type)
    made = result | arrays | ids | {"score": np.float32(0.5)}
    found = read_detections([made], others, iou_type=iou_type)
    for ours, given in zip(vars(found).values(), vars(plain).values(), strict=True):
        np.testing.assert_equal(ours, given)


@pytest.mark.parametrize(
    "content, message",
    [
        ("[", "not JSON, or cut off"),
        ("hello", "not JSON, or cut off"),
        ('{"annotations": []}', "the object"),
        ("3", "found 3"),
        ("null", "found null"),
        ('"x"', "found the text 'x'"),
    ],
)
def test_files_that_are_not_results(
    content: str, message: str, truth: dict[str, Any], tmp_path: Path
) -> None:
    file = tmp_path / "dt.json"
    file.write_text(content)
    check_refused(lambda: read_detections(file, read_ground_truth(truth)), f"{file}: ", message)


def test_results_in_the_place_of_ground_truth(
    truth: dict[str, Any], results: list[dict[str, Any]]
) -> None:
    wrong: Any = results
    with pytest.raises(InputError, match="annotations: .*holds a list, as results files do"):
        read_ground_truth(wrong)
    with pytest.raises(InputError, match="results are a list .*, found the object"):
        read_detections(wrong[0], read_ground_truth(truth))


@pytest.mark.parametrize(
    "mask",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[1, 2, 3, 4, 5, 1e12]],
        [["1", 2, 3, 4, 5, 6]],
        {"size": [40, 60]},
        {"size": [60, 40], "counts": [100, 50, 2250]},
        {"size": [40, 60], "counts": [100, 50, 10]},
        {"size": [40, 60], "counts": [100, -50, 2350]},
        {"size": [40, 60], "counts": "~~~~~~~~~~~~"},
        {"size": [40, 60], "counts": "e<:n0000000"},
        {"size": [40, 60], "counts": ""},
        {"size": [40, 60], "counts": "ä"},
    ],
)
def test_bad_mask(mask: Any, truth: dict[str, Any]) -> None:
    truth["annotations"] = []
    truth["images"][1] |= {"height": 40, "width": 60}
    columns = read_ground_truth(truth, iou_type="segm")
    good = {"image_id": 3, "category_id": 5, "score": 0.5, "segmentation": RLE}
    results = [good, good | {"segmentation": mask}]
    check_refused(
        lambda: read_detections(results, columns, iou_type="segm"),
        "results: results[1]: ",
        'has no "segmentation"' if mask is None else '"segmentation" is no mask: ',
    )


def test_masks_need_sizes(truth: dict[str, Any]) -> None:
    for record in truth["annotations"]:
        record["segmentation"] = RLE
    check_refused(
        lambda: read_ground_truth(truth, iou_type="segm"), "annotations: image 3", 'has no "width"'
    )


def test_ids_may_be_large_and_negative(results: list[dict[str, Any]]) -> None:
    big = 2**61 + 1
    truth = {
        "images": [{"id": big}, {"id": big + 1}, {"id": -1}],
        "categories": [{"id": 0, "name": "a"}],
        "annotations": [],
    }
    columns = read_ground_truth(truth)
    for result, image in zip(results, (big + 1, -1), strict=True):
        result |= {"image_id": image, "category_id": 0}
    np.testing.assert_array_equal(read_detections(results, columns).images, [2, 0])
