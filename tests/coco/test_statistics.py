"""Counts of a COCO file's records, also of those that are wrong."""

from typing import Any

from detnet.coco.statistics import statistics as of_table
from detnet.coco.table import AnnotationTable


def statistics(raw: dict[str, Any]) -> dict[str, Any]:
    return of_table(AnnotationTable(raw, "x.json"))


def test_counts() -> None:
    boxes: list[dict[str, Any]] = [
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10], "area": 1023.9},
        {"image_id": 1, "category_id": 5, "bbox": [0, 0, 10, 10], "area": 1024},
        {"image_id": 1, "category_id": 6, "bbox": [0, 0, 96, 96], "iscrowd": 1},
        {"image_id": 2, "category_id": 5, "bbox": [0, 0, 10, 10]},
    ]
    raw = {
        "images": [
            {"id": 1, "width": 640, "height": 480},
            {"id": 2, "width": 640, "height": 480},
            {"id": 3, "width": 320, "height": 500},
        ],
        "annotations": [{"id": i, **box} for i, box in enumerate(boxes, start=1)],
        "categories": [{"id": 6, "name": "dog"}, {"id": 5, "name": "cat"}],
    }
    assert statistics(raw) == {
        "images": 3,
        "annotations": 4,
        "images_without_annotations": 1,
        "crowds": 1,
        "boxes_per_image": {"mean": 1.33, "max": 3},
        "image_sizes": {
            "width": {"min": 320, "median": 640, "max": 640},
            "height": {"min": 480, "median": 480, "max": 500},
            "most_common": [
                {"width": 640, "height": 480, "images": 2},
                {"width": 320, "height": 500, "images": 1},
            ],
        },
        "objects_by_size": {"small": 2, "medium": 1, "large": 1},
        "per_class": {
            "dog": {"annotations": 1, "images": 1},
            "cat": {"annotations": 3, "images": 2},
        },
    }


def test_sizes_are_told_apart_by_cocos_areas() -> None:
    areas = [1023, 1024, 1025, 9215, 9216, 9217, 9218]
    raw = {
        "images": [{"id": 1, "width": 640, "height": 480}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": [0, 0, area / 32, 32]}
            for i, area in enumerate(areas)
        ],
        "categories": [{"id": 1, "name": "dog"}],
    }
    # Each is counted once, though COCO's scores have 32² and 96² in both of two sizes.
    assert statistics(raw)["objects_by_size"] == {"small": 1, "medium": 3, "large": 3}


def test_nothing_to_count() -> None:
    counts = statistics({"images": [], "annotations": [], "categories": []})
    assert counts["image_sizes"] == {"width": None, "height": None, "most_common": []}
    assert counts["boxes_per_image"] == {"mean": 0, "max": 0}


def test_wrong_records_are_left_out() -> None:
    raw = {
        "images": [{"id": 1, "width": 1e300, "height": 480}, {"id": "a"}, 7],
        "annotations": [{"id": 1, "image_id": 9, "category_id": "x", "bbox": [0, 0, 1e300, 1e300]}],
        "categories": [{"id": 1, "name": ["a"]}, {}],
    }
    counts = statistics(raw)
    assert counts["per_class"] == {"['a']": {"annotations": 0, "images": 0}}
    assert counts["image_sizes"]["width"] is None
