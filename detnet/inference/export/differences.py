"""How far two engines' objects of one image lie apart, and how far they may."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from detnet.inference.engines.base import Found
from detnet.inference.prediction import paint_masks

_FAR = 2.0  # an unmatched object's distance; more than any score's


@dataclass(frozen=True)
class Bounds:
    """What an export may differ by, of one precision.

    An object has a partner where the other engine found one of its label, nearer than `box`,
    `score`, `mask` and `keypoint`. Only objects surer than the network's threshold by `score` need
    one.

    Args:
        score: of the same object.
        box: of any side of its box, as a share of the box's own longer side, or of 8 pixels.
        mask: least overlap (IoU) of its masks.
        keypoint: of a keypoint, as a share of the box's longer side.
        unmatched: share of all objects, of both, that may have no partner: where two boxes of a
            class overlap by just the suppression's threshold, rounding decides.
        ap: by how much AP may be lower, a fraction, in the middle of its interval.
    """

    score: float
    box: float
    mask: float
    keypoint: float
    unmatched: float
    ap: float


# The first from measurements (docs/export.md), the others by what each number of bits can hold.
BOUNDS = {
    "fp32": Bounds(score=0.01, box=0.02, mask=0.95, keypoint=0.05, unmatched=0.01, ap=0.001),
    "fp16": Bounds(score=0.02, box=0.04, mask=0.90, keypoint=0.08, unmatched=0.03, ap=0.002),
    "bf16": Bounds(score=0.10, box=0.15, mask=0.75, keypoint=0.15, unmatched=0.10, ap=0.005),
    "int8": Bounds(score=0.30, box=0.35, mask=0.60, keypoint=0.30, unmatched=0.30, ap=0.005),
}


@dataclass(frozen=True)
class ImageDifference:
    """How far apart two engines are on one image.

    Args:
        objects: that need a partner, of both.
        unmatched: those of them that have none.
        score: the largest difference of two partners.
        box: likewise, as `Bounds` has it.
        mask: the least overlap of two partners, 1 without masks.
        keypoint: likewise, as `Bounds` has it.
    """

    objects: int = 0
    unmatched: int = 0
    score: float = 0.0
    box: float = 0.0
    mask: float = 1.0
    keypoint: float = 0.0

    def badness(self, bounds: Bounds) -> float:
        """Orders images: how many bounds' worth the worst of it is, unmatched objects first."""
        parts = (
            self.score / bounds.score,
            self.box / bounds.box,
            (1 - self.mask) / (1 - bounds.mask),
            self.keypoint / bounds.keypoint,
        )
        return _FAR * self.unmatched + max(parts)


@dataclass(frozen=True)
class Differences:
    """Those of all images together, as `ImageDifference` has them.

    Args:
        images: how many were looked at.
        empty: on how many of them there was no object to be matched.
    """

    images: int
    empty: int
    objects: int
    unmatched: int
    score: float
    box: float
    mask: float
    keypoint: float

    def failures(self, bounds: Bounds) -> list[str]:
        """Says which bounds are exceeded, and by what."""
        if self.unmatched <= bounds.unmatched * self.objects:
            return []
        return [
            f"{self.unmatched} of {self.objects} objects are found by one of them alone, or differ "
            f"too much, and {bounds.unmatched:.0%} may"
        ]


def sum_up(each: Iterable[ImageDifference]) -> Differences:
    """Gives the differences of all images together."""
    every = list(each)
    return Differences(
        images=len(every),
        empty=sum(not one.objects for one in every),
        objects=sum(one.objects for one in every),
        unmatched=sum(one.unmatched for one in every),
        score=max((one.score for one in every), default=0.0),
        box=max((one.box for one in every), default=0.0),
        mask=min((one.mask for one in every), default=1.0),
        keypoint=max((one.keypoint for one in every), default=0.0),
    )


def difference(
    first: Found, other: Found, bounds: Bounds, *, threshold: float, limit: int
) -> ImageDifference:
    """Compares what two engines found in one image.

    Args:
        threshold: below it neither gives anything out.
        limit: nor more objects than this; where an engine gives so many, those of the other that
            are less sure need no partner.
    """
    scores, sides = _distances(first, other)
    near = (scores <= bounds.score) & (sides <= bounds.box)
    pairs = [
        pair
        for pair in _partners(near, scores / bounds.score + sides / bounds.box)
        if _mask_overlap(first, other, pair) >= bounds.mask
        and _keypoint_distance(first, other, pair) <= bounds.keypoint
    ]
    own = _need_partner(first, other, threshold + bounds.score, bounds.score, limit)
    others = _need_partner(other, first, threshold + bounds.score, bounds.score, limit)
    rows, columns = {row for row, _ in pairs}, {column for _, column in pairs}
    unmatched = sum(int(row) not in rows for row in np.flatnonzero(own))
    unmatched += sum(int(column) not in columns for column in np.flatnonzero(others))
    return ImageDifference(
        objects=int(own.sum() + others.sum()),
        unmatched=unmatched,
        score=max((float(scores[pair]) for pair in pairs), default=0.0),
        box=max((float(sides[pair]) for pair in pairs), default=0.0),
        mask=min((_mask_overlap(first, other, pair) for pair in pairs), default=1.0),
        keypoint=max((_keypoint_distance(first, other, pair) for pair in pairs), default=0.0),
    )


def _distances(first: Found, other: Found) -> tuple[np.ndarray, np.ndarray]:
    """(N, M) differences of score and of the farthest side; infinite between labels."""
    scores = np.abs(first.scores[:, None] - other.scores[None])
    sides = np.abs(first.boxes[:, None] - other.boxes[None]).max(axis=2, initial=0)
    longer = (first.boxes[:, 2:] - first.boxes[:, :2]).max(axis=1, initial=8.0)
    sides = sides / longer[:, None]
    sides[first.labels[:, None] != other.labels[None]] = np.inf
    return scores, sides


def _partners(near: np.ndarray, cost: np.ndarray) -> list[tuple[int, int]]:
    """Pairs, the nearest first, each object in one at most."""
    rows, columns = np.nonzero(near)
    order = np.argsort(cost[rows, columns], kind="stable")
    pairs: list[tuple[int, int]] = []
    taken: tuple[set[int], set[int]] = (set(), set())
    for row, column in zip(rows[order].tolist(), columns[order].tolist(), strict=True):
        if row not in taken[0] and column not in taken[1]:
            taken[0].add(row)
            taken[1].add(column)
            pairs.append((row, column))
    return pairs


def _need_partner(own: Found, other: Found, least: float, margin: float, limit: int) -> np.ndarray:
    """(N,) which objects the other engine must have found, too."""
    if len(other) >= limit:
        least = max(least, float(other.scores.min()) + margin)
    return own.scores >= least


def _mask_overlap(first: Found, other: Found, pair: tuple[int, int]) -> float:
    if first.masks is None or other.masks is None:
        return 1.0
    masks = [first.masks[pair[0]], other.masks[pair[1]]]
    one, two = paint_masks(masks, masks[0]["size"])
    either = int((one | two).sum())
    return float((one & two).sum()) / either if either >= 64 else 1.0  # of less, a pixel is much


def _keypoint_distance(first: Found, other: Found, pair: tuple[int, int]) -> float:
    if first.keypoints is None or other.keypoints is None:
        return 0.0
    box = first.boxes[pair[0]]
    longer = max(float((box[2:] - box[:2]).max()), 8.0)
    gap = first.keypoints[pair[0], :, :2] - other.keypoints[pair[1], :, :2]
    return float(np.median(np.abs(gap).max(axis=1))) / longer  # a peak may have a twin elsewhere
