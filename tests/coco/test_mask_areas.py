"""Areas of outlines by geometry and by pixels."""

import numpy as np
import pytest

from detnet.coco.mask_areas import pixel_area, polygon_areas, run_lengths, unreadable

SQUARE = [10, 5, 30, 5, 30, 15, 10, 15]
TRIANGLE = [0.5, 0, 4.5, 0, 0.5, 3]


def test_areas_of_many_at_once() -> None:
    clockwise = SQUARE[6:] + SQUARE[4:6] + SQUARE[2:4] + SQUARE[:2]
    areas = polygon_areas([[SQUARE], [TRIANGLE, SQUARE], [clockwise], None, [], "a", {"size": 1}])
    np.testing.assert_allclose(areas, [200, 206, 200, np.nan, np.nan, np.nan, np.nan])


def test_one_bad_number_spoils_one_area_only() -> None:
    areas = polygon_areas([[SQUARE], [[0, 0, 1, 1, "2", 3]], [TRIANGLE], [[0, 0, 9, 9, 1e300, 0]]])
    np.testing.assert_allclose(areas, [200, np.nan, 6, np.nan])


def test_nothing_has_no_areas() -> None:
    assert polygon_areas([]).shape == (0,)
    assert np.isnan(polygon_areas([None, []])).all()


def test_pixels_agree_with_the_reference_implementation() -> None:
    from pycocotools import mask

    painted = np.zeros((40, 60), np.uint8)
    painted[5:15, 10:30] = 1
    painted[20:33, 7:9] = 1
    rle = mask.encode(np.asfortranarray(painted))
    text = {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = painted.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    assert run_lengths(text["counts"]) == runs
    assert pixel_area(text, 40, 60) == painted.sum()
    assert pixel_area({"size": [40, 60], "counts": runs}, 40, 60) == painted.sum()
    assert pixel_area([SQUARE, SQUARE], 40, 60) == 200


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ("mask.png", "neither a list"),
        ([SQUARE, SQUARE[:5]], "has 5 numbers"),
        ([0, 0, 1, 1, 2, 2], "inside a list"),
        ([[0, 0, 1, 1, 2, float("nan")]], "no finite number"),
        ([[0, 0, 1, 1, 2, 1e7]], "beyond 1,000,000 pixels"),
        ({"counts": [2400]}, "no size"),
        ({"size": [40, 10**9], "counts": "0"}, "not from 1 to"),
        ({"size": [60, 40], "counts": [2400]}, "its image's [40, 60]"),
        ({"size": [40, 60]}, "no counts"),
        ({"size": [40, 60], "counts": [1, 2]}, "covers 3 pixels, the image has 2400"),
        ({"size": [40, 60], "counts": [-1, 2401]}, "whole numbers"),
        ({"size": [40, 60], "counts": "\x01"}, "where no run length has it"),
        ({"size": [40, 60], "counts": "o" * 50}, "where no run length has it"),
        ({"size": [40, 60], "counts": "O"}, "negative run length"),
        ({"size": [40, 60], "counts": "T3X6dQ"}, "cut off"),
        ({"size": [40, 60], "counts": "T3X6"}, "covers 300 pixels, the image has 2400"),
    ],
)
def test_why_it_is_unreadable(segmentation: object, message: str) -> None:
    assert message in unreadable(segmentation, 40, 60)


def test_what_is_readable() -> None:
    assert unreadable([SQUARE], 40, 60) == ""
    assert unreadable({"size": [40, 60], "counts": [2400]}, 40, 60) == ""
    assert unreadable({"size": [40, 60], "counts": [2400]}, 0, 0) == ""
