"""What several processes must have in common before they begin: settings, data, a shared folder."""

import contextlib
import os
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from detnet.engine.distributed import Process, all_gather, barrier, same_on_all
from detnet.engine.peers import place
from detnet.errors import InputError
from detnet.files import sha256_of

VISIBLE_S = 30.0  # in which a network's file system shows all machines what one has written
_LOOK_S = 0.2
_LONGEST = 60  # letters of a value that is shown
_DIGITS = 16  # of a fingerprint, hexadecimal: enough for files that differ by chance


def require_same(what: str, mine: Mapping[str, Any]) -> None:
    """Compares what each process has with what the first one has.

    Args:
        what: it is, for the message.
        mine: this process's, by name; all processes must ask at the same point.

    Raises:
        InputError: on all processes, naming one that has something else, and what.
    """
    everything = all_gather((place(), dict(mine)))
    first = everything[0][1]
    for rank, (where, theirs) in enumerate(everything):
        names = [name for name in {**first, **theirs} if first.get(name) != theirs.get(name)]
        if names:
            others = ", ".join(
                f"{name} {_shown(theirs.get(name))}, there {_shown(first.get(name))}"
                for name in names
            )
            raise InputError(f"rank {rank} ({where}) has other {what} than rank 0: {others}")


def require_same_files(
    process: Process, model: Path, data: Callable[[], Mapping[str, str]]
) -> None:
    """Compares what each process evaluates, and on what, with the first one's; see `require_same`.

    Args:
        model: the file.
        data: gives fingerprints by name, of several processes alone.

    Raises:
        InputError: on all processes, naming one that has other files, and which.
    """
    if process.world_size > 1:
        told = {"model": sha256_of(model), **data()}
        own = {f"{name} of fingerprint": digest[:_DIGITS] for name, digest in told.items()}
        require_same("files", own)


def require_shared(folder: Path, process: Process) -> None:
    """Refuses a folder in which the others do not see what the first process writes.

    Args:
        folder: there for the first process.

    Raises:
        InputError: on all processes, naming one that does not see it.
    """
    if process.world_size == 1:
        return
    mark = folder / f".shared-{same_on_all(secrets.token_hex(8))}"
    if process.main:
        mark.touch()
    barrier()
    seen = all_gather((place(), _is_seen(mark)))
    if process.main:
        mark.unlink(missing_ok=True)
    for rank, (where, found) in enumerate(seen):
        if not found:
            raise InputError(
                f"{folder}: rank {rank} ({where}) does not see what rank 0 writes there; give a "
                "folder on a file system that all machines share"
            )


def _is_seen(file: Path) -> bool:
    """Waits for a file that another machine has made."""
    end = time.monotonic() + VISIBLE_S
    while not file.exists():
        if time.monotonic() > end:
            return False
        time.sleep(_LOOK_S)
        with contextlib.suppress(OSError):  # a network's file system looks again when it lists
            os.listdir(file.parent)
    return True


def _shown(value: Any) -> str:
    text = "nothing" if value is None else str(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}…"
