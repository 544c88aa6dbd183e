"""Objects of two engines find their partners, and what differs too much is told."""

from dataclasses import replace

import numpy as np
import pytest

from detnet.coco.masks import encode_pixels
from detnet.inference.engines.base import Found
from detnet.inference.export.differences import BOUNDS, Bounds, ImageDifference, difference, sum_up

BOUND = Bounds(score=0.1, box=0.1, mask=0.8, keypoint=0.1, unmatched=0.0, ap=0.01)


def found(*objects: tuple[float, ...], **more: object) -> Found:
    """Objects as x1, y1, x2, y2, label, score."""
    table = np.array(objects, np.float32).reshape(-1, 6)
    return Found(table[:, :4], table[:, 4].astype(np.int64), table[:, 5], **more)


def between(first: Found, other: Found, limit: int = 100) -> ImageDifference:
    return difference(first, other, BOUND, threshold=0.05, limit=limit)


ONE = (10, 20, 50, 40, 1, 0.9)


def test_equal_ones_have_no_difference() -> None:
    both = found(ONE, (0, 0, 5, 5, 2, 0.5))
    assert between(both, both) == ImageDifference(objects=4)
    assert between(found(), found()) == ImageDifference()


def test_the_farthest_side_counts_as_a_share_of_the_longer_one() -> None:
    moved = found((10, 20, 52, 41, 1, 0.86))
    each = between(found(ONE), moved)
    assert (each.objects, each.unmatched) == (2, 0)
    assert each.box == pytest.approx(2 / 40) and each.score == pytest.approx(0.04)


@pytest.mark.parametrize(
    "other",
    [
        (10, 20, 50, 40, 2, 0.9),  # of another label
        (10, 20, 55, 40, 1, 0.9),  # 5 of 40 pixels
        (10, 20, 50, 40, 1, 0.7),  # less sure
    ],
)
def test_what_is_too_far_is_no_partner(other: tuple[float, ...]) -> None:
    assert between(found(ONE), found(other)).unmatched == 2
    assert between(found(ONE), found()).unmatched == 1
    assert between(found(), found(ONE)).unmatched == 1


def test_one_object_is_the_partner_of_one_other() -> None:
    assert between(found(ONE, ONE), found(ONE)).unmatched == 1


def test_what_is_hardly_sure_enough_needs_no_partner() -> None:
    faint = (10, 20, 50, 40, 1, 0.12)
    assert between(found(faint), found()) == ImageDifference()
    sure = (60, 20, 90, 40, 1, 0.3)
    assert between(found(ONE, sure), found(ONE), limit=2).unmatched == 1
    # An engine that may give one object alone had no place for the second.
    assert between(found(ONE, sure), found(ONE), limit=1).unmatched == 0


def test_masks_and_keypoints() -> None:
    whole = np.zeros((50, 60), bool)
    whole[20:40, 10:50] = True
    half = whole.copy()
    half[:, 30:] = False
    first = found(ONE, masks=[encode_pixels(whole)])
    each = between(first, found(ONE, masks=[encode_pixels(half)]))
    assert each.unmatched == 2 and between(first, first).mask == 1
    loose = replace(BOUND, mask=0.5)
    close = difference(first, found(ONE, masks=[encode_pixels(half)]), loose, threshold=0, limit=9)
    assert close.mask == pytest.approx(0.5) and close.unmatched == 0
    points = np.array([[[10, 20, 1], [30, 30, 1], [50, 40, 1]]], np.float32)
    moved = replace(found(ONE), keypoints=points + np.float32([3, 0, 0]))
    pair = between(replace(found(ONE), keypoints=points), moved)
    assert pair.keypoint == pytest.approx(3 / 40) and pair.unmatched == 0


def test_all_images_together() -> None:
    each = [
        between(found(ONE), found(ONE)),
        between(found(ONE), found()),
        between(found(), found()),
    ]
    total = sum_up(each)
    assert (total.images, total.empty, total.objects, total.unmatched) == (3, 1, 3, 1)
    (said,) = total.failures(BOUND)
    assert said == ("1 of 3 objects are found by one of them alone, or differ too much, and 0% may")
    assert max(each, key=lambda one: one.badness(BOUND)) is each[1]
    assert sum_up([]).failures(BOUND) == []


def test_fewer_bits_may_differ_by_more() -> None:
    order = [BOUNDS[name] for name in ("fp32", "fp16", "bf16", "int8")]
    for name in ("score", "box", "keypoint", "unmatched", "ap"):
        values = [getattr(each, name) for each in order]
        assert values == sorted(values)
    assert BOUNDS["int8"].ap == 0.005  # the 0.5 points
