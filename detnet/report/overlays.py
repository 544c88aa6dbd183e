"""What a page draws over an image: boxes and keypoints as fractions of it, masks as pictures."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from detnet.coco.keypoints import to_pixels
from detnet.coco.masks import decode_masks
from detnet.report.pictures import TINTS, Colour, Mark, MaskPicture, Skeleton, embed_mask

LOWEST = 0.05  # score from which on a detection is kept for a page
MOST = 100  # detections of one image
MOST_SHAPES = 30  # of them, the surest, have masks or keypoints; poor detectors' are ragged


def make_mark(
    kind: str,
    box: Sequence[float],
    sides: Sequence[int],
    *,
    name: str,
    score: float,
    mask: Mapping[str, Any] | None = None,
    skeleton: Skeleton | None = None,
    tint: Colour | None = None,
) -> Mark:
    """Makes the mark of one object or detection.

    Args:
        kind: as in `Mark`.
        box: xywh, pixels of the image.
        sides: the image's width and height.
        score: -1 for an object that nothing found.
        mask: COCO's compressed run lengths, {"size": [height, width], "counts"}.
        tint: of the mask; by default the kind's.
    """
    x, y, width, height = map(float, box)
    across, down = sides
    return Mark(
        kind=kind,
        x=x / across,
        y=y / down,
        width=width / across,
        height=height / down,
        name=name,
        score=score,
        mask=_tinted(mask, tint or TINTS.get(kind, TINTS["ignored"])) if mask else None,
        skeleton=skeleton,
    )


def make_skeleton(
    points: ArrayLike, edges: Iterable[tuple[int, int]], sides: Sequence[int]
) -> Skeleton | None:
    """Makes the skeleton of one object or detection; None where no point is labelled.

    Args:
        points: (K, 3), x and y as COCO has them and visibility.
        edges: pairs of the K.
        sides: the image's width and height.
    """
    values = np.asarray(points, float).reshape(-1, 3)
    there = values[:, 2] > 0
    places = [(float(x), float(y)) for x, y in to_pixels(values)[:, :2] / np.array(sides)]
    if not there.any():
        return None
    return Skeleton(
        points=[places[at] for at in np.flatnonzero(there).tolist()],
        lines=[(places[a], places[b]) for a, b in edges if there[a] and there[b]],
    )


def _tinted(mask: Mapping[str, Any], tint: Colour) -> MaskPicture | None:
    """The mask, no more of it than has pixels; None where it has none."""
    counts, (height, width) = mask["counts"], mask["size"]
    text = counts if isinstance(counts, bytes) else counts.encode("ascii")
    pixels = decode_masks([text], height, width)[0] > 0
    rows, columns = np.flatnonzero(pixels.any(axis=1)), np.flatnonzero(pixels.any(axis=0))
    if not len(rows):
        return None
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    return MaskPicture(
        uri=embed_mask(pixels[top:bottom, left:right], tint),
        x=left / width,
        y=top / height,
        width=(right - left) / width,
        height=(bottom - top) / height,
    )
