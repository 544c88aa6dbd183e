"""The run folder: where a run keeps its files, and what happened in it, line by line."""

import json
import math
import os
from pathlib import Path
from types import ModuleType
from typing import IO, Any

from detnet.engine.environment import describe_environment
from detnet.errors import InputError
from detnet.files import write_json, write_text
from detnet.text import is_utf8

fcntl: ModuleType | None
try:
    import fcntl
except ImportError:  # Windows has no such locks
    fcntl = None

_locks: set[IO[str]] = set()  # held by this process
_SIGNS = ("config.yaml", "last.ckpt", "metrics.jsonl")


class RunFolder:
    """A folder that holds one run. Make one with `create`, find one with `open`."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.config = self.path / "config.yaml"
        self.environment = self.path / "environment.json"
        self.metrics = self.path / "metrics.jsonl"
        self.last = self.path / "last.ckpt"
        self.best = self.path / "best.safetensors"
        self.model = self.path / "model.safetensors"
        self.evaluation = self.path / "evaluation"
        self.report = self.path / "report.html"
        self._lock: IO[str] | None = None

    @classmethod
    def create(cls, path: str | Path) -> "RunFolder":
        """Makes the folder for a new run.

        Raises:
            InputError: it holds a run already, or cannot be made.
        """
        cls.require_none(path)
        folder = cls(path)
        try:
            folder.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(f"{folder.path}: cannot make the folder: {error.strerror}") from error
        return folder

    @classmethod
    def require_none(cls, path: str | Path) -> None:
        """Refuses a folder that holds a run, or whose models could not be opened.

        Raises:
            InputError: naming the file that says so.
        """
        if not is_utf8(os.path.abspath(path)):
            raise InputError(f"{path}: is no path in UTF-8, which model files need; choose another")
        found = [name for name in _SIGNS if (Path(path) / name).exists()]
        if found:
            raise InputError(
                f"{path}: holds a run already ({found[0]}); choose another folder, or go on "
                f"with --resume {path}"
            )

    @classmethod
    def open(cls, path: str | Path) -> "RunFolder":
        """Finds a run.

        Raises:
            InputError: there is none at `path`.
        """
        folder = cls(path)
        if not folder.path.is_dir():
            raise InputError(f"{folder.path}: there is no such run folder")
        if not folder.config.is_file():
            raise InputError(f"{folder.path}: holds no run (no {folder.config.name} in it)")
        return folder

    def lock(self) -> None:
        """Keeps the run to this process until it ends, however it ends.

        Raises:
            InputError: another process is at work on the run.
        """
        if fcntl is None:
            return
        self._lock = (self.path / ".lock").open("w")
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise InputError(f"{self.path}: another process is training this run") from None
        _locks.add(self._lock)

    def unlock(self) -> None:
        """Gives the run back."""
        if self._lock is not None:
            _locks.discard(self._lock)
            if fcntl is not None:  # a process forked just now may not have let go yet
                fcntl.flock(self._lock, fcntl.LOCK_UN)
            self._lock.close()

    def write_environment(self) -> None:
        """Notes the command, the versions and the machine that the run's numbers come from."""
        write_json(self.environment, describe_environment(), indent=2)

    def log(self, event: dict[str, Any]) -> None:
        """Appends the event to metrics.jsonl as one line, which outlives a kill of this process.

        Args:
            event: numbers, strings, lists and dicts; "iteration" says when, and what is not
                finite becomes null. Log what belongs to an iteration before its checkpoint.

        Raises:
            InputError: the disk is full or refuses.
            TypeError: the event holds what JSON cannot.
        """
        line = json.dumps(_plain(event), allow_nan=False) + "\n"
        try:
            with self.metrics.open("a") as file:
                file.write(line)
                file.flush()
        except OSError as error:
            raise InputError(f"{self.metrics}: cannot write: {error.strerror}") from error

    def read_metrics(self) -> list[dict[str, Any]]:
        """The events so far; a last line that a kill has cut is left out.

        Raises:
            InputError: a line before the last is not JSON.
        """
        return [json.loads(line) for line in self._lines()]

    def end(self) -> dict[str, Any] | None:
        """The event of its end, the last where it was resumed after one; None until complete.

        Raises:
            InputError: a line before the last is not JSON.
        """
        ends = [event for event in self.read_metrics() if event.get("event") == "end"]
        return ends[-1] if ends else None

    def cut_metrics(self, iteration: int) -> None:
        """Drops what was logged after the checkpoint of `iteration`, and a line cut by a kill.

        Everything from the first later event on goes, also what names no iteration.

        Raises:
            InputError: the file cannot be written, or a line of it is no JSON object.
        """
        kept = []
        for line in self._lines():
            if (json.loads(line).get("iteration") or 0) > iteration:
                break
            kept.append(line + "\n")
        if not self.metrics.exists() or self.metrics.read_bytes() == "".join(kept).encode():
            return
        try:
            write_text(self.metrics, "".join(kept))
        except OSError as error:
            raise InputError(f"{self.metrics}: cannot write: {error.strerror}") from error

    def _lines(self) -> list[str]:
        """The whole lines of metrics.jsonl."""
        if not self.metrics.exists():
            return []
        lines = self.metrics.read_text(errors="replace").split("\n")
        whole = lines[:-1]  # what follows the last line feed was never finished
        for number, line in enumerate(whole, 1):
            if not _is_event(line):
                raise InputError(f"{self.metrics}: line {number} is not a JSON object: {line[:40]}")
        return whole


def _let_go() -> None:
    """Closes a forked process's share in the locks: a worker that reads images outlives a kill of
    its training by seconds, in which the run could not be gone on with.
    """
    for lock in _locks:
        lock.close()
    _locks.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_let_go)


def _plain(value: Any) -> Any:
    """The same in JSON's own types: no NaN, no infinity, no tensors, numpy numbers or paths."""
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    if hasattr(value, "tolist"):
        return _plain(value.tolist())
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    raise TypeError(f"an event holds a {type(value).__name__}, which JSON cannot: {value!r}")


def _is_event(line: str) -> bool:
    try:
        return isinstance(json.loads(line), dict)
    except ValueError:
        return False
