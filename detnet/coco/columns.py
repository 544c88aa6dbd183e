"""The records of a COCO file as typed columns, with a problem for every value of the wrong type."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, SupportsInt

import numpy as np
from numpy.typing import NDArray

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

_INT64_MAX = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, or worth knowing, about one record of one file.

    Args:
        severity: training stops on an error, repairs or tolerates a warning; info is only said.
        code: short name of the kind, the same in every message of that kind.
        file: the annotation file or image it is about.
        record: which record of the file, "annotation 12 (image a.jpg)"; empty for the whole file.
        message: what is wrong with it, one line.
    """

    severity: Severity
    code: str
    file: str
    record: str
    message: str


@dataclass
class Findings:
    """Collects the problems of one file."""

    file: str
    problems: list[Problem] = field(default_factory=list)

    def add(self, severity: Severity, code: str, record: str, message: str) -> None:
        self.problems.append(Problem(severity, code, self.file, record, message))


class Table:
    """One list of records ("images", "annotations", "categories") read column by column.

    Columns come back with an equally long mask of the rows that hold a usable value; whatever
    does not has been reported by then. Rows are in the file's order.

    Args:
        raw: the file's content.
        key: which list of it.
        kind: what one record is called in messages.
    """

    def __init__(self, raw: dict[str, Any], key: str, kind: str, findings: Findings) -> None:
        self.key, self.kind, self.findings = key, kind, findings
        rows = raw.get(key) if isinstance(raw, dict) else None
        if not isinstance(rows, list):
            seen = "no list" if rows is None else show(rows)
            findings.add("error", "missing-field", "", f'"{key}" must be a list, found {seen}')
            rows = []
        self.places = [place for place, row in enumerate(rows) if isinstance(row, dict)]
        self.rows: list[dict[str, Any]] = [rows[place] for place in self.places]
        self.images: list[str] = []  # annotations only: what the image of each row is called
        if len(self.rows) < len(rows):
            for place, row in enumerate(rows):
                if not isinstance(row, dict):
                    message = f"must be an object, found {show(row)}"
                    findings.add("error", "bad-type", f"{key}[{place}]", message)

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """What the record is called in a message: by its id, or by its place where it has none."""
        row = self.rows[index]
        number = row.get("id")
        if number is None or isinstance(number, (dict, list)):
            label = f"{self.key}[{self.places[index]}]"
        else:
            label = f"{self.kind} {number}"
        hint = row.get("file_name") or row.get("name") if self.kind != "annotation" else None
        if self.kind == "annotation" and self.images:
            hint = f"image {self.images[index]}" if self.images[index] else None
        return f"{label} ({hint})" if isinstance(hint, str) else label

    def report(
        self, severity: Severity, code: str, rows: Bools | Sequence[int], message: str
    ) -> None:
        """Adds one problem with the same message for each row of a mask or list of indices."""
        indices = np.flatnonzero(rows) if isinstance(rows, np.ndarray) else rows
        for index in indices:
            self.findings.add(severity, code, self.name(int(index)), message)

    def values(self, key: str, *, missing: str = "missing-field") -> tuple[list[Any], Bools]:
        """The raw values and which are there; absent and null ones are reported as errors.

        Args:
            missing: the code to report them by; "" reports nothing.
        """
        values = [row.get(key) for row in self.rows]
        there = np.fromiter((value is not None for value in values), bool, len(values))
        if missing:
            self.report("error", missing, ~there, f'has no "{key}"')
        return values, there

    def integers(self, key: str) -> tuple[Ints, Bools]:
        """A column of whole numbers (12.0 counts as 12), 0 where there is none."""
        values, there = self.values(key)
        if set(map(type, values)) <= {int}:
            try:
                return np.array(values, np.int64), there
            except OverflowError:
                pass
        column = np.zeros(len(values), np.int64)
        for index in np.flatnonzero(there):
            value = values[index]
            if is_number(value) and value == int(value) and abs(value) <= _INT64_MAX:
                column[index] = int(value)
            else:
                there[index] = False
                self._bad(index, f'"{key}" must be a whole number, found {show(value)}')
        return column, there

    def numbers(self, key: str, *, missing: str = "missing-field") -> tuple[Floats, Bools]:
        """A column of finite numbers, NaN where there is none."""
        values, there = self.values(key, missing=missing)
        column = np.full(len(values), np.nan)
        plain = all_numbers(values)
        if plain is not None and np.isfinite(plain).all():
            return plain, there
        for index in np.flatnonzero(there):
            if is_number(values[index]):
                column[index] = values[index]
            else:
                there[index] = False
                self._bad(index, f'"{key}" must be a finite number, found {show(values[index])}')
        return column, there

    def boxes(self, key: str = "bbox") -> tuple[Floats, Bools]:
        """A column of (x, y, width, height), shape (rows, 4), NaN where there is none."""
        values, there = self.values(key)
        if all(type(value) is list and len(value) == 4 for value in values):
            plain = all_numbers(list(chain.from_iterable(values)))
            if plain is not None and np.isfinite(plain).all():
                return plain.reshape(-1, 4), there
        column = np.full((len(values), 4), np.nan)
        for index in np.flatnonzero(there):
            box = values[index]
            if isinstance(box, list) and len(box) == 4 and all(map(is_number, box)):
                column[index] = box
            else:
                there[index] = False
                self._bad(index, f'"{key}" must be 4 finite numbers, found {show(box)}')
        return column, there

    def strings(self, key: str) -> tuple[list[Any], Bools]:
        """A column of texts that are not empty."""
        values, there = self.values(key)
        for index in np.flatnonzero(there):
            if not isinstance(values[index], str) or not values[index]:
                there[index] = False
                self._bad(index, f'"{key}" must be a text, found {show(values[index])}')
        return values, there

    def _bad(self, index: SupportsInt, message: str) -> None:
        self.findings.add("error", "bad-type", self.name(int(index)), message)


def all_numbers(values: list[Any]) -> Floats | None:
    """The values as an array, or None where one is not a number or too large for one."""
    if not set(map(type, values)) <= {int, float}:
        return None
    try:
        return np.array(values, np.float64)
    except OverflowError:
        return None


def is_number(value: object) -> bool:
    """Whether it is a finite number that a float can hold; true and false are none."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return False
    try:
        return math.isfinite(value)
    except OverflowError:
        return False


def show(value: object) -> str:
    """The value as JSON would name it, cut to fit a line."""
    kinds: dict[type, str] = {str: "the text ", list: "the list ", dict: "the object "}
    text = repr(value)
    return kinds.get(type(value), "") + (text if len(text) <= 60 else text[:57] + "...")
