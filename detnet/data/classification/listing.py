"""Listings of large data sets, kept so that the next start only asks what has changed since.

A listing belongs to a folder and holds for as long as every folder or file it was read from bears
the time of its last change. Nothing here imports torch.
"""

import contextlib
import hashlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from detnet.files import replacing

_VERSION = 1
_KEEP_AFTER_S = 0.5  # a listing made faster is not worth a file
_SETTLED_NS = 2_000_000_000  # what changed just now may change again within its clock's tick


@dataclass(frozen=True, eq=False)
class Listing:
    """What was found in a folder.

    Args:
        facts: as JSON can hold them.
        arrays: by name.
        watched: what it was read from, relative to the folder, and when that changed last, in
            nanoseconds.
    """

    facts: dict[str, Any]
    arrays: dict[str, np.ndarray]
    watched: dict[str, int]


def listed(path: Path, kind: str, make: Callable[[], Listing]) -> tuple[Listing, bool]:
    """Gives the kept listing of a folder if it still holds, or makes and keeps one.

    Args:
        path: the folder, resolved.
        kind: of listing, and how it is made: another kind is made anew.
        make: reads the folder.

    Returns:
        the listing, and whether it was kept from before.
    """
    name = hashlib.sha256(f"{_VERSION} {kind} {path}".encode(errors="surrogateescape")).hexdigest()
    place = cache_folder() / "listings" / f"{name[:32]}.npz"
    found = _read(place, path)
    if found is not None:
        return found, True
    began = time.monotonic()
    found = make()
    settled = max(found.watched.values()) <= time.time_ns() - _SETTLED_NS
    if settled and time.monotonic() - began >= _KEEP_AFTER_S:
        _write(place, found)
    return found, False


def cache_folder() -> Path:
    """Where listings are kept: $DETNET_CACHE, else detnet in the user's cache folder."""
    if own := os.environ.get("DETNET_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "detnet"


def _write(place: Path, found: Listing) -> None:
    """Writes a listing; where that is not possible the next start makes it again."""
    header = json.dumps({"facts": found.facts, "watched": found.watched}).encode()
    stored: dict[str, Any] = {"header": np.frombuffer(header, dtype=np.uint8), **found.arrays}
    with contextlib.suppress(OSError):
        place.parent.mkdir(parents=True, exist_ok=True)
        with replacing(place, shared=True) as beside, beside.open("wb") as file:
            np.savez(file, **stored)


def _read(place: Path, path: Path) -> Listing | None:
    """The listing of an earlier start, if all it was read from is as it was then."""
    try:
        # Opened here: numpy leaves a cut file open.
        with place.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            header = json.loads(stored["header"].tobytes())
            watched = header["watched"]
            if any((path / name).stat().st_mtime_ns != then for name, then in watched.items()):
                return None
            arrays = {name: stored[name] for name in stored.files if name != "header"}
            return Listing(header["facts"], arrays, watched)
    except (OSError, ValueError, KeyError, EOFError, BadZipFile):  # none, or cut: it is made anew
        return None
