"""A list of COCO records read column by column, with a problem for every value that is wrong."""

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import chain
from typing import Any, Literal, NoReturn, SupportsInt

import numpy as np
from numpy.typing import NDArray

from detnet.errors import InputError
from detnet.text import shorten

Severity = Literal["error", "warning", "info"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "info")

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Ints = NDArray[np.int64]

# Of rows that no file of COCO's had: the file and the record they were in, a tuple, as in no JSON.
PLACE = "_place"
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

    def __str__(self) -> str:
        return ": ".join(filter(None, [self.file, self.record, self.message]))


@dataclass
class Problems:
    """Collects the problems of one file.

    Args:
        strict: raise the first error instead.
    """

    file: str
    strict: bool = False
    found: list[Problem] = field(default_factory=list)

    def add(self, severity: Severity, code: str, record: str, message: str, file: str = "") -> None:
        """Keeps a problem.

        Args:
            file: where it is not `self.file`.

        Raises:
            InputError: it is an error, and these are strict.
        """
        problem = Problem(severity, code, file or self.file, record, message)
        if self.strict and severity == "error":
            raise InputError(str(problem))
        self.found.append(problem)


class Records:
    """One list of records ("images", "annotations", "categories", "results") read by columns.

    Columns come back with an equally long mask of the rows that hold a usable value; whatever
    does not has been reported by then. Rows are in the file's order. The good case is one array
    conversion per column; only when it fails are records looked at one by one.

    Args:
        raw: the file's content.
        key: which list of it.
        kind: what one record is called in messages.
    """

    def __init__(self, raw: dict[str, Any], key: str, kind: str, problems: Problems) -> None:
        self.key, self.kind, self.problems = key, kind, problems
        rows = raw.get(key) if isinstance(raw, dict) else None
        if not isinstance(rows, list):
            seen = "no list" if rows is None else show(rows)
            problems.add("error", "missing-field", "", f'"{key}" must be a list, found {seen}')
            rows = []
        self.rows: list[dict[str, Any]] = rows
        self._places: Sequence[int] = range(len(rows))
        self.image_name: Callable[[int], str] | None = None  # of each annotation
        if not set(map(type, rows)) <= {dict}:
            for place, row in enumerate(rows):
                if not isinstance(row, dict):
                    message = f"must be an object, found {show(row)}"
                    problems.add("error", "bad-type", f"{key}[{place}]", message)
            self._places = [place for place, row in enumerate(rows) if isinstance(row, dict)]
            self.rows = [rows[place] for place in self._places]

    def __len__(self) -> int:
        return len(self.rows)

    def name(self, index: int) -> str:
        """What the record is called in a message: by its id, or by its place where it has none."""
        row = self.rows[index]
        number = row.get("id")
        if number is None or isinstance(number, (dict, list)):
            label = f"{self.key}[{self._places[index]}]"
        else:
            label = f"{self.kind} {number}"
        hint = row.get("file_name") or row.get("name") if self.kind != "annotation" else None
        if self.image_name is not None and (name := self.image_name(index)):
            hint = f"image {name}"
        return f"{label} ({hint})" if isinstance(hint, str) else label

    def place(self, index: SupportsInt) -> tuple[str, str]:
        """The file that a record was in, and what it is called there."""
        given = self.rows[int(index)].get(PLACE)
        return given if isinstance(given, tuple) else (self.problems.file, self.name(int(index)))

    def report(
        self, severity: Severity, code: str, rows: Bools | Sequence[int], message: str
    ) -> None:
        """Adds one problem with the same message for each row of a mask or list of indices."""
        for index in np.flatnonzero(rows) if isinstance(rows, np.ndarray) else rows:
            file, record = self.place(index)
            self.problems.add(severity, code, record, message, file)

    def refuse(self, rows: Any, key: str, message: str) -> None:
        """Refuses the first row of a mask.

        Raises:
            InputError: naming it and what it holds.
        """
        if rows.any():
            index = int(np.argmax(rows))
            self.fail(index, f"{key} {_short(self.rows[index].get(key))} {message}")

    def fail(self, index: int, message: str) -> NoReturn:
        """Refuses a row.

        Raises:
            InputError: naming it.
        """
        raise InputError(f"{': '.join(self.place(index))}: {message}")

    def values(self, key: str, *, missing: str = "missing-field") -> tuple[list[Any], Bools]:
        """The raw values and which are there; absent and null ones are reported as errors.

        Args:
            missing: the code to report them by; "" reports nothing.
        """
        values = [row.get(key) for row in self.rows]
        if type(None) not in set(map(type, values)):
            return values, np.ones(len(values), bool)
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
        self._fill(column, key, there, _is_whole, "a whole number")
        return column, there

    def numbers(self, key: str, *, missing: str = "missing-field") -> tuple[Floats, Bools]:
        """A column of finite numbers, NaN where there is none."""
        values, there = self.values(key, missing=missing)
        sound = all_numbers(values)
        if sound is not None and np.isfinite(sound).all():
            return sound, there
        column = np.full(len(values), np.nan)
        self._fill(column, key, there, is_number, "a finite number")
        return column, there

    def boxes(self, key: str = "bbox") -> tuple[Floats, Bools]:
        """A column of (x, y, width, height), shape (rows, 4), NaN where there is none."""
        values, there = self.values(key)
        if all(type(value) is list and len(value) == 4 for value in values):
            sound = all_numbers(list(chain.from_iterable(values)))
            if sound is not None and np.isfinite(sound).all():
                return sound.reshape(-1, 4), there
        column = np.full((len(values), 4), np.nan)
        self._fill(column, key, there, _is_box, "4 finite numbers")
        return column, there

    def strings(self, key: str) -> tuple[list[Any], Bools]:
        """A column of texts that are not empty."""
        values, there = self.values(key)
        for index in np.flatnonzero(there):
            if not isinstance(values[index], str) or not values[index]:
                there[index] = False
                self._bad(index, f'"{key}" must be a text, found {show(values[index])}')
        return values, there

    def flags(self, key: str) -> Bools:
        """A column of 1 or true; absent and null ones are 0."""
        values = [row.get(key) for row in self.rows]
        kinds = set(map(type, values))
        if not (kinds <= {int, bool, type(None)} and set(values) <= {0, 1, None}):
            values = [plain(value) for value in values]
            for index, value in enumerate(values):
                if value is not None and not (isinstance(value, int | float) and value in (0, 1)):
                    self._bad(index, f'"{key}" must be 0 or 1, found {show(value)}')
        return np.array([value == 1 for value in values], bool)

    def unique_ids(self) -> tuple[Ints, Bools]:
        """The column of ids; one that several records have is reported as an error."""
        ids, there = self.integers("id")
        self.report_repeated("error", f"duplicate-{self.kind}-id", ids, there)
        return ids, there

    def report_repeated(self, severity: Severity, code: str, ids: Ints, there: Bools) -> None:
        """Reports every record whose id another one has, too."""
        unique, inverse, counts = np.unique(ids[there], return_inverse=True, return_counts=True)
        if len(unique) == len(inverse):
            return
        rows = np.flatnonzero(there)
        for index in np.flatnonzero(counts[inverse] > 1):
            message = f"id {unique[inverse[index]]} is used {counts[inverse[index]]} times"
            self.problems.add(severity, code, self.name(int(rows[index])), message)

    def _fill(
        self,
        column: NDArray[Any],
        key: str,
        there: Bools,
        fits: Callable[[Any], bool],
        what: str,
    ) -> None:
        """Takes the values that fit one by one; reports the others, and takes them from `there`."""
        for index in np.flatnonzero(there):
            value = plain(self.rows[index][key])
            if fits(value):
                column[index] = value
            else:
                there[index] = False
                self._bad(index, f'"{key}" must be {what}, found {show(value)}')

    def _bad(self, index: SupportsInt, message: str) -> None:
        self.problems.add("error", "bad-type", self.name(int(index)), message)


def plain(value: Any) -> Any:
    """The value as JSON would hold it, where a caller hands in numpy's numbers, or tuples."""
    if isinstance(value, np.generic | np.ndarray):
        value = value.tolist()
    return [*value] if isinstance(value, tuple) else value


def value_of(row: dict[str, Any], key: str) -> Any:
    """The value of a field as `plain` has it; None also for what is empty."""
    return plain(row.get(key)) or None


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


def _is_whole(value: Any) -> bool:
    return is_number(value) and value == int(value) and abs(value) <= _INT64_MAX


def _is_box(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 4 and all(map(is_number, value))


def show(value: object) -> str:
    """The value as JSON would name it, cut to fit a line."""
    if value is None or isinstance(value, bool):
        return json.dumps(value)
    kinds: dict[type, str] = {str: "the text ", list: "the list ", dict: "the object "}
    return kinds.get(type(value), "") + _short(value)


def _short(value: object) -> str:
    return shorten(repr(value), 60)
