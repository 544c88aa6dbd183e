"""COCO's matching of detections to ground truth, for a whole data set at once.

An evaluator written in C answers quickly what a precision is, and slowly which detection found
which object. Error kinds, confusion, pictures and comparisons need the second, so it is computed
here into flat arrays, by pycocotools' rules to the last bit.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import Grid
from detnet.evaluation.overlaps import OverlapFunction, overlaps_of

_PAIRS_AT_ONCE = 2_000_000
_ABOVE_ALL_PAIRS = 1 << 30


@dataclass(frozen=True)
class Matches:
    """Which object each detection was matched to, at every size and IoU threshold.

    D detections count: the `max_dets[-1]` best-scored of each image and category. They stand as
    COCO accumulates precision: by category, then score downwards, then image, then rank.

    Args:
        rows: (D,) positions in `Detections`.
        images, categories, scores: (D,) of those.
        ranks: (D,) place by score among the detections of the same image and category, from 0.
        matched: (A, T, D) int32, position in `GroundTruth` of the object found, -1 for none.
        ignored: (A, T, D), counts neither for nor against: matched to an ignored object, or
            matched to none and itself outside the range of sizes.
        truth_ignored: (A, G), objects that need not be found: crowds, other sizes and, of
            keypoints, those without labelled ones.
    """

    truth: GroundTruth
    grid: Grid
    rows: np.ndarray
    images: np.ndarray
    categories: np.ndarray
    scores: np.ndarray
    ranks: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    truth_ignored: np.ndarray


@dataclass(frozen=True)
class _CandidatePairs:
    """Detections and objects of one image and category that overlap enough for some threshold.

    Sorted by step, then detection, then IoU, then object. Pairs of the same step belong to
    different groups of image and category, so a step can be matched at once.
    """

    steps: np.ndarray
    detections: np.ndarray
    objects: np.ndarray
    ious: np.ndarray


def match(truth: GroundTruth, detections: Detections, grid: Grid) -> Matches:
    """Matches as pycocotools' `COCOeval.evaluateImg` does, every image and category in step.

    From the best score down, a detection takes the free object of highest IoU, the later of two
    equal ones; one that counts is preferred to an ignored one of whatever IoU. A crowd stays free.
    """
    found = _counted(truth, detections, grid.max_dets[-1])
    limits = np.array(list(grid.areas.values())).reshape(-1, 2, 1)
    outside = _outside(detections.areas[found["rows"]], limits)
    needless = truth.crowd if truth.labelled is None else truth.crowd | (truth.labelled == 0)
    truth_ignored = _outside(truth.areas, limits) | needless
    thresholds = np.minimum(grid.iou_thresholds, 1 - 1e-10)
    overlaps = overlaps_of(truth, grid)
    pairs = _pairs(truth, detections, found, overlaps, float(thresholds.min()))
    matched = _match_in_steps(pairs, thresholds, truth.crowd, truth_ignored, len(found["rows"]))
    ignored = np.repeat(outside[:, None], len(thresholds), axis=1)
    sizes, levels, hits = np.nonzero(matched >= 0)
    ignored[sizes, levels, hits] = truth_ignored[sizes, matched[sizes, levels, hits]]
    return Matches(
        truth, grid, **found, matched=matched, ignored=ignored, truth_ignored=truth_ignored
    )


def _outside(areas: np.ndarray, limits: np.ndarray) -> np.ndarray:
    """(A, N): the area is not in the range."""
    return (areas < limits[:, 0]) | (areas > limits[:, 1])


def _counted(truth: GroundTruth, detections: Detections, most: int) -> dict[str, np.ndarray]:
    """The detections that count, in the order of `Matches`."""
    groups = detections.categories * len(truth.image_ids) + detections.images
    order = np.lexsort((-detections.scores, groups))
    ranks = _places(groups[order])
    order, ranks = order[ranks < most], ranks[ranks < most]
    by_score = np.lexsort((-detections.scores[order], detections.categories[order]))
    rows = order[by_score]
    return {
        "rows": rows,
        "images": detections.images[rows],
        "categories": detections.categories[rows],
        "scores": detections.scores[rows],
        "ranks": ranks[by_score],
    }


def _places(groups: np.ndarray) -> np.ndarray:
    """Each element's place, from 0, in its run of equal values."""
    places = np.arange(len(groups))
    first = np.ones(len(groups), bool)
    first[1:] = groups[1:] != groups[:-1]
    return places - np.maximum.accumulate(np.where(first, places, 0))


def _pairs(
    truth: GroundTruth,
    detections: Detections,
    found: dict[str, np.ndarray],
    overlaps: OverlapFunction,
    least: float,
) -> _CandidatePairs:
    count = len(truth.image_ids)
    groups = found["categories"] * count + found["images"]
    near: list[tuple[np.ndarray, ...]] = []
    for members, objects in candidates(groups, truth.categories * count + truth.images):
        ious = overlaps(truth, detections, found["rows"][members], objects)
        enough = ious >= least
        near.append((members[enough], objects[enough], ious[enough]))
    members, objects, ious = (np.concatenate(columns) for columns in zip(*near, strict=True))
    kept = np.unique(members)
    kept = kept[np.lexsort((found["ranks"][kept], groups[kept]))]
    steps = np.zeros(len(groups), np.int64)
    steps[kept] = _places(groups[kept])
    order = np.lexsort((objects, ious, members, steps[members]))
    return _CandidatePairs(steps[members][order], members[order], objects[order], ious[order])


def candidates(
    groups: np.ndarray, object_groups: np.ndarray
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """All pairs of a detection and an object of the same group, some millions at a time.

    Args:
        groups: (D,) of detections, an image and category for instance.
        object_groups: (G,) of objects.

    Yields:
        positions of detections and of objects, (P,) each: the pairs of a group together, in it
        those of a detection, its objects ascending.
    """
    by_group = np.argsort(object_groups, kind="stable")
    ordered = object_groups[by_group]
    begins = np.searchsorted(ordered, groups, "left")
    counts = np.searchsorted(ordered, groups, "right") - begins
    members = np.argsort(groups, kind="stable")  # a group's pairs stay together, for masks
    members = members[counts[members] > 0]
    ends = np.cumsum(counts[members])
    cuts = np.searchsorted(ends, np.arange(_PAIRS_AT_ONCE, ends[-1:].sum(), _PAIRS_AT_ONCE))
    for some in np.split(members, np.unique(cuts)):
        each = counts[some]
        within = np.arange(each.sum()) - np.repeat(np.cumsum(each) - each, each)
        yield np.repeat(some, each), by_group[np.repeat(begins[some], each) + within]


def _match_in_steps(
    pairs: _CandidatePairs,
    thresholds: np.ndarray,
    crowd: np.ndarray,
    truth_ignored: np.ndarray,
    count: int,
) -> np.ndarray:
    """(A, T, D) object of each detection, -1 for none."""
    matched = np.full((len(truth_ignored), len(thresholds), count), -1, np.int32)
    taken = np.zeros((len(truth_ignored), len(thresholds), len(crowd)), bool)
    bonus = np.where(truth_ignored, 0, _ABOVE_ALL_PAIRS).astype(np.int32)[:, None]
    ends = np.flatnonzero(np.diff(pairs.steps, append=-1)) + 1
    for begin, end in zip([0, *ends[:-1].tolist()], ends.tolist(), strict=False):
        objects, members = pairs.objects[begin:end], pairs.detections[begin:end]
        fits = pairs.ious[begin:end] >= thresholds[:, None]
        fits = fits & ~taken[:, :, objects]
        # Within a detection pairs ascend by IoU, then object: the last that fits is the best.
        order = np.arange(1, len(objects) + 1, dtype=np.int32)
        keys = np.where(fits, order + bonus[:, :, objects], 0)
        firsts = np.flatnonzero(np.diff(members, prepend=-1))
        best = np.maximum.reduceat(keys, firsts, axis=2)
        sizes, levels, which = np.nonzero(best)
        chosen = objects[best[sizes, levels, which] % _ABOVE_ALL_PAIRS - 1]
        matched[sizes, levels, members[firsts[which]]] = chosen
        taken[sizes, levels, chosen] = ~crowd[chosen]
    return matched


@dataclass(frozen=True)
class RankedDetections:
    """The detections of one category that count at one size, threshold and number of results.

    Args:
        images: image of each, by score downwards; those after the last hit are left out.
        hits: positions of those that find an object.
    """

    images: np.ndarray
    hits: np.ndarray

    @property
    def hit_images(self) -> np.ndarray:
        return self.images[self.hits]


@dataclass(frozen=True)
class ClassRankings:
    """One category: its rankings by size, threshold and number of results.

    Args:
        objects: per size the image of each object to be found.
        rankings: (size, threshold, number of results), as positions in the grid.
    """

    objects: list[np.ndarray]
    rankings: dict[tuple[int, int, int], RankedDetections]


def class_rankings(matches: Matches, category: int, limits: list[tuple[int, int]]) -> ClassRankings:
    """Takes one category out of the matches.

    Args:
        limits: (size, number of results), positions in the grid, whose rankings are wanted.
    """
    begin, end = np.searchsorted(matches.categories, [category, category + 1]).tolist()
    # Half as wide: each image stands here once for every size and threshold.
    images = matches.images[begin:end].astype(np.int32)
    ranks = matches.ranks[begin:end]
    own = matches.truth.categories == category
    rankings = {}
    for size, limit in limits:
        within = ranks < matches.grid.max_dets[limit]
        for threshold in range(len(matches.grid.iou_thresholds)):
            counted = np.flatnonzero(within & ~matches.ignored[size, threshold, begin:end])
            found = matches.matched[size, threshold, begin:end][counted] >= 0
            hits = np.flatnonzero(found)
            seen = images[counted[: hits[-1] + 1 if len(hits) else 0]]
            rankings[size, threshold, limit] = RankedDetections(seen, hits)
    objects = [matches.truth.images[own & ~ignored] for ignored in matches.truth_ignored]
    return ClassRankings(objects, rankings)
