"""Keypoints of annotations and results as arrays, and how far off each may be."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from detnet.coco.records import Records

# Standard deviation of human labelling by keypoint, relative to an object's size, in COCO's order:
# nose, then left and right of eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
_PAIRED = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)
COCO_SIGMAS = (0.026, *(sigma for sigma in _PAIRED for _ in range(2)))
OTHER_SIGMA = 0.05  # of keypoints that nobody has measured

_LARGEST = 1e9


def default_sigmas(count: int) -> tuple[float, ...]:
    """COCO's for 17 keypoints, 0.05 each for any other number."""
    return COCO_SIGMAS if count == len(COCO_SIGMAS) else (OTHER_SIGMA,) * count


def count_keypoints(
    categories: Sequence[dict[str, Any]], annotations: Records, of: np.ndarray
) -> np.ndarray:
    """How many keypoints each category has.

    It is the number that a category names; where it names none, that of its first annotation that
    has some.

    Args:
        categories: C records.
        of: (N,) category of each annotation, by position.
    """
    counts = [len(record.get("keypoints") or ()) for record in categories]
    if not all(counts):
        for record, category in zip(annotations.records, of.tolist(), strict=True):
            values = record.get("keypoints")
            if not counts[category] and isinstance(values, list):
                counts[category] = len(values) // 3
    return np.array(counts, np.int64)


def read_keypoints(
    table: Records, of: np.ndarray, counts: np.ndarray, *, all_have_them: bool
) -> np.ndarray:
    """Takes the field `keypoints` of every record.

    Args:
        of: (N,) category of each record, by position.
        counts: (C,) how many keypoints each category has.
        all_have_them: whether every record of a category with keypoints must have them.

    Returns:
        (N, K, 3) x, y and visibility, K being the largest count; zeros beyond a category's own.

    Raises:
        InputError: naming the first record whose keypoints cannot be used.
    """
    points = np.zeros((len(table), int(counts.max(initial=0)), 3))
    given = [record.get("keypoints") or None for record in table.records]
    there = np.array([values is not None for values in given], bool)
    if all_have_them:
        table.refuse(~there & (counts[of] > 0), "keypoints", "is not there; its category has some")
    for category, count in enumerate(counts.tolist()):
        rows = np.flatnonzero(there & (of == category))
        if not count:
            continue
        problem = f"is not x, y and visibility of {count} keypoints: {3 * count} finite numbers"
        bad = np.array([not _usable(values, 3 * count) for values in given], bool)
        table.refuse(bad & there & (of == category), "keypoints", problem)
        values = np.array([given[row] for row in rows], np.float64).reshape(len(rows), count, 3)
        points[rows, :count] = values
    return points


def keypoint_boxes(points: np.ndarray, own: np.ndarray) -> np.ndarray:
    """(N, 4) xywh, the boxes around all of an object's points, as pycocotools takes them.

    Args:
        points: (N, K, 3).
        own: (N,) how many of the K are the object's.
    """
    beyond = (np.arange(points.shape[1]) >= own[:, None])[..., None]
    low = np.where(beyond, np.inf, points[..., :2]).min(axis=1, initial=np.inf)
    high = np.where(beyond, -np.inf, points[..., :2]).max(axis=1, initial=-np.inf)
    none = own == 0
    low[none], high[none] = 0, 0
    return np.concatenate([low, high - low], axis=1)


def _usable(values: Any, length: int) -> bool:
    if not isinstance(values, list | tuple) or len(values) != length:
        return False
    if not set(map(type, values)) <= {int, float}:
        return False
    return all(abs(value) <= _LARGEST for value in values)  # NaN is refused here, too
