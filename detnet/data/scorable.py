"""Annotations as COCO's evaluation takes them: as in the file, but for what cannot be scored."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from detnet.coco.keypoints import keypoints_flaw
from detnet.coco.masks import encode_box, encode_masks, segmentation_areas

Record = dict[str, Any]


@dataclass
class Scorable:
    """A file's content that every evaluator scores alike.

    Args:
        content: the file's own object where nothing had to be repaired.
        records: how many annotations the file has.
        repaired: how many of them had to be.
        repairs: what was done to them, "left out 2 without width or height".
    """

    content: dict[str, Any]
    records: int
    repaired: int = 0
    repairs: list[str] = field(default_factory=list)


def make_scorable(raw: dict[str, Any], *, masks: bool = False, keypoints: bool = False) -> Scorable:
    """Repairs the annotations that COCO's evaluation cannot score, and leaves all others alone.

    Boxes without width or height, which nothing can be found to fit, are left out; an area that is
    missing or negative is computed, of the mask where there is one, else of the box; an id that is
    0, which pycocotools takes for "not found", or used twice is replaced. Boxes that reach beyond
    their image stay, and so do areas that are not width times height.

    Args:
        raw: as `read_checked` gives it; it is not changed.
        masks: see to masks, too: an object without a usable one gets its box.
        keypoints: likewise: those that are not of their category's number are left out.
    """
    given: list[Record] = raw["annotations"]
    boxes = np.array([record["bbox"] for record in given], np.float64).reshape(-1, 4)
    flat = np.any(boxes[:, 2:] <= 0, axis=1)
    kept = [record for record, gone in zip(given, flat.tolist(), strict=True) if not gone]
    work = _Repairs(kept)
    areas = _column(kept, "area", np.float64)
    work.mend("computed the area of {}", ~(areas >= 0), lambda at: {"area": _area(kept[at])})
    ids = _column(kept, "id", np.int64)
    first_new = int(ids.max(initial=0)) + 1
    work.mend("replaced the id of {}", _lost(ids), lambda at: {"id": first_new + at})
    if masks:
        sizes = {
            image["id"]: (int(image["height"]), int(image["width"])) for image in raw["images"]
        }
        of = [sizes[record["image_id"]] for record in kept]
        shapes = np.array(of, np.int64).reshape(-1, 2)
        made = encode_masks([record.get("segmentation") for record in kept], shapes)
        lacking = [counts is None for counts in made]
        work.mend(
            "took the box as mask of {}",
            np.array(lacking, bool),
            lambda at: {"segmentation": _box_as_mask(kept[at]["bbox"], *of[at])},
        )
    if keypoints:
        unusable = np.array(_unusable_keypoints(raw["categories"], kept), bool)
        work.mend("left out the keypoints of {}", unusable, lambda _: {"keypoints": []})
    if flat.any():
        work.texts.insert(0, f"left out {flat.sum()} without width or height")
    if not work.texts:
        return Scorable(raw, len(given))
    content = {**raw, "annotations": work.records}
    return Scorable(content, len(given), int(flat.sum() + work.touched.sum()), work.texts)


class _Repairs:
    """Records some of which are replaced, and what was said of that."""

    def __init__(self, records: Sequence[Record]) -> None:
        self.records = list(records)
        self.touched = np.zeros(len(records), bool)
        self.texts: list[str] = []

    def mend(self, text: str, rows: np.ndarray, change: Callable[[int], Record]) -> None:
        """Changes fields of the marked records, each of them copied first."""
        for at in np.flatnonzero(rows).tolist():
            self.records[at] = {**self.records[at], **change(at)}
        self.touched |= rows
        if rows.any():
            self.texts.append(text.format(rows.sum()))


def _column(records: Sequence[Record], key: str, dtype: type) -> np.ndarray:
    """NaN for what is missing; only areas may be."""
    values = [record.get(key) for record in records]
    return np.array([np.nan if value is None else value for value in values], dtype)


def _lost(ids: np.ndarray) -> np.ndarray:
    """Ids that pycocotools loses: 0, and all but the first of those that are the same."""
    again = np.ones(len(ids), bool)
    again[np.unique(ids, return_index=True)[1]] = False
    return again | (ids == 0)


def _area(record: Record) -> float:
    _, _, width, height = record["bbox"]
    area = float(segmentation_areas([record.get("segmentation")])[0])
    return float(width) * float(height) if np.isnan(area) else area


def _box_as_mask(box: Sequence[float], height: int, width: int) -> Record:
    x, y, across, down = box
    inside = np.clip([x, y, x + across, y + down], 0, [width, height, width, height])
    return {"size": [height, width], "counts": encode_box(inside, height, width)}


def _unusable_keypoints(categories: Sequence[Record], records: Sequence[Record]) -> list[bool]:
    counts = {record["id"]: len(record.get("keypoints") or ()) for record in categories}
    return [
        bool(count and record.get("keypoints"))
        and keypoints_flaw(record["keypoints"], count)[0] == "keypoints-length"
        for record, count in ((record, counts[record["category_id"]]) for record in records)
    ]
