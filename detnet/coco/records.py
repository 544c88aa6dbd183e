"""A JSON list of records read column by column; a bad one is named in one line."""

import contextlib
import math
import numbers
from collections.abc import Callable, Iterable
from itertools import chain
from typing import Any

import numpy as np

from detnet.errors import InputError

_LARGEST = 1e9  # of a coordinate, an area or a score: keeps products finite


class Records:
    """A list of dicts whose fields are taken out as arrays.

    The good case is one array conversion per field; only when it fails are the records looked
    at one by one, to name the first culprit.

    Args:
        file: for messages, the file the records come from.
        name: for messages, the list's name in that file.
    """

    def __init__(self, records: list[Any], file: str, name: str) -> None:
        self.records, self.file, self.name = records, file, name
        if not set(map(type, records)) <= {dict}:
            for index, record in enumerate(records):
                if not isinstance(record, dict):
                    self.fail(index, f"is {kind_of(record)}, not an object")

    def __len__(self) -> int:
        return len(self.records)

    def fail(self, index: int, problem: str) -> None:
        """Raises InputError for the record at `index`.

        Raises:
            InputError: always.
        """
        record = self.records[index]
        known = record.get("id") if isinstance(record, dict) else None
        identity = f" (id {known})" if known is not None else ""
        raise InputError(f"{self.file}: {self.name}[{index}]{identity} {problem}")

    def refuse(self, bad: np.ndarray, field: str, problem: str) -> None:
        """Raises InputError for the first record marked in `bad` (N,)."""
        if bad.any():
            index = int(np.argmax(bad))
            self.fail(index, f"{field} {_shown(self.records[index].get(field))} {problem}")

    def column(self, field: str) -> list[Any]:
        """The field of every record, which all must have."""
        try:
            return [record[field] for record in self.records]
        except KeyError:
            missing = np.array([field not in record for record in self.records])
            self.fail(int(np.argmax(missing)), f"has no {field!r}, which every record here needs")
            raise

    def integers(self, field: str) -> np.ndarray:
        """(N,) int64; whole numbers written as 3.0 are taken, true and false are none."""
        values = self._array(self.column(field), field, (), _is_integer, "a whole number")
        whole = values.astype(np.int64)
        self.refuse(np.asarray(whole != values), field, "is not a whole number")
        return whole

    def numbers(self, field: str, default: np.ndarray | None = None) -> np.ndarray:
        """(N,) float64, finite; where a record has none or null, `default` (N,) if it is given."""
        if default is None:
            values: list[Any] = self.column(field)
        else:
            values = [record.get(field) for record in self.records]
            if type(None) in set(map(type, values)):
                given = default.tolist()
                values = [g if v is None else v for v, g in zip(values, given, strict=True)]
        return self._array(values, field, (), _is_number, "a finite number").astype(np.float64)

    def flags(self, field: str) -> np.ndarray:
        """(N,) bool, of 0 and 1 or false and true; false where a record has none or null."""
        values = [record.get(field) for record in self.records]
        for index, value in enumerate(values):
            if value is not None and not _is_flag(value):
                self.fail(index, f"{field} {_shown(value)} is neither 0 nor 1")
        return np.array([bool(value) for value in values], bool)

    def boxes(self, field: str) -> np.ndarray:
        """(N, 4) float64 xywh, finite, width and height not negative."""
        kind = "four finite numbers [x, y, width, height]"
        values = self._array(self.column(field), field, (4,), _is_box, kind).astype(np.float64)
        self.refuse(np.any(values[:, 2:] < 0, axis=1), field, "has a negative width or height")
        return values

    def _array(
        self,
        values: list[Any],
        field: str,
        shape: tuple[int, ...],
        good: Callable[[Any], bool],
        kind: str,
    ) -> np.ndarray:
        if not values:
            return np.zeros((0, *shape))
        with contextlib.suppress(ValueError, TypeError, OverflowError):
            array = np.asarray(values)
            if (
                not _has_booleans(values if not shape else chain.from_iterable(values))
                and array.shape == (len(values), *shape)
                and array.dtype.kind in "iuf"
                and bool((np.abs(array) <= _limit(field)).all())
            ):
                return array
        for index, value in enumerate(values):
            if not good(value):
                self.fail(index, f"{field} is {_shown(value)}, not {kind}")
        # Every value is a number, but too large or of types numpy does not join.
        for index, value in enumerate(values):
            if any(abs(part) > _limit(field) for part in (value if shape else [value])):
                self.fail(index, f"{field} is {_shown(value)}, too large a number")
        return np.asarray(values, np.int64 if kind == "a whole number" else np.float64)


def kind_of(value: Any) -> str:
    """What a JSON value is, in JSON's words."""
    if value is None:
        return "null"
    names = {dict: "an object", list: "a list", str: "a string", bool: "true or false"}
    return names.get(type(value), "a number")


def _limit(field: str) -> float:
    return 2.0**62 if field == "id" or field.endswith("_id") else _LARGEST


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "..."


def _has_booleans(values: Iterable[Any]) -> bool:
    """Whether one is true or false, which numpy takes for 1 or 0 beside numbers."""
    return not {bool, np.bool_}.isdisjoint(map(type, values))


def _is_flag(value: Any) -> bool:
    return isinstance(value, bool | int | float) and value in (0, 1)


def _is_number(value: Any) -> bool:
    real = isinstance(value, numbers.Real) and not isinstance(value, bool)
    return real and (isinstance(value, int) or math.isfinite(value))


def _is_integer(value: Any) -> bool:
    return _is_number(value) and value == int(value)


def _is_box(value: Any) -> bool:
    listed = isinstance(value, list | tuple | np.ndarray)
    return listed and len(value) == 4 and all(map(_is_number, value))
