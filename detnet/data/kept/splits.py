"""Keeps what was read of a large annotation file, so that one process reads it, once, for all.

Of a YOLO folder with many images, too, whose sizes are measured: while none of its files changes.

A process of its own reads the file and writes the columns; whoever asked maps them, and those who
ask at the same time wait. Reading takes gigabytes, which end with that process.
"""

import functools
import hashlib
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from itertools import islice
from pathlib import Path
from types import ModuleType
from typing import Any, ParamSpec, TypeVar, cast

from detnet.coco.categories import Categories
from detnet.coco.keypoints import KeypointLayout
from detnet.data.folders import Split, format_of, names_start, require_inside
from detnet.data.kept.columns import Columns, DamagedColumns, map_columns, read_facts, write_columns
from detnet.data.kept.packing import Reading, pack, unpack
from detnet.data.kept.telling import say_reading
from detnet.errors import InputError
from detnet.files import cache_folder, read_json, write_json

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows
    fcntl = None

P = ParamSpec("P")
R = TypeVar("R")

_LARGE = 10_000_000  # bytes of an annotation file; a smaller one is read in a moment
_MANY = 4000  # files of a split that is read from many, each opened: some seconds
_SETTLED_NS = 2_000_000_000  # what changed just now may change again within its clock's tick
REFUSED = 3  # exit status of the process that reads


@dataclass(frozen=True)
class ReadOptions:
    """What is read of a file, see `load_annotations`; `scored` adds the ground truth."""

    masks: bool = False
    keypoints: bool = False
    keep_empty: bool = True
    scored: bool = False


def kept(*, scored: bool = False) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Lets a function that loads a split take what is kept of it, if it is of a large file.

    What it raises stays the same: where nothing can be kept, it reads the file itself.

    Args:
        scored: it gives the ground truth, too.
    """

    def decorate(load: Callable[P, R]) -> Callable[P, R]:
        @functools.wraps(load)
        def load_or_map(*args: P.args, **options: P.kwargs) -> R:
            if options.get("table") is None:
                reading = load_kept(*cast(Any, args), scored=scored, **cast(Any, options))
                if reading is not None:
                    parts = (reading.annotations, reading.repairs, reading.truths)
                    return cast(R, parts if scored else parts[:2])
            return load(*args, **options)

        return load_or_map

    return decorate


def load_kept(
    split: Split,
    *,
    categories: Categories | None = None,
    layout: KeypointLayout | None = None,
    categories_of: str = "the model",
    unlabelled: bool = False,
    table: None = None,
    **asked: bool,
) -> Reading | None:
    """Maps what is kept of a split, which is read and kept first if need be.

    Args:
        categories, layout, categories_of: as `load_annotations` takes them, and the next two,
            which are nothing to it: files without annotations are not kept.
        asked: of `ReadOptions`.

    Returns:
        None where the split is small, of a format without `sources`, or nothing can be kept.

    Raises:
        InputError: as `load_annotations`.
    """
    with suppress(OSError):
        if _is_kept(split):
            reading = _map_or_make(split, ReadOptions(**asked))
            if reading is not None:
                return _fitting(reading, split, categories, layout, categories_of)
    return None


def _is_kept(split: Split) -> bool:
    """Whether something is kept of a split: of one large file, or of many.

    Raises:
        InputError: its files cannot be found.
        OSError: there is no such file.
    """
    if _is_one(split):
        return os.stat(split.annotations).st_size >= _LARGE
    return next(islice(format_of(split).sources(split, _MANY), _MANY, None), None) is not None


def _is_one(split: Split) -> bool:
    return split.format in ("coco", "roboflow")


def _fitting(
    reading: Reading,
    split: Split,
    categories: Categories | None,
    layout: KeypointLayout | None,
    categories_of: str,
) -> Reading:
    """Asks of the columns what is asked of a file that is read, in the same order."""
    notes, file = reading.annotations, str(split.annotations)
    if categories is not None:
        categories.require_same(notes.categories, mine=categories_of, theirs=file)
    if layout is not None and notes.keypoint_layout is not None:
        layout.require_same(notes.keypoint_layout, mine=categories_of, theirs=file)
    names = [name.decode("utf-8", "surrogatepass") for name in reading.names]
    start = names_start(split.images, names)
    require_inside(split, start, names)
    return replace(reading, annotations=replace(notes, images_folder=start))


def _map_or_make(split: Split, asked: ReadOptions) -> Reading | None:
    place = place_of(split, asked)
    columns = _map(place, split)
    if columns is None:
        _read_apart(split, asked)
        columns = _map(place, split)
    return None if columns is None else unpack(columns, split)


def place_of(split: Split, asked: ReadOptions) -> Path:
    """The file of columns; another reading of the same annotation file has another."""
    return _place(split, asdict(asked), "columns")


def _place(split: Split, what: Any, suffix: str) -> Path:
    file = split.annotations.resolve()
    part = [] if _is_one(split) else [split.name, split.outside]
    told = json.dumps([str(file), what, *part])
    digest = hashlib.sha256(told.encode("utf-8", "surrogatepass")).hexdigest()
    return cache_folder() / "annotations" / f"{file.stem[:60]}-{digest[:16]}.{suffix}"


def _map(place: Path, split: Split) -> Columns | None:
    """The columns, if they are whole and of the file as it is now."""
    try:
        columns = map_columns(place)
    except (OSError, DamagedColumns):
        return None
    made, now = columns.facts["file"], _status(split)
    if made["code"] != _code():
        return None
    if made["status"] == now and made["settled"]:
        return columns
    same = made["status"][0] == now[0] and made["sha256"] == kept_fingerprint(split)
    return columns if same else None


def kept_fingerprint(split: Split) -> str:
    """Gives the fingerprint of a split's annotations, that of a large file made once for all.

    The file's size and times tell whether it is still the one that was read.

    Raises:
        InputError: it cannot be read.
    """
    with suppress(OSError):
        if _is_kept(split):
            return _known_fingerprint(split)
    return format_of(split).fingerprint(split)


def _known_fingerprint(split: Split) -> str:
    """As it is kept, or made and kept, while the others wait.

    Raises:
        OSError: it cannot be kept.
    """
    place = _place(split, "fingerprint", "json")
    place.parent.mkdir(parents=True, exist_ok=True)
    with _turn(place):
        began, now = time.time_ns(), _status(split)
        with suppress(InputError, KeyError, TypeError):
            known = read_json(place)
            if known["status"] == now:
                return str(known["sha256"])
        found = format_of(split).fingerprint(split)
        if _settled(now, began) and _status(split) == now:
            path = str(split.annotations.resolve())
            write_json(place, {"path": path, "status": now, "sha256": found}, shared=True)
    return found


@functools.cache
def _code() -> str:
    """Tells the code that reads: after a change it may make something else of the same file."""
    here = Path(__file__).parent
    digest = hashlib.sha256()
    for folder in (here.parents[1] / "coco", here.parent, here.parent / "formats", here):
        for path in sorted(folder.glob("*.py")):
            digest.update(path.read_bytes())
    return digest.hexdigest()


def _status(split: Split) -> list[int]:
    """Size of the annotation file, and when its content and its entry changed last.

    Of many files a hash of their names, sizes and times, and when the last one changed.
    """
    if _is_one(split):
        status = os.stat(split.annotations)
        return [status.st_size, status.st_mtime_ns, status.st_ctime_ns]
    digest, changed, entered = hashlib.sha256(), 0, 0
    for path in format_of(split).sources(split):
        told = os.fsencode(path)
        with suppress(OSError, ValueError):  # an image without a label file, a name with \0
            status = os.stat(path)
            changed, entered = max(changed, status.st_mtime_ns), max(entered, status.st_ctime_ns)
            told += f"\0{status.st_size} {status.st_mtime_ns} {status.st_ctime_ns}".encode()
        digest.update(told + b"\n")
    return [int.from_bytes(digest.digest(), "big"), changed, entered]


def _settled(status: list[int], now_ns: int) -> bool:
    """Whether a later change would show in the times."""
    return max(status[1:]) <= now_ns - _SETTLED_NS


def _read_apart(split: Split, asked: ReadOptions) -> None:
    """Has a process of its own read the file and keep the columns.

    Raises:
        InputError: the file holds errors. Whatever else goes wrong there is left to who reads it
            here.
    """
    what, files = f"the images and labels of {split.images}, {split.name}", "files stay as they are"
    if _is_one(split):
        masks = " with its masks" if asked.masks else ""
        size = os.stat(split.annotations).st_size / 1e6
        what, files = f"{split.annotations}{masks}, {size:,.0f} MB", "file stays as it is"
    say_reading(
        f"reading {what}; what is read is kept in {place_of(split, asked).parent}, and not read "
        f"again while the {files}"
    )
    told = json.dumps([_plain(split), asdict(asked)])
    command = [sys.executable, "-m", "detnet.data.kept", told]
    paths = os.pathsep.join(path or os.getcwd() for path in sys.path)
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": paths}, capture_output=True, check=False
    )
    if done.returncode == REFUSED:
        raise InputError(json.loads(done.stdout))


def make(told: str, read: Callable[[Split, ReadOptions], Reading | None]) -> int:
    """Does the work of the process that reads, and gives its exit status.

    Args:
        told: the split and what is asked of it, as `_read_apart` tells them.
        read: gives None for what is not worth keeping.

    Raises:
        InputError: as `read`.
        OSError: the columns cannot be written.
    """
    described, options = json.loads(told)
    split, asked = _split(described), ReadOptions(**options)
    place = place_of(split, asked)
    place.parent.mkdir(parents=True, exist_ok=True)
    with _turn(place):
        if _map(place, split) is not None:  # another process was first
            return 0
        began, before = time.time_ns(), _status(split)
        reading = read(split, asked)
        if reading is None:
            return 1
        columns = pack(reading)
        columns.facts["file"] = {
            "path": str(split.annotations.resolve()),
            "code": _code(),
            "status": before,
            "settled": _settled(before, began),
            "sha256": kept_fingerprint(split),
        }
        if _status(split) != before:
            return 1
        write_columns(place, columns)
    _forget_lost(place.parent)
    return 0


@contextmanager
def _turn(place: Path) -> Iterator[None]:
    """Waits until no other process makes the same columns; a killed one waits for nobody."""
    if fcntl is None:
        yield
        return
    with place.with_suffix(".lock").open("w") as lock:
        with suppress(OSError):  # a file system without locks: two may do the same work
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _forget_lost(folder: Path) -> None:
    """Deletes what is kept of files that are no longer there."""
    for place in [*folder.glob("*.columns"), *folder.glob("*.json")]:
        with suppress(OSError, DamagedColumns, InputError, KeyError, TypeError):
            made = read_json(place) if place.suffix == ".json" else read_facts(place)["file"]
            if not os.path.exists(made["path"]):
                place.unlink()
                place.with_suffix(".lock").unlink()


def _plain(split: Split) -> list[Any]:
    root = None if split.root is None else str(split.root)
    places = [str(split.annotations), str(split.images)]
    return [split.name, *places, root, split.outside, split.format]


def _split(told: list[Any]) -> Split:
    name, annotations, images, root, outside, form = told
    folder = None if root is None else Path(root)
    return Split(name, Path(annotations), Path(images), (), folder, outside, form)
