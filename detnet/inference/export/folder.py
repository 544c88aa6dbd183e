"""The hidden folder that an export is made in, which gets the export's name when it is whole."""

import glob
import os
import shutil
import signal
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType, ModuleType

from detnet.errors import InputError
from detnet.inference.engines.record import RECORD_FILE

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

_ENDING = ("SIGTERM", "SIGHUP")  # Ctrl-C is an exception


@contextmanager
def folder_beside(output: Path) -> Iterator[Path]:
    """Makes a hidden folder that is gone afterwards, whatever happens, unless it was given a name.

    What killed processes left of the same output goes first.
    """
    output.parent.mkdir(parents=True, exist_ok=True)
    for left in output.parent.glob(f".{glob.escape(output.name)}.*.part"):
        if (held := _hold(left)) is not None:
            shutil.rmtree(left, ignore_errors=True)
            os.close(held)
    folder = Path(tempfile.mkdtemp(prefix=f".{output.name}.", suffix=".part", dir=output.parent))
    like = folder / "like"
    like.mkdir()
    folder.chmod(like.stat().st_mode)  # made for the user alone; shared as far as the umask says
    like.rmdir()
    held = _hold(folder)
    try:
        with _removed_before_the_end(folder):
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        if held is not None:
            os.close(held)


def give_name(folder: Path, output: Path) -> None:
    """Makes a finished folder the output; an empty one that is there, maybe mounted, is filled.

    Raises:
        InputError: the output holds something by now.
    """
    if not output.exists():
        folder.rename(output)
        return
    if any(each.name != folder.name for each in output.iterdir()):
        raise InputError(f"{output}: holds something by now; name a new folder")
    for each in sorted(folder.iterdir(), key=lambda each: each.name == RECORD_FILE):
        shutil.move(each, output / each.name)  # the record last, which makes it an export


def _hold(folder: Path) -> int | None:
    """Locks a folder until it is closed or this process ends; None where no lock can be had."""
    if fcntl is None:
        return None
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:  # another process is at work in it, or a drive without locks
        os.close(descriptor)
        return None
    return descriptor


@contextmanager
def _removed_before_the_end(folder: Path) -> Iterator[None]:
    """Has signals that end a process on the spot remove the folder before they do.

    Only where they would: a caller's own handler stays, and other threads can set none.
    """
    process = os.getpid()

    def end(number: int, frame: FrameType | None) -> None:
        if os.getpid() == process:  # a child has inherited this
            shutil.rmtree(folder, ignore_errors=True)
        signal.signal(number, signal.SIG_DFL)
        signal.raise_signal(number)

    caught = []
    if threading.current_thread() is threading.main_thread():
        known = [getattr(signal, name) for name in _ENDING if hasattr(signal, name)]
        caught = [number for number in known if signal.getsignal(number) == signal.SIG_DFL]
    for number in caught:
        signal.signal(number, end)
    try:
        yield
    finally:
        for number in caught:
            signal.signal(number, signal.SIG_DFL)
