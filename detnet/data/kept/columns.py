"""A file of arrays that is mapped, not read: processes that use it have it in memory once for all.

The layout: a mark, the length of a header, the header as JSON with whatever facts go with the
arrays, the arrays, each at a multiple of 64 bytes, and a checksum of all that.
"""

import json
import mmap
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detnet.files import replacing

_MARK = b"detnet columns 1"
_ALIGNED = 64
_LENGTH = 8  # bytes of a number in the file, low first


class DamagedColumns(Exception):
    """A file of columns is cut, changed, or none."""


@dataclass(frozen=True, eq=False)
class Columns:
    """Arrays by name, and what goes with them.

    Args:
        facts: as JSON can hold them.
        arrays: of numbers; those that were mapped cannot be written to.
    """

    facts: dict[str, Any]
    arrays: Mapping[str, np.ndarray]


def write_columns(path: Path, columns: Columns) -> None:
    """Writes a file that is there whole or not at all.

    Raises:
        OSError: naming the file.
    """
    arrays = {name: np.ascontiguousarray(array) for name, array in columns.arrays.items()}
    places, end = dict[str, tuple[str, tuple[int, ...], int]](), 0
    for name, array in arrays.items():
        places[name] = (array.dtype.str, array.shape, end)
        end += _padded(array.nbytes)
    header = json.dumps({"facts": columns.facts, "arrays": places}).encode()
    begin = _MARK + len(header).to_bytes(_LENGTH, "little") + header
    with replacing(path) as beside, beside.open("wb") as file:
        checksum = 0
        content = [array.reshape(-1).view(np.uint8).data for array in arrays.values()]
        for part in (memoryview(begin), *content):
            for piece in (part, bytes(_padded(part.nbytes) - part.nbytes)):
                checksum = zlib.crc32(piece, checksum)
                file.write(piece)
        file.write(checksum.to_bytes(_LENGTH, "little"))


def map_columns(path: Path) -> Columns:
    """Maps a file's arrays into memory; nothing of them is copied.

    Raises:
        DamagedColumns: it is cut, changed, or something else.
        OSError: it is not there, or cannot be opened.
    """
    with path.open("rb") as file:
        try:
            mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        except ValueError:
            raise DamagedColumns(f"{path}: is empty") from None
    end = len(mapped) - _LENGTH
    with memoryview(mapped) as whole:
        told = int.from_bytes(whole[max(0, end) :], "little")
        if whole[: len(_MARK)] != _MARK or zlib.crc32(whole[:end]) != told:
            raise DamagedColumns(f"{path}: is cut or changed")
    content, begin = _header(mapped)
    arrays = {
        name: np.frombuffer(mapped, dtype, int(np.prod(shape)), begin + place).reshape(shape)
        for name, (dtype, shape, place) in content["arrays"].items()
    }
    return Columns(content["facts"], arrays)


def read_facts(path: Path) -> dict[str, Any]:
    """What goes with a file's arrays, without a look at these or at the checksum.

    Raises:
        DamagedColumns: it is something else.
        OSError: it is not there, or cannot be opened.
    """
    with path.open("rb") as file:
        begin = file.read(len(_MARK) + _LENGTH)
        if not begin.startswith(_MARK):
            raise DamagedColumns(f"{path}: is no file of columns")
        length = int.from_bytes(begin[len(_MARK) :], "little")
        try:
            facts: dict[str, Any] = json.loads(file.read(length))["facts"]
        except (ValueError, KeyError, TypeError, OverflowError, MemoryError):
            raise DamagedColumns(f"{path}: is cut or changed") from None
    return facts


def _header(mapped: mmap.mmap) -> tuple[dict[str, Any], int]:
    """The header, and where the first array begins."""
    first = len(_MARK) + _LENGTH
    length = int.from_bytes(mapped[len(_MARK) : first], "little")
    content: dict[str, Any] = json.loads(mapped[first : first + length])
    return content, _padded(first + length)


def _padded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
