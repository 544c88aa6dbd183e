"""Keypoints: the named points of a category, where each object has them, and what can be wrong."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detnet.coco.categories import Categories
from detnet.coco.records import Bools, Floats, Ints, show
from detnet.errors import InputError

_SIDE = re.compile(r"(?<![a-zA-Z])(left|right)(?![a-zA-Z])", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left"}
_HALF = 0.5  # COCO's keypoints are indices of pixels, whose centres lie half a pixel on
LARGEST_COORDINATE = 1e9  # NaN is not within it either

# Standard deviation of human labelling by keypoint, relative to an object's size, in COCO's order:
# nose, then left and right of eyes, ears, shoulders, elbows, wrists, hips, knees, ankles.
_PAIRED = (0.025, 0.035, 0.079, 0.072, 0.062, 0.107, 0.087, 0.089)
COCO_SIGMAS = (0.026, *(sigma for sigma in _PAIRED for _ in range(2)))
OTHER_SIGMA = 0.05  # of keypoints that nobody has measured


@dataclass(frozen=True)
class KeypointLayout:
    """Which keypoints a data set has: those of all categories together, each name once.

    Categories that name the same point ("left_foot") share it; each may have some of its own.

    Args:
        names: K names.
        of_label: for each label 1 … its keypoints as positions in `names`, in the file's order.
        edges: for each label the skeleton's lines as pairs of positions in `names`.
    """

    names: tuple[str, ...]
    of_label: tuple[tuple[int, ...], ...]
    edges: tuple[tuple[tuple[int, int], ...], ...]

    def __len__(self) -> int:
        return len(self.names)

    @classmethod
    def from_json(
        cls, records: Iterable[Mapping[str, Any]], *, file: str
    ) -> "KeypointLayout | None":
        """Takes COCO's list of categories; None where none of them names keypoints.

        Args:
            file: how the message names where they come from.

        Raises:
            InputError: the names or the skeleton of a category cannot be used.
        """
        positions: dict[str, int] = {}
        of_label, edges = [], []
        for record in sorted(records, key=lambda record: int(record["id"])):
            if flaw := layout_flaw(record):
                raise InputError(f"{file}: category {record['id']} ({record['name']}) {flaw}")
            own = [
                positions.setdefault(name, len(positions)) for name in record.get("keypoints") or ()
            ]
            of_label.append(tuple(own))
            lines = record.get("skeleton") or ()
            edges.append(tuple((own[a - 1], own[b - 1]) for a, b in lines))
        return cls(tuple(positions), tuple(of_label), tuple(edges)) if positions else None

    def to_json(self, categories: Categories) -> list[dict[str, Any]]:
        """COCO's list of categories, with the keypoints of those that have them."""
        records = categories.to_json()
        for label, (record, own) in enumerate(zip(records, self.of_label, strict=True), 1):
            if own:
                record["keypoints"] = [self.names[position] for position in own]
                record["skeleton"] = [[a + 1, b + 1] for a, b in self.own_edges(label)]
        return records

    def own_edges(self, label: int) -> list[tuple[int, int]]:
        """A label's lines as places, from 0, among its own keypoints."""
        place = {position: at for at, position in enumerate(self.of_label[label - 1])}
        return [(place[a], place[b]) for a, b in self.edges[label - 1]]

    @property
    def mirrored(self) -> np.ndarray:
        """(K,) int64: which point each becomes in a mirror, "left_…" and "right_…" swapped."""
        places = {name: place for place, name in enumerate(self.names)}
        others = [places.get(_mirrored(name), place) for name, place in places.items()]
        return np.array(others, dtype=np.int64)

    def require_same(self, other: "KeypointLayout", *, mine: str, theirs: str) -> None:
        """Refuses other keypoints, in one line; skeletons may differ.

        Args:
            mine: who has these, for the message.
            theirs: who has the others.

        Raises:
            InputError: a label's keypoints differ.
        """
        for label, (a, b) in enumerate(zip(self._named(), other._named(), strict=True), 1):
            if a != b:
                raise InputError(
                    f"the keypoints of {mine} and {theirs} differ: those of label {label} are "
                    f"{', '.join(a) or 'none'} and {', '.join(b) or 'none'}"
                )

    def _named(self) -> list[list[str]]:
        return [[self.names[position] for position in own] for own in self.of_label]


def unnamed_layout(classes: int, keypoints: int) -> KeypointLayout:
    """Gives numbered keypoints, which all classes share, for a model that knows no names."""
    names = tuple(f"keypoint {number}" for number in range(1, keypoints + 1))
    return KeypointLayout(names, (tuple(range(keypoints)),) * classes, ((),) * classes)


def layout_flaw(record: Mapping[str, Any]) -> str:
    """What is wrong with a category's names of keypoints or its skeleton; "" if nothing is."""
    names: Any = record.get("keypoints") or []
    skeleton: Any = record.get("skeleton") or []
    named = isinstance(names, list) and all(isinstance(name, str) and name for name in names)
    if not named or len(set(names)) < len(names):
        return f'must name its "keypoints" by a list of different texts, found {show(names)}'
    lines: list[Any] = skeleton if isinstance(skeleton, list) else [skeleton]
    for line in lines:
        pair = isinstance(line, list) and len(line) == 2 and all(type(end) is int for end in line)
        if not pair or not all(1 <= end <= len(names) for end in line):
            return f'has a "skeleton" with {show(line)}, not two numbers from 1 to {len(names)}'
    return ""


def stack_keypoints(given: Sequence[Any], of: Ints, counts: Ints) -> tuple[Floats, Bools]:
    """Puts the keypoints of records into one array.

    Args:
        given: N lists of x, y and visibility as in the file; None where there are none.
        of: (N,) category of each record, by position.
        counts: (C,) how many keypoints each category has.

    Returns:
        (N, K, 3), K being the largest count, zeros beyond a record's own and where it has none
        that can be used; (N,) which have none that can be used: not three finite numbers for each.
    """
    points = np.zeros((len(given), int(counts.max(initial=0)), 3))
    own = counts[of]
    pairs = zip(given, (3 * own).tolist(), strict=True)
    sound = np.array([_are_numbers(values, length) for values, length in pairs], bool)
    there = np.array([values is not None for values in given], bool) & (own > 0)
    for count in np.unique(own[sound & there]).tolist():
        rows = np.flatnonzero(sound & there & (own == count))
        stacked = np.array([given[row] for row in rows.tolist()], np.float64)
        points[rows, :count] = stacked.reshape(len(rows), count, 3)
    return points, there & ~sound


def place_keypoints(
    given: Sequence[Any], labels: np.ndarray, sizes: np.ndarray, layout: KeypointLayout
) -> tuple[Floats, int, int]:
    """Puts the keypoints of annotations where the layout has them.

    Args:
        given: A lists as in the file; None where there are none.
        labels: (A,) of the annotations.
        sizes: (A, 2), width and height of their images.

    Returns:
        (A, K, 3) float64, x and y as the file has them and visibility, zeros where there is none;
        how many annotations have keypoints that cannot be used; how many points were left out
        because they lie outside their image.
    """
    counts = np.array([len(own) for own in layout.of_label], np.int64)
    stacked, unusable = stack_keypoints(given, labels.astype(np.int64) - 1, counts)
    unusable |= ~np.isin(stacked[..., 2], (0, 1, 2)).all(axis=1)
    points = np.zeros((len(given), len(layout), 3))
    for label, own in enumerate(layout.of_label, 1):
        rows = np.flatnonzero((labels == label) & ~unusable)
        if own:
            points[rows[:, None], list(own)] = stacked[rows, : len(own)]
    outside = outside_image(points, sizes)
    points[outside] = 0
    points[points[..., 2] == 0] = 0
    return points, int(unusable.sum()), int(outside.sum())


def outside_image(points: Floats, sizes: np.ndarray) -> Bools:
    """Marks labelled keypoints that lie outside their image.

    Args:
        points: (A, K, 3).
        sizes: (A, 2), width and height.

    Returns:
        (A, K) bool; False where the size is not known (NaN).
    """
    places = points[..., :2]
    out = (places < -_HALF) | (places > np.asarray(sizes)[:, None, :])
    marked: Bools = (points[..., 2] > 0) & out.any(axis=2)
    return marked


def keypoint_boxes(points: Floats, own: Ints) -> Floats:
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


def default_sigmas(count: int) -> tuple[float, ...]:
    """COCO's for 17 keypoints, 0.05 each for any other number."""
    return COCO_SIGMAS if count == len(COCO_SIGMAS) else (OTHER_SIGMA,) * count


def _are_numbers(values: Any, length: int) -> bool:
    if not isinstance(values, list) or len(values) != length:
        return False
    if not set(map(type, values)) <= {int, float}:
        return False
    return all(abs(value) <= LARGEST_COORDINATE for value in values)


def to_pixels(points: np.ndarray) -> np.ndarray:
    """From COCO's indices of pixels to pixels measured from the image's edge, as boxes are."""
    moved = points.astype(np.float32)
    moved[..., :2] += _HALF
    return moved


def _mirrored(name: str) -> str:
    return _SIDE.sub(lambda match: _other_side(match[0]), name)


def _other_side(word: str) -> str:
    other = _OTHER[word.lower()]
    if word.istitle():
        return other.title()
    return other.upper() if word.isupper() else other
