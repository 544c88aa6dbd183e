"""A COCO annotation file as one table: each column is read and checked once, for everybody.

What training must refuse is found here; `detnet.coco.check` finds what else is worth knowing.
"""

from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from detnet.coco.masks import MAX_SIDE
from detnet.coco.records import Bools, Floats, Ints, Problem, Problems, Records, show, value_of
from detnet.errors import InputError
from detnet.files import read_json
from detnet.text import is_utf8

LISTS = ("images", "annotations", "categories")
# Those that errors can be in, in the order in which they are told.
_CHECKED = (
    *("category_ids", "category_names", "image_ids", "file_names", "sizes", "image_of"),
    *("category_of", "annotation_ids", "boxes", "areas", "crowd"),
)


class AnnotationTable:
    """The content of a COCO annotation file, as it is: nothing is repaired.

    A column is read when it is first asked for, and what is wrong with it is in `problems` then.
    Training's `Annotations` and the evaluation's ground truth are both made from this.

    Args:
        raw: the file's content.
        file: what messages call it.
        unlabelled: a file without the list "annotations", as COCO gives out for its test images,
            is taken for one where it is empty.
        strict: raise the first error of each column, for those who need but some of them.

    Raises:
        InputError: it is not in COCO format.
    """

    def __init__(
        self, raw: Any, file: str, *, unlabelled: bool = False, strict: bool = False
    ) -> None:
        if unlabelled and isinstance(raw, dict):
            raw = {"annotations": [], **raw}
        _require_lists(raw, file)
        self.file, self.problems = file, Problems(file, strict)
        self.categories = Records(raw, "categories", "category", self.problems)
        self.images = Records(raw, "images", "image", self.problems)
        self.annotations = Records(raw, "annotations", "annotation", self.problems)

    def __len__(self) -> int:
        return len(self.annotations)

    def errors(self) -> list[Problem]:
        """Reads every column, and gives what training refuses the file for.

        Codes: bad-type, missing-field, missing-size, orphan-annotation, unknown-category,
        duplicate-image-id, duplicate-category-id, duplicate-category-name.
        """
        with np.errstate(all="ignore"):  # absurd numbers are told as such
            for column in _CHECKED:
                getattr(self, column)
        return [problem for problem in self.problems.found if problem.severity == "error"]

    @cached_property
    def category_ids(self) -> tuple[Ints, Bools]:
        """(C,) and which are there; of the same number no two, else it is an error."""
        return self.categories.unique_ids()

    @cached_property
    def category_names(self) -> tuple[list[Any], Bools]:
        """C of them and which are there; the same name twice is an error."""
        names, named = self.categories.strings("name")
        strange = [n for n, name in enumerate(names) if named[n] and not is_utf8(name)]
        self.categories.report("error", "bad-type", strange, "its name is not UTF-8; rename it")
        counts = Counter(name for name, good in zip(names, named, strict=True) if good)
        for index, name in enumerate(names):
            if named[index] and counts[name] > 1:
                message = f"name {name!r} is used {counts[name]} times"
                self.categories.report("error", "duplicate-category-name", [index], message)
        return names, named

    @cached_property
    def image_ids(self) -> tuple[Ints, Bools]:
        """(I,) and which are there; of the same number no two, else it is an error."""
        return self.images.unique_ids()

    @cached_property
    def file_names(self) -> tuple[list[Any], Bools]:
        return self.images.strings("file_name")

    @cached_property
    def sizes(self) -> Floats:
        """(I, 2) width and height, pixels; NaN for what is none."""
        sides = []
        for key in ("width", "height"):
            side, given = self.images.numbers(key, missing="missing-size")
            empty = given & ~((side >= 1) & (side <= MAX_SIDE))
            message = f"{key} must be from 1 to {MAX_SIDE:,} pixels"
            self.images.report("error", "missing-size", empty, message)
            sides.append(np.where(given & ~empty, side, np.nan))
        return np.stack(sides, axis=1)

    @cached_property
    def image_of(self) -> Ints:
        """(A,) which row of the images each annotation is on, -1 where there is none."""
        wanted, there = self.annotations.integers("image_id")
        found = np.where(there, _rows_of(wanted, *self.image_ids), -1)

        def image_name(index: int) -> str:
            row = self.images.rows[found[index]] if found[index] >= 0 else {}
            name = row.get("file_name")
            return name if isinstance(name, str) else ""

        self.annotations.image_name = image_name
        for index in np.flatnonzero(there & (found < 0)):
            message = f"names image {wanted[index]}, which the file does not have"
            self.annotations.report("error", "orphan-annotation", [int(index)], message)
        return found

    @cached_property
    def category_of(self) -> Ints:
        """(A,) which row of the categories each annotation is of, -1 where there is none."""
        wanted, there = self.annotations.integers("category_id")
        found = np.where(there, _rows_of(wanted, *self.category_ids), -1)
        for index in np.flatnonzero(there & (found < 0)):
            message = f"has category {wanted[index]}, which the file does not have"
            self.annotations.report("error", "unknown-category", [int(index)], message)
        return found

    @cached_property
    def annotation_ids(self) -> tuple[Ints, Bools]:
        return self.annotations.integers("id")

    @cached_property
    def boxes(self) -> Floats:
        """(A, 4) xywh pixels, NaN where there is none."""
        return self.annotations.boxes()[0]

    @cached_property
    def areas(self) -> Floats:
        """(A,) square pixels, NaN where there is none."""
        return self.annotations.numbers("area", missing="")[0]

    @cached_property
    def crowd(self) -> Bools:
        """(A,)"""
        return self.annotations.flags("iscrowd")

    @cached_property
    def segmentations(self) -> list[Any]:
        """A of them as in the file; None where there is none."""
        return [value_of(row, "segmentation") for row in self.annotations.rows]

    @cached_property
    def keypoints(self) -> list[Any]:
        """A lists as in the file; None where there are none."""
        return [value_of(row, "keypoints") for row in self.annotations.rows]


def read_table(path: Path, *, unlabelled: bool = False, strict: bool = False) -> AnnotationTable:
    """Reads a COCO annotation file.

    Args:
        unlabelled, strict: see `AnnotationTable`.

    Raises:
        InputError: it cannot be read, or is not in COCO format.
    """
    return AnnotationTable(read_json(path), str(path), unlabelled=unlabelled, strict=strict)


def _require_lists(raw: Any, file: str) -> None:
    if not isinstance(raw, dict):
        seen = "a list, as results files do" if isinstance(raw, list) else show(raw)
        raise InputError(
            f"{file}: not in COCO format: holds {seen}; annotations are an object with "
            '"images", "annotations" and "categories"'
        )
    for key in LISTS:
        if not isinstance(raw.get(key), list):
            seen = "is no list" if key in raw else "is missing"
            raise InputError(f'{file}: not in COCO format: "{key}" {seen}')


def _rows_of(wanted: Ints, ids: Ints, there: Bools) -> Ints:
    """The row that holds each wanted id, -1 where none does."""
    if not there.any():
        return np.full(len(wanted), -1)
    rows = np.flatnonzero(there)
    rows = rows[np.argsort(ids[rows], kind="stable")]
    place = np.minimum(np.searchsorted(ids[rows], wanted), len(rows) - 1)
    return np.where(ids[rows][place] == wanted, rows[place], -1)
