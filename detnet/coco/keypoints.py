"""Keypoints: the named points of a category, and where each object has them, in flat arrays."""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from detnet.coco.categories import Categories
from detnet.coco.columns import Floats, all_numbers, is_number, show
from detnet.errors import InputError

_SIDE = re.compile(r"(?<![a-zA-Z])(left|right)(?![a-zA-Z])", re.IGNORECASE)
_OTHER = {"left": "right", "right": "left", "Left": "Right", "Right": "Left"}
_HALF = 0.5  # COCO's keypoints are indices of pixels, whose centres lie half a pixel on


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


def keypoints_flaw(values: Any, count: int) -> tuple[str, str]:
    """What is wrong with an annotation's keypoints: a code and a sentence, both "" if nothing is.

    Args:
        values: as in the file.
        count: how many its category names.
    """
    if not isinstance(values, list) or len(values) != 3 * count:
        seen = f"{len(values)} numbers" if isinstance(values, list) else show(values)
        return "keypoints-length", (
            f'"keypoints" must be {3 * count} numbers, x, y and visibility of {count}, found {seen}'
        )
    numbers = all_numbers(values)
    if numbers is None or not np.isfinite(numbers).all():
        wrong = next(value for value in values if not is_number(value))
        return "keypoints-length", f'"keypoints" must be finite numbers, found {show(wrong)}'
    seen_as = numbers[2::3]
    if not np.isin(seen_as, (0, 1, 2)).all():
        wrong = seen_as[~np.isin(seen_as, (0, 1, 2))][0]
        return "keypoints-visibility", (
            f"visibility of a keypoint must be 0 (not labelled), 1 (hidden) or 2, found {wrong:g}"
        )
    return "", ""


def outside_image(points: Floats, sizes: np.ndarray) -> np.ndarray:
    """Marks labelled keypoints that lie outside their image.

    Args:
        points: (A, K, 3).
        sizes: (A, 2), width and height.

    Returns:
        (A, K) bool; False where the size is not known (NaN).
    """
    places = points[..., :2]
    out = (places < -_HALF) | (places > np.asarray(sizes)[:, None, :])
    marked: np.ndarray = (points[..., 2] > 0) & out.any(axis=2)
    return marked


def place_keypoints(
    records: Sequence[Mapping[str, Any]],
    labels: np.ndarray,
    sizes: np.ndarray,
    layout: KeypointLayout,
) -> tuple[np.ndarray, int, int]:
    """Puts the keypoints of annotations into one array.

    Args:
        records: A annotations as in the file.
        labels: (A,) of them.
        sizes: (A, 2), width and height of their images.

    Returns:
        (A, K, 3) float64, x and y as the file has them and visibility, zeros where there is none;
        how many annotations have keypoints that cannot be used; how many points were left out
        because they lie outside their image.
    """
    points = np.zeros((len(records), len(layout), 3))
    unusable = 0
    for label, own in enumerate(layout.of_label, 1):
        of_it = np.flatnonzero(labels == label).tolist()
        rows = [row for row in of_it if records[row].get("keypoints")]
        sound = [row for row in rows if not keypoints_flaw(records[row]["keypoints"], len(own))[0]]
        if own and sound:
            values = np.array([records[row]["keypoints"] for row in sound], dtype=np.float64)
            places = np.array(sound)[:, None], np.array(own)[None]
            points[places] = values.reshape(len(sound), len(own), 3)
        unusable += len(rows) - len(sound) if own else 0
    outside = outside_image(points, sizes)
    points[outside] = 0
    points[points[..., 2] == 0] = 0
    return points, unusable, int(outside.sum())


def to_pixels(points: np.ndarray) -> np.ndarray:
    """From COCO's indices of pixels to pixels measured from the image's edge, as boxes are."""
    moved = points.astype(np.float32)
    moved[..., :2] += _HALF
    return moved


def from_pixels(places: np.ndarray) -> np.ndarray:
    """Back to COCO's indices of pixels: (…, 2) places less half a pixel."""
    return places - _HALF


def require_keypoints(raw: Mapping[str, Any], layout: KeypointLayout | None, *, file: str) -> None:
    """Refuses data without keypoints for a detector that needs them.

    Raises:
        InputError: naming the file and the first category.
    """
    remedy = "choose a detector that needs boxes only"
    categories = sorted(raw["categories"], key=lambda record: int(record["id"]))
    if layout is None:
        names = ", ".join(repr(str(record["name"])) for record in categories[:3])
        more = f" and {len(categories) - 3} more" if len(categories) > 3 else ""
        raise InputError(
            f'{file}: has no keypoints (category {names}{more} names no "keypoints"); {remedy}'
        )
    if raw["annotations"] and not any(record.get("keypoints") for record in raw["annotations"]):
        named = next(str(record["name"]) for record in categories if record.get("keypoints"))
        raise InputError(
            f"{file}: has no keypoints (category {named!r} names some, but no annotation has "
            f"any); {remedy}"
        )


def _mirrored(name: str) -> str:
    return _SIDE.sub(lambda match: _other_side(match[0]), name)


def _other_side(word: str) -> str:
    if word in _OTHER:
        return _OTHER[word]
    other = _OTHER[word.lower()]
    return other.upper() if word.isupper() else other
