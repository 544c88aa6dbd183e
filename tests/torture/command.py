"""Runs the program's own entry in this process and judges how it ended."""

import contextlib
import io
import json
import re
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.cli import main
from tests.torture.record import ACCEPTED, CLEAR, TRACEBACK, WRONG

_ERROR = "detnet: error: "


@dataclass(frozen=True)
class Found:
    """A verdict and what led to it."""

    verdict: str
    detail: str
    times: int = 1


@dataclass(frozen=True)
class Said:
    """How a command ended: exit code, output, errors, and the exception that escaped, if any."""

    argv: tuple[str, ...]
    code: int | None
    out: str
    err: str
    trace: str = ""

    @property
    def json(self) -> Any:
        """Its standard output as JSON, where NaN is none."""
        return json.loads(self.out, parse_constant=_refuse)


def call(*argv: str | Path) -> Said:
    """Runs `detnet ARGV` in this process."""
    words = tuple(map(str, argv))
    out, err = io.StringIO(), io.StringIO()
    code, trace = None, ""
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(words)
        except BaseException as error:
            trace = where(error)
    return Said(words, code, out.getvalue(), err.getvalue(), trace)


def where(error: BaseException) -> str:
    """An exception in one line: its kind, its words, and the last places of ours it came by."""
    frames = [f for f in traceback.extract_tb(error.__traceback__) if "/detnet/" in f.filename]
    places = [f"{f.filename.rpartition('/detnet/')[2]}:{f.lineno}" for f in frames[-2:]]
    return f"{type(error).__name__} at {' > '.join(places)}: {' '.join(str(error).split())[:160]}"


def judge(said: Said, *, notes: bool = False) -> Found:
    """Whether a command ended as it promises.

    Args:
        notes: whether lines may stand before the error, as a training's.
    """
    told = f"{said.argv[0]}: {short(said.err)}"
    if said.trace:
        return Found(TRACEBACK, f"{said.argv[0]}: {said.trace}")
    if re.search(r"Warning: (?!/)", said.err):  # our own of an image begins with its path
        return Found(TRACEBACK, f"a warning of a library escapes: {told}")
    if said.code == 0:
        return Found(ACCEPTED, "")
    if said.code == 1 and said.argv[0] == "check":
        return Found(CLEAR, "listed by check")
    lines = said.err.splitlines()
    clear = lines and lines[-1].startswith(_ERROR) and len(lines[-1]) > len(_ERROR)
    if said.code == 2 and clear and (notes or len(lines) == 1):
        if re.search(r"\b(Key|Type|Index|Attribute)Error\b", lines[-1]):
            return Found(TRACEBACK, f"names an exception: {told}")
        return Found(CLEAR, lines[-1])
    return Found(TRACEBACK, f"exit code {said.code}, {len(lines)} lines: {told}")


def finite_json(said: Said) -> Found | None:
    """A finding where what a successful command printed is no JSON, or holds NaN."""
    try:
        return None if said.json is not None else None
    except ValueError as error:
        return Found(WRONG, f"{said.argv[0]}: {error}: {short(said.out)}")


def short(text: str) -> str:
    text = " ".join(text.split())
    return text if len(text) <= 300 else f"{text[:120]} … {text[-170:]}"


def _refuse(name: str) -> float:
    raise ValueError(f"{name} in JSON")
