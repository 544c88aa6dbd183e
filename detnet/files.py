"""Reads JSON and YAML with errors of one line, and writes files whole or not at all.

What is written goes beside its place, to the disk, and is then renamed.
"""

import errno
import gc
import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import yaml

from detnet.errors import InputError
from detnet.kinds import say_kind
from detnet.text import first_line

Similar = dict[tuple[Path, bool], dict[str, list[Path]]]  # what `hint_at_similar` found for others


@contextmanager
def replacing(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """Gives a file beside `path` to write to, and puts it into its place when that is done.

    What goes wrong, a full disk or a kill, leaves at `path` what was there before. What is written
    has the permissions that the umask gives, whoever writes it.

    Args:
        shared: several processes may write the same file at once; the last one stays. Without it
            what a killed process left is overwritten next time, and does not pile up.

    Raises:
        OSError: naming the file, also where the system tells only why.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}.part" if shared else f".{path.name}.part")
    try:
        beside.touch()
        mode = beside.stat().st_mode
        yield beside
        if beside.stat().st_mode != mode:  # safetensors makes a file for its owner alone
            with suppress(OSError):  # a drive without permissions
                beside.chmod(mode)
        with beside.open("rb+") as file:  # Windows flushes only what may be written
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


def make_writable(folder: Path) -> None:
    """Makes a folder if it is not there, and sees that it can be written to, before the work.

    Raises:
        OSError: it cannot be made.
        PermissionError: it cannot be written to.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(folder))


def write_text(path: Path, text: str, *, shared: bool = False) -> None:
    r"""Writes a text file, UTF-8, see `replacing`.

    What UTF-8 cannot hold, as in names of files with other bytes, is written as \udce9, of which
    JSON and YAML make the same name again.

    Raises:
        OSError: naming the file.
    """
    with replacing(path, shared=shared) as beside:
        beside.write_text(text, encoding="utf-8", errors="backslashreplace")


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file, see `replacing`.

    Raises:
        OSError: naming the file.
    """
    with replacing(path) as beside:
        beside.write_bytes(content)


def place_apart(place: Path, data: str, is_same: Callable[[Any], bool]) -> Path:
    """Gives a folder for scores on some data: `place`, unless those of other data lie there.

    Args:
        data: tells the data from all others; its hash makes the other folder's name.
        is_same: whether what a scores.json has under "data" are these.
    """
    for file in (place / "scores.json", *place.glob("*/scores.json")):
        with suppress(InputError, OSError, KeyError, TypeError):  # of an older version, or damaged
            if not is_same(read_json(file)["data"]):
                digest = hashlib.sha256(data.encode("utf-8", "surrogatepass")).hexdigest()
                return place.with_name(f"{place.name}-{digest[:8]}")
    return place


def read_text(path: Path) -> str:
    """Reads a text file, UTF-8, without the byte-order mark that some editors begin it with.

    Raises:
        InputError: it is not there, is a folder, may not be read, or is no text.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file") from error
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        found = f"byte {error.start} is {error.object[error.start]:#04x}"
        raise InputError(f"{path}: no text in UTF-8 ({found}); save it so") from error


def hint_at_similar(folder: Path, name: str, cache: Similar | None = None) -> str:
    """Tells what a name that leads nowhere may mean: "; b.JPG does", or "" where nothing fits.

    That is a file beside it that differs in its suffix or in upper and lower case only, else the
    one file of its name below the last folder that is there. Of Windows' names, too.

    Args:
        folder: where the name starts.
        cache: what lies in which folder, for those who ask for many.
    """
    path, known = folder / name, {} if cache is None else cache
    with suppress(OSError, ValueError):  # names that are too long, folders that may not be read
        if near := _listing(path.parent, False, known).get(path.stem.lower()):
            return f"; {near[0].name} does"
    with suppress(OSError, ValueError):
        there = [p for p in path.parents if p.is_relative_to(folder) and p.is_dir()]
        for place in there[:1]:
            last = path.name.replace("\\", "/").rsplit("/", 1)[-1]
            fitting = _listing(place, True, known).get(last, [])
            return f"; {fitting[0]} does" if len(fitting) == 1 else ""
    return ""


def _listing(folder: Path, below: bool, known: Similar) -> dict[str, list[Path]]:
    """What lies in a folder by its stem in lower case, or all that lies below it by its name."""
    if (folder, below) not in known:
        found = known[folder, below] = dict[str, list[Path]]()
        for path in folder.rglob("*") if below else folder.iterdir():
            found.setdefault(path.name if below else path.stem.lower(), []).append(path)
    return known[folder, below]


def read_json(path: Path | str) -> Any:
    """Reads a JSON file whole.

    Raises:
        InputError: it is not there, cut, or not JSON.
    """
    try:
        text = Path(path).read_bytes()
        with no_collection():
            return json.loads(text)
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror or error}") from None
    except (ValueError, RecursionError) as error:
        reason = first_line(error)
        raise InputError(f"{path}: not JSON, or cut off: {reason}; write the file again") from None


def sha256_of(path: Path) -> str:
    """Gives a file's SHA-256 in hexadecimal digits.

    Raises:
        InputError: it cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None


@contextmanager
def no_collection() -> Iterator[None]:
    """Keeps the garbage collector away, which makes reading a million small dicts 3× slower.

    Let them go before it comes back: it would look at each of them once more.
    """
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


def write_json(path: Path, content: Any, *, indent: int | None = 1, shared: bool = False) -> None:
    """Writes a JSON file, see `replacing`; numbers must be finite.

    Raises:
        OSError: naming the file.
        ValueError: a number is not finite.
    """
    text = json.dumps(content, indent=indent, ensure_ascii=False, allow_nan=False)
    write_text(path, text + "\n", shared=shared)


def read_yaml(path: Path) -> dict[str, Any]:
    """Reads a YAML file of names and values.

    Raises:
        InputError: it cannot be read, is not YAML, or holds something else.
    """
    try:
        content = yaml.safe_load(read_text(path))
    except yaml.YAMLError as error:
        raise InputError(f"{path}: is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        kind = "nothing" if content is None else say_kind(type(content))
        raise InputError(f"{path}: no settings, but {kind}")
    return content


def cache_folder() -> Path:
    """Where what can be made again is kept: $DETNET_CACHE, else the user's cache folder."""
    if own := os.environ.get("DETNET_CACHE"):
        return Path(own)
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base) / "detnet"


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
