from typing import Any

import numpy as np
import pytest
from pycocotools import mask as pycoco_mask

from detnet.coco.masks import decode_masks, encode_box, encode_pixels, encode_segmentation

HEIGHT, WIDTH = 12, 17


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
    counts = encode_segmentation(segmentation, HEIGHT, WIDTH)
    assert counts is not None
    decoded = decode_masks([counts, counts], HEIGHT, WIDTH)
    assert decoded.shape == (2, HEIGHT, WIDTH)
    assert decoded.dtype == np.uint8
    assert np.array_equal(decoded[1], pixels)


@pytest.mark.parametrize("invert", [False, True])
def test_uncompressed_counts(pixels: np.ndarray, invert: bool) -> None:
    wanted = pixels ^ invert
    counts = encode_segmentation(uncompressed(wanted), HEIGHT, WIDTH)
    assert counts is not None
    assert np.array_equal(decode_masks([counts], HEIGHT, WIDTH)[0], wanted)


def test_polygons_are_joined() -> None:
    polygons = [[2, 1, 6, 1, 6, 4, 2, 4], [10, 5, 14, 5, 14, 11, 10, 11]]
    counts = encode_segmentation(polygons, HEIGHT, WIDTH)
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
    assert encode_segmentation(broken, HEIGHT, WIDTH) is None


def test_pycocotools_writes_the_same(pixels: np.ndarray) -> None:
    theirs = pycoco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))["counts"]
    assert encode_pixels(pixels)["counts"].encode() == theirs
    polygon = [[2.3, 1.1, 6.7, 1.9, 5.5, 9.2], [10, 5, 14, 5, 14, 11, 10, 11]]
    parts = pycoco_mask.frPyObjects(polygon, HEIGHT, WIDTH)
    ours = encode_segmentation(polygon, HEIGHT, WIDTH)
    assert ours == pycoco_mask.merge(parts)["counts"]


def test_compressed_counts_of_random_masks_are_taken_as_they_are() -> None:
    generator = np.random.default_rng(0)
    for share in (0.0, 0.02, 0.5, 1.0):
        mask = generator.random((40, 67)) < share
        counts = pycoco_mask.encode(np.asfortranarray(mask, dtype=np.uint8))["counts"]
        segmentation = {"size": [40, 67], "counts": counts.decode()}
        assert encode_segmentation(segmentation, 40, 67) == counts
