"""Writes files whole or not at all: beside their place, to the disk, and then renamed."""

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Gives a file beside `path` to write to, and puts it into its place when that is done.

    What goes wrong, a full disk or a kill, leaves at `path` what was there before.

    Args:
        shared: several processes may write the same file at once; the last one stays. Without it
            what a kill has left beside is written over next time, and does not gather.

    Raises:
        OSError: naming the file, also where the system tells only why.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part" if shared else f".{path.name}.part")
    try:
        yield beside
        with beside.open("rb") as file:
            os.fsync(file.fileno())  # else a power failure may leave a name without content
        os.replace(beside, path)
        _sync_folder(path.parent)
    except OSError as error:
        if error.strerror is None:
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        with suppress(OSError):  # already failing for a reason that matters more
            beside.unlink(missing_ok=True)


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    """Writes a text file, UTF-8, see `replacing`.

    Raises:
        OSError: naming the file.
    """
    with replacing(path, shared=shared) as beside:
        beside.write_text(text, encoding="utf-8")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, see `replacing`.

    Raises:
        OSError: naming the file.
    """
    with replacing(path) as beside:
        beside.write_bytes(content)


def _sync_folder(folder: Path) -> None:
    """Makes a rename outlive a power failure, where the system lets a folder be opened."""
    if os.name != "posix":
        return
    with suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
