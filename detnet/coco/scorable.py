"""Which records can be scored: those that cannot are refused in one line, or mended and counted."""

from typing import Any

import numpy as np

from detnet.coco.keypoints import stack_keypoints
from detnet.coco.masks import encode_box, encode_masks, mask_flaw, segmentation_areas
from detnet.coco.records import Bools, Floats, Ints, Records, value_of
from detnet.coco.table import AnnotationTable
from detnet.errors import InputError

# Of each kind of evaluation what it compares: the field of a record, and its name.
_FIELDS = {
    "bbox": ("bbox", "boxes"),
    "segm": ("segmentation", "masks"),
    "keypoints": ("keypoints", "keypoints"),
}
AS_IT_IS = "the file as it is"
_LARGEST = 1e9  # of a coordinate or an area: keeps products finite


class ScorableRecords:
    """Which annotations are scored, and with which changes."""

    def __init__(self, table: AnnotationTable, mend: bool) -> None:
        self.table, self.mend = table, mend
        self.touched = np.zeros(len(table), bool)
        self.texts: list[str] = []
        records, boxes = table.annotations, table.boxes
        records.refuse((np.abs(boxes) > _LARGEST).any(axis=1), "bbox", "is too large a number")
        flat: Bools = np.any(boxes[:, 2:] <= 0, axis=1) & mend
        negative = (boxes[:, 2:] < 0).any(axis=1) & ~flat
        records.refuse(negative, "bbox", "has a negative width or height")
        self.rows = np.flatnonzero(~flat)
        self._count(flat, "left out {} without width or height")
        areas = table.areas
        records.refuse(np.abs(areas) > _LARGEST, "area", "is too large a number")
        lacking = ~(areas >= 0) & ~flat
        if not mend:
            records.refuse(areas < 0, "area", "is negative; leave it out to have the box's")
        of_boxes = boxes[:, 2] * boxes[:, 3]
        self.areas = np.where(areas >= 0, areas, of_boxes)
        self.without_area = int(lacking.sum())
        if mend and lacking.any():
            at = np.flatnonzero(lacking)
            covered = segmentation_areas([table.segmentations[row] for row in at.tolist()])
            self.areas[at] = np.where(np.isnan(covered), of_boxes[at], covered)
            self._count(lacking, "computed the area of {}")

    def masks(self, sizes: Ints) -> list[Any]:
        """Run lengths of every annotation.

        Args:
            sizes: (A, 2) height and width of each annotation's image.
        """
        given = self.table.segmentations
        if not self.mend:
            return require_masks(self.table.annotations, given, sizes)
        made = encode_masks(given, sizes)
        bad = np.array([counts is None for counts in made], bool)
        for at in np.flatnonzero(bad).tolist():
            height, width = sizes[at].tolist()
            x, y, across, down = self.table.boxes[at]
            inside = np.clip([x, y, x + across, y + down], 0, [width, height, width, height])
            made[at] = encode_box(inside, height, width)
        self._count(bad & self._is_scored(), "took the box as mask of {}")
        return [
            {"size": size, "counts": counts}
            for size, counts in zip(sizes.tolist(), made, strict=True)
        ]

    def keypoints(self, counts: Ints) -> tuple[Floats, Floats]:
        """Of every annotation, and how many it says are labelled: none where none can be used.

        Args:
            counts: (C,) how many keypoints each category has.
        """
        table = self.table
        points, unusable = stack_keypoints(table.keypoints, table.category_of, counts)
        if not self.mend:
            refuse_keypoints(table.annotations, unusable, counts[table.category_of])
        self._count(unusable & self._is_scored(), "left out the keypoints of {}")
        seen = (points[..., 2] > 0).sum(axis=1).astype(float)
        told, there = table.annotations.numbers("num_keypoints", missing="")
        sound = there & (told >= 0) & (told <= _LARGEST) & (told == np.floor(told))
        if not self.mend:
            problem = "is not how many keypoints are labelled"
            table.annotations.refuse(there & ~sound, "num_keypoints", problem)
        usable = ~unusable & (counts[table.category_of] > 0)
        return points, np.where(sound & usable, told, seen)

    def taken(self) -> str:
        """What was done, in words."""
        if self.texts:
            count = f"{self.touched.sum():,} of {len(self.table):,} annotations"
            return f"repaired in {count}: {'; '.join(self.texts)}"
        if self.without_area and not self.mend:
            count = f"{self.without_area} area{'' if self.without_area == 1 else 's'}"
            return f"{AS_IT_IS}, but for {count} that it lacks: width x height"
        return AS_IT_IS

    def _is_scored(self) -> Bools:
        scored = np.zeros(len(self.table), bool)
        scored[self.rows] = True
        return scored

    def _count(self, rows: Bools, text: str) -> None:
        self.touched |= rows
        if rows.any():
            self.texts.append(text.format(rows.sum()))


def require_field(records: Records, iou_type: str) -> None:
    """Refuses records none of which holds what is to be compared, and says what they do hold.

    Raises:
        InputError: naming the kind of evaluation that they are for.
    """
    wanted, name = _FIELDS[iou_type]
    if any(value_of(row, wanted) for row in records.rows):
        return
    for other, (field, held) in _FIELDS.items():
        if any(value_of(row, field) for row in records.rows):
            raise InputError(
                f"{records.problems.file}: the {records.key} hold {held}, but no {name} "
                f"({wanted!r}); score them with --iou-type {other}"
            )


def require_masks(records: Records, segmentations: list[Any], sizes: Ints) -> list[Any]:
    """Run lengths of every record.

    Args:
        sizes: (N, 2) height and width of each record's image.

    Raises:
        InputError: the first record whose mask is damaged or not of its image's size.
    """
    masks = []
    made = zip(encode_masks(segmentations, sizes), sizes.tolist(), strict=True)
    for index, (counts, size) in enumerate(made):
        if counts is None:
            if segmentations[index] is None:
                records.fail(index, 'has no "segmentation"')
            flaw = mask_flaw(segmentations[index], *size)
            records.fail(index, f'"segmentation" is no mask: {flaw}')
        masks.append({"size": size, "counts": counts})
    return masks


def refuse_keypoints(records: Records, unusable: Bools, counts: Ints) -> None:
    """Raises InputError for the first record whose keypoints are not of its category's number."""
    if unusable.any():
        count = int(counts[np.argmax(unusable)])
        problem = f"is not x, y and visibility of {count} keypoints: {3 * count} finite numbers"
        records.refuse(unusable, "keypoints", problem)


def difficult_marks(records: Records) -> Bools:
    """What the file marks as VOC does what it leaves out, beside "iscrowd"."""
    marked = np.zeros(len(records), bool)
    for flag in ("difficult", "ignore"):
        marked |= np.array([row.get(flag) == 1 for row in records.rows], bool)
    return marked


def keypoint_counts_of(table: AnnotationTable) -> Ints:
    """How many keypoints each category has, in the file's order.

    It is the number that a category names; where it names none, that of its first annotation that
    has some.
    """
    for index, row in enumerate(table.categories.rows):
        if not isinstance(names := row.get("keypoints") or [], list):
            table.categories.fail(
                index, f'must name its "keypoints" by a list, found {names!r:.40}'
            )
    counts = [len(row.get("keypoints") or ()) for row in table.categories.rows]
    if not all(counts):
        for values, category in zip(table.keypoints, table.category_of.tolist(), strict=True):
            if not counts[category] and isinstance(values, list):
                counts[category] = len(values) // 3
    return np.array(counts, np.int64)
