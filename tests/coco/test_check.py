"""The problems of files: each kind is found, named, and nothing else is."""

import copy
import time
from typing import Any

import pytest

from detnet.coco.check import find_problems
from detnet.coco.table import AnnotationTable


def good() -> dict[str, Any]:
    """Two images of 60x40, twelve boxes of one class: nothing wrong with it, not even an info."""
    return {
        "images": [
            {"id": 7, "file_name": "a.jpg", "width": 60, "height": 40},
            {"id": 900100000149, "file_name": "b.jpg", "width": 60, "height": 40},
        ],
        "annotations": [
            {
                "id": 900100000000 + index,
                "image_id": [7, 900100000149][index % 2],
                "category_id": 3,
                "bbox": [index, 2.5, 20, 10],
                "area": 200,
                "iscrowd": 0,
            }
            for index in range(12)
        ],
        "categories": [{"id": 3, "name": "cat"}],
    }


def found(raw: dict[str, Any]) -> list[tuple[str, str, str]]:
    return [(p.severity, p.code, p.record) for p in find_problems(AnnotationTable(raw, "x.json"))]


def with_annotation(**changes: Any) -> dict[str, Any]:
    """The good file with one annotation changed; a value of ... removes the key."""
    raw = good()
    row = raw["annotations"][1]
    row.update(id=55, image_id=7, **changes) if "id" not in changes else row.update(changes)
    raw["annotations"][1] = {key: value for key, value in row.items() if value is not ...}
    return raw


def test_a_good_file_has_no_problems() -> None:
    assert find_problems(AnnotationTable(good(), "x.json")) == []


IN_A = "annotation 55 (image a.jpg)"
SQUARE = [[0, 0, 20, 0, 20, 10, 0, 10]]


@pytest.mark.parametrize(
    ("changes", "severity", "code", "message"),
    [
        ({"bbox": ["1", 2, 3, 4]}, "error", "bad-type", '"bbox" must be 4 finite numbers'),
        ({"bbox": [1, 2, 3, float("nan")]}, "error", "bad-type", "4 finite numbers"),
        ({"bbox": [1, 2, 3]}, "error", "bad-type", "4 finite numbers"),
        ({"bbox": 5}, "error", "bad-type", "4 finite numbers, found 5"),
        ({"bbox": [1, 2, 10**400, 4]}, "error", "bad-type", "4 finite numbers"),
        ({"bbox": ...}, "error", "missing-field", 'has no "bbox"'),
        ({"bbox": [1, 2, 1e300, 1e300], "area": 1e308}, "warning", "box-outside", "1e+300"),
        ({"category_id": "3"}, "error", "bad-type", "whole number, found the text '3'"),
        ({"category_id": True}, "error", "bad-type", "whole number, found true"),
        ({"category_id": 3.5}, "error", "bad-type", "whole number, found 3.5"),
        ({"category_id": None}, "error", "missing-field", 'has no "category_id"'),
        ({"category_id": 4}, "error", "unknown-category", "has category 4"),
        ({"area": "200"}, "error", "bad-type", '"area" must be a finite number'),
        ({"area": float("inf")}, "error", "bad-type", '"area" must be a finite number'),
        ({"iscrowd": "yes"}, "error", "bad-type", '"iscrowd" must be 0 or 1'),
        ({"bbox": [1, 2, 0, 10], "area": 0}, "warning", "box-degenerate", "0 wide and 10 high"),
        ({"bbox": [9, 2, -4, 10], "area": 40}, "warning", "box-degenerate", "-4 wide"),
        ({"bbox": [1, 2, 0.5, 30], "area": 15}, "warning", "box-subpixel", "0.5 wide"),
        (
            {"bbox": [50, 2, 20, 10]},
            "warning",
            "box-outside",
            "box (50, 2, 70, 12) reaches outside its image of 60 x 40",
        ),
        ({"bbox": [-3, 2, 20, 10]}, "warning", "box-outside", "reaches outside"),
        ({"bbox": [70, 2, 20, 10]}, "warning", "box-outside", "lies wholly outside"),
        ({"area": ...}, "warning", "area-missing", "has no area"),
        ({"area": 150}, "warning", "area-wrong", "area is 150, its box has 200"),
        ({"area": 202.5}, "warning", "area-wrong", "area is 202.5, its box has 200"),
        ({"bbox": [30, 33, 20, 10]}, "warning", "box-outside", "(30, 33, 50, 43) reaches outside"),
        ({"bbox": [30, 41, 20, 10]}, "warning", "box-outside", "lies wholly outside"),
        ({"bbox": [45, 2, 20, 10]}, "warning", "box-outside", "(45, 2, 65, 12) reaches outside"),
        ({"area": 100, "segmentation": SQUARE}, "warning", "area-wrong", "its mask covers 200"),
        ({"segmentation": [[1, 2, 3, 4]]}, "warning", "bad-segmentation", "has 4 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, "6"]]}, "warning", "bad-segmentation", "no finite"),
        ({"segmentation": [[0, 0, 1e300, 0, 9, 9]]}, "warning", "bad-segmentation", "beyond"),
        (
            {"segmentation": {"size": [60, 40], "counts": [2400]}},
            "warning",
            "bad-segmentation",
            "RLE size (height, width) is [60, 40], its image's [40, 60]",
        ),
        (
            {"segmentation": {"size": [40, 60], "counts": [100, 5]}},
            "warning",
            "bad-segmentation",
            "RLE covers 105 pixels, the image has 2400",
        ),
        (
            {"segmentation": {"size": [40, 60], "counts": "\u00e9"}},
            "warning",
            "bad-segmentation",
            "damaged or cut off",
        ),
    ],
)
def test_one_wrong_annotation(
    changes: dict[str, Any], severity: str, code: str, message: str
) -> None:
    problems = find_problems(AnnotationTable(with_annotation(**changes), "x.json"))
    assert [(p.severity, p.code, p.file, p.record) for p in problems] == [
        (severity, code, "x.json", IN_A)
    ]
    assert message in problems[0].message


@pytest.mark.parametrize(
    "changes",
    [
        {"bbox": [40.04, 2, 20, 10]},  # rounding beyond the edge
        {"area": 201},
        {"category_id": 3.0},
        {"iscrowd": ...},
        {"segmentation": []},
        {"segmentation": SQUARE},
        {"segmentation": SQUARE * 2},  # union, not sum
        {"segmentation": {"size": [40, 60], "counts": [100, 200, 2100]}},
        {"segmentation": {"size": [40, 60], "counts": "T3X6dQ2"}},
    ],
)
def test_what_is_tolerated(changes: dict[str, Any]) -> None:
    assert found(with_annotation(**changes)) == []


def test_a_bad_polygon_does_not_hide_the_area_of_another() -> None:
    raw = with_annotation(area=100, segmentation=SQUARE)
    raw["annotations"][2]["segmentation"] = [[1, 2, 3, 4, 5, None]]
    assert [code for _, code, _ in found(raw)] == ["bad-segmentation", "area-wrong"]


def test_ids_that_clash_or_point_nowhere() -> None:
    raw = good()
    raw["annotations"][0]["image_id"] = 8
    raw["annotations"][1]["id"] = 0
    raw["annotations"][2]["id"] = raw["annotations"][3]["id"] = 5
    raw["images"].append(dict(raw["images"][0]))
    raw["categories"] += [{"id": 3, "name": "dog"}, {"id": 0, "name": "cat"}]
    codes = found(raw)
    assert ("error", "orphan-annotation", "annotation 900100000000") in codes
    assert ("warning", "id-zero", "annotation 0 (image b.jpg)") in codes
    assert codes.count(("error", "duplicate-image-id", "image 7 (a.jpg)")) == 2
    assert codes.count(("warning", "duplicate-file-name", "image 7 (a.jpg)")) == 2
    assert ("warning", "duplicate-annotation-id", "annotation 5 (image a.jpg)") in codes
    assert ("warning", "duplicate-annotation-id", "annotation 5 (image b.jpg)") in codes
    assert ("error", "duplicate-category-id", "category 3 (dog)") in codes
    assert ("error", "duplicate-category-name", "category 0 (cat)") in codes
    assert ("info", "id-zero", "category 0 (cat)") in codes


def test_an_object_that_is_there_twice() -> None:
    raw = good()
    again = dict(raw["annotations"][1])
    raw["annotations"] += [
        again | {"id": 1},
        again | {"id": 2, "bbox": [1, 2.5, 20, 10.5], "area": 210},
        again | {"id": 3, "image_id": 7},
        again | {"id": 4, "iscrowd": 1},
        again | {"id": 5, "bbox": [1, 2, float("nan"), 3]},
        again | {"id": 6, "bbox": [1, 2, float("nan"), 3]},
    ]
    problems = find_problems(AnnotationTable(raw, "x.json"))
    assert [(p.record, p.message) for p in problems if p.code == "box-twice"] == [
        (
            "annotation 1 (image b.jpg)",
            "has the same box and class as annotation 900100000001 (image b.jpg)",
        )
    ]


def test_what_training_refuses_are_the_errors_among_them() -> None:
    raw = good()
    raw["categories"] += [{"id": 4, "name": "cat"}, {"id": 4, "name": ""}]
    raw["images"][1] |= {"id": 7, "width": 0, "file_name": "a.jpg"}
    raw["annotations"][2] |= {"bbox": [1, 2, 3], "area": "much", "iscrowd": 2}
    raw["annotations"][3] |= {"category_id": 8, "image_id": 1, "id": None}
    raw["annotations"][4] |= {"bbox": [1, 2, 0, 0], "area": 0}  # no error
    errors = AnnotationTable(raw, "x.json").errors()
    assert len({each.code for each in errors}) == 8
    everything = find_problems(AnnotationTable(raw, "x.json"))
    assert errors == [each for each in everything if each.severity == "error"] != everything


def test_gravest_first() -> None:
    raw = with_annotation(area=1)
    raw["images"].append({"id": 9, "file_name": "c.jpg", "width": 60, "height": 40})
    raw["annotations"][5]["category_id"] = 8
    assert [severity for severity, _, _ in found(raw)] == ["error", "warning", "info"]


def test_images_without_size_or_annotations() -> None:
    raw = good()
    del raw["images"][0]["width"]
    raw["images"][1]["height"] = 0
    raw["images"] += [{"id": 1, "width": "60", "height": 40, "file_name": ""}]
    assert found(raw) == [
        ("error", "bad-type", "image 1"),
        ("error", "missing-size", "image 7 (a.jpg)"),
        ("error", "bad-type", "image 1"),
        ("error", "missing-size", "image 900100000149 (b.jpg)"),
        ("info", "image-without-annotations", "image 1"),
    ]


@pytest.mark.parametrize("crowd", [True, 1.0])
def test_crowds_by_another_word(crowd: Any) -> None:
    assert found(with_annotation(iscrowd=crowd)) == [("info", "crowd", "")]
    assert found(with_annotation(iscrowd=False)) == []


def test_classes_with_few_boxes_and_crowds() -> None:
    raw = good()
    raw["categories"] += [{"id": 1, "name": "dog"}, {"id": 2, "name": "cow"}]
    raw["annotations"][0].update(category_id=1, iscrowd=1)
    problems = find_problems(AnnotationTable(raw, "x.json"))
    assert [(p.code, p.record, p.message) for p in problems] == [
        ("few-boxes", "category 1 (dog)", "has only 1 box"),
        ("unused-category", "category 2 (cow)", "has no boxes"),
        ("crowd", "", "1 of 12 annotations are crowds: not trained on"),
    ]


@pytest.mark.parametrize(
    "raw",
    [
        {"images": [1], "annotations": [None], "categories": [[]]},
        {"images": [{}], "annotations": [{}], "categories": [{}]},
        {"images": [{"id": {}}], "annotations": [{"id": [], "image_id": {}}], "categories": []},
        {"images": [], "annotations": [{"segmentation": {"size": "a"}}], "categories": []},
    ],
)
def test_any_content_is_answered(raw: dict[str, Any]) -> None:
    assert {problem.severity for problem in find_problems(AnnotationTable(raw, "x.json"))} >= {
        "error"
    }


def test_nothing_at_all_is_fine() -> None:
    assert found({"images": [], "annotations": [], "categories": []}) == []


def test_the_content_is_left_alone() -> None:
    raw = with_annotation(bbox=[70, 2, 20, 10], segmentation=SQUARE)
    before = copy.deepcopy(raw)
    find_problems(AnnotationTable(raw, "x.json"))
    assert raw == before


def test_many_annotations_take_little_time() -> None:
    raw = good()
    raw["annotations"] *= 5000
    for index, row in enumerate(raw["annotations"]):
        box = [index / 3000, 2.5, 20, 10]
        raw["annotations"][index] = {
            **row, "id": index + 1, "segmentation": SQUARE, "bbox": box,
        }  # fmt: skip
    start = time.perf_counter()
    assert find_problems(AnnotationTable(raw, "x.json")) == []
    assert time.perf_counter() - start < 5  # 0.3 s here; a loop over annotations takes far more
