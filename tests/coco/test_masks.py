from typing import Any

import numpy as np
import pytest
from pycocotools import mask as pycoco_mask

from detnet.coco import masks as module
from detnet.coco.masks import (
    decode_masks,
    encode_box,
    encode_masks,
    encode_pixels,
    mask_areas,
    mask_boxes,
    mask_flaw,
    painted_area,
    polygon_areas,
    rle_areas,
    segmentation_areas,
)

HEIGHT, WIDTH = 12, 17
SQUARE = [10, 5, 30, 5, 30, 15, 10, 15]
TRIANGLE = [0.5, 0, 4.5, 0, 0.5, 3]


def encode_one(segmentation: Any, height: int = HEIGHT, width: int = WIDTH) -> bytes | None:
    return encode_masks([segmentation], np.array([[height, width]]))[0]


@pytest.fixture
def pixels() -> np.ndarray:
    """An L, so that neither axis nor direction can be taken for another."""
    mask = np.zeros((HEIGHT, WIDTH), dtype=bool)
    mask[2:9, 3:5] = True
    mask[7:9, 3:12] = True
    return mask


def uncompressed(mask: np.ndarray) -> dict[str, Any]:
    flat = mask.flatten(order="F")
    changes = np.flatnonzero(np.diff(flat)) + 1
    counts = np.diff([0, *changes, flat.size]).tolist()
    return {"size": list(mask.shape), "counts": ([0] if flat[0] else []) + counts}


def test_compressed_counts(pixels: np.ndarray) -> None:
    segmentation = encode_pixels(pixels)
    assert segmentation["size"] == [HEIGHT, WIDTH]
    assert isinstance(segmentation["counts"], str)
    counts = encode_one(segmentation)
    assert counts is not None
    decoded = decode_masks([counts, counts], HEIGHT, WIDTH)
    assert decoded.shape == (2, HEIGHT, WIDTH)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded[1], pixels)


@pytest.mark.parametrize("invert", [False, True])
def test_uncompressed_counts(pixels: np.ndarray, invert: bool) -> None:
    wanted = pixels ^ invert
    counts = encode_one(uncompressed(wanted))
    assert counts is not None
    assert np.array_equal(decode_masks([counts], HEIGHT, WIDTH)[0], wanted)


def test_polygons_are_joined() -> None:
    polygons = [[2, 1, 6, 1, 6, 4, 2, 4], [10, 5, 14, 5, 14, 11, 10, 11]]
    counts = encode_one(polygons)
    assert counts is not None
    mask = decode_masks([counts], HEIGHT, WIDTH)[0]
    assert mask[1:4, 2:6].all()
    assert mask[5:11, 10:14].all()
    assert mask.sum() == 12 + 24


def test_a_box_as_mask() -> None:
    mask = decode_masks([encode_box(np.array([3, 2, 8, 9]), HEIGHT, WIDTH)], HEIGHT, WIDTH)[0]
    assert mask[2:9, 3:8].all()
    assert mask.sum() == 35


def test_no_masks() -> None:
    assert decode_masks([], HEIGHT, WIDTH).shape == (0, HEIGHT, WIDTH)


@pytest.mark.parametrize(
    "broken",
    [
        None,
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, "4", 5, 6]],
        {"size": [WIDTH, HEIGHT], "counts": [HEIGHT * WIDTH]},
        {"size": [HEIGHT, WIDTH], "counts": [5, 5]},
        {"size": [HEIGHT, WIDTH], "counts": "55"},
        {"size": [HEIGHT, WIDTH], "counts": "\x01"},
        {"size": [HEIGHT, WIDTH], "counts": "o"},
        {"size": [HEIGHT, WIDTH], "counts": "0O"},
        {"size": [HEIGHT, WIDTH], "counts": "ä"},
        {"size": [HEIGHT, WIDTH]},
        "polygon",
    ],
)
def test_what_cannot_be_read_is_none(broken: Any) -> None:
    assert encode_one(broken) is None
    assert mask_flaw(broken, HEIGHT, WIDTH)


def test_pycocotools_writes_the_same(pixels: np.ndarray) -> None:
    theirs = pycoco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))["counts"]
    assert encode_pixels(pixels)["counts"].encode() == theirs
    polygon = [[2.3, 1.1, 6.7, 1.9, 5.5, 9.2], [10, 5, 14, 5, 14, 11, 10, 11]]
    parts = pycoco_mask.frPyObjects(polygon, HEIGHT, WIDTH)
    ours = encode_one(polygon)
    assert ours == pycoco_mask.merge(parts)["counts"]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of pycocotools with numpy 2
def test_polygons_of_all_kinds_give_pycocotools_bits_and_boxes() -> None:
    generator = np.random.default_rng(3)
    for spread, start in ((1, 0), (3, -1), (0.2, 0.3), (50, -25)):
        for _ in range(40):
            height, width = generator.integers(1, 80, 2).tolist()
            corners = [(generator.random((5, 2)) * spread + start) * [width, height] for _ in "ab"]
            polygons = [points.round(1).ravel().tolist() for points in corners]
            theirs = pycoco_mask.merge(pycoco_mask.frPyObjects(polygons, height, width))
            counts = encode_one(polygons, height, width)
            assert counts == theirs["counts"] and counts is not None
            ours = {"size": [height, width], "counts": counts}
            box = mask_boxes([ours])
            as_text = {**ours, "counts": counts.decode()}
            assert mask_areas([ours, as_text]).tolist() == [pycoco_mask.area(theirs)] * 2
            assert box.tolist() == [pycoco_mask.toBbox(theirs).tolist()]
            assert painted_area(polygons, height, width) == pycoco_mask.area(theirs)


def test_compressed_counts_of_random_masks_are_taken_as_they_are() -> None:
    generator = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = generator.random((40, 67)) < share
        counts = pycoco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
        segmentation = {"size": [40, 67], "counts": counts.decode()}
        assert encode_one(segmentation, 40, 67) == counts


def random_masks(count: int) -> list[np.ndarray]:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 90, (count, 2))
    fills = random.choice([0, 0.02, 0.5, 0.98, 1], count)
    return [(random.random(size) < fill).astype(np.uint8) for size, fill in zip(sizes, fills)]  # noqa: B905


@pytest.mark.parametrize("at_once", [1, 500, 10**9])
def test_areas_of_compressed_masks(at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_CHARACTERS_AT_ONCE", at_once)
    stack = [*random_masks(120), np.ones((1500, 2000), np.uint8)]
    counts = [pycoco_mask.encode(np.asfortranarray(mask))["counts"] for mask in stack]
    texts = [text.decode() if i % 2 else text for i, text in enumerate(counts)]
    areas = rle_areas(texts, np.array([mask.size for mask in stack]))
    assert areas.tolist() == [int(mask.sum()) for mask in stack]


def test_damage_stays_with_its_mask() -> None:
    mask = random_masks(6)[2]
    good = pycoco_mask.encode(np.asfortranarray(mask))["counts"].decode()
    damaged = ["", good[:-1], good + "P", "~" * 40, "o" * 400, good[: len(good) // 2], "\x00", "é"]
    texts = [good, *(text for bad in damaged for text in (bad, good))]
    areas = rle_areas(texts, np.full(len(texts), mask.size))
    assert areas[::2].tolist() == [int(mask.sum())] * (len(damaged) + 1)
    assert (areas[1::2] == -1).all()
    assert rle_areas([good], np.array([mask.size + 1])).tolist() == [-1]
    assert rle_areas([], np.zeros(0)).shape == (0,)


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
    painted = np.zeros((40, 60), np.uint8)
    painted[5:15, 10:30] = 1
    painted[20:33, 7:9] = 1
    rle = pycoco_mask.encode(np.asfortranarray(painted))
    text = {"size": rle["size"], "counts": rle["counts"].decode()}
    flat = painted.flatten(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[0], flat, [0]])))
    runs = np.diff(np.concatenate([[0], edges, [flat.size]])).tolist()
    plain = {"size": [40, 60], "counts": runs}
    cut = {"size": [40, 60], "counts": runs[1:]}
    areas = segmentation_areas([text, plain, [SQUARE, SQUARE], cut, {"size": [40]}, None])
    np.testing.assert_array_equal(areas, [painted.sum()] * 2 + [400] + [np.nan] * 3)
    assert painted_area([SQUARE, SQUARE], 40, 60) == 200


@pytest.mark.parametrize(
    ("segmentation", "message"),
    [
        ("mask.png", "neither a list"),
        ([], "no polygons"),
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
        ({"size": [40, 60], "counts": "\x01"}, "damaged or cut off"),
        ({"size": [40, 60], "counts": "o" * 50}, "damaged or cut off"),
        ({"size": [40, 60], "counts": "O"}, "damaged or cut off"),
        ({"size": [40, 60], "counts": "T3X6dQ"}, "damaged or cut off"),
        ({"size": [40, 60], "counts": "T3X6"}, "covers 300 pixels, the image has 2400"),
    ],
)
def test_why_it_is_mask_flaw(segmentation: object, message: str) -> None:
    assert message in mask_flaw(segmentation, 40, 60)


def test_what_is_readable() -> None:
    assert mask_flaw([SQUARE], 40, 60) == ""
    assert mask_flaw({"size": [40, 60], "counts": [2400]}, 40, 60) == ""
    assert mask_flaw({"size": [40, 60], "counts": [2400]}, 0, 0) == ""
