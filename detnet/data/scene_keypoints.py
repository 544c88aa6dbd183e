"""The corners of made-up shapes as named keypoints with a left and a right."""

import math
from typing import Any

import numpy as np

# As seen in the picture, y down; shapes are turned by far less than to another corner's place.
_CORNERS = {
    "square": ("right_foot", "left_foot", "left_top", "right_top"),
    "triangle": ("top", "right_foot", "left_foot"),
}
_LINES = {
    "square": [[1, 2], [2, 3], [3, 4], [4, 1]],
    "triangle": [[1, 2], [2, 3], [3, 1]],
}
_INWARD = 0.12  # of the radius, how far from its corner a shape is looked for


def named_corners(kind: str) -> dict[str, Any]:
    """What a category says of its keypoints; nothing for shapes without corners."""
    if kind not in _CORNERS:
        return {}
    return {"keypoints": list(_CORNERS[kind]), "skeleton": _LINES[kind]}


def corner_keypoints(
    kind: str, corners: list[tuple[float, float]], radius: float, mask: np.ndarray
) -> dict[str, Any]:
    """The keypoints of one shape in COCO's form.

    Args:
        corners: x and y from the picture's edge in the order of the outline, from the angle of
            turn on.
        radius: of the circle through them.
        mask: (H, W), what can be seen of the shape.
    """
    if kind not in _CORNERS:
        return {}
    height, width = mask.shape
    middle = np.mean(corners, axis=0)
    points: list[float] = []
    for x, y in corners:
        inward = np.array([x, y]) + _INWARD * (middle - (x, y)) * radius / math.dist(middle, (x, y))
        column, row = (math.floor(side) for side in inward)
        if not (0 <= x < width and 0 <= y < height):
            points += [0, 0, 0]
            continue
        seen = 0 <= row < height and 0 <= column < width and bool(mask[row, column])
        # COCO's keypoints are indices of pixels, whose centres lie half a pixel on.
        points += [round(x - 0.5, 2), round(y - 0.5, 2), 2 if seen else 1]
    return {"keypoints": points, "num_keypoints": sum(v > 0 for v in points[2::3])}
