"""The walks of docs/architecture.md are those that a training takes."""

import importlib
import inspect
import re
import sys
from pathlib import Path
from types import FrameType

import pytest

import detnet
from detnet.cli import main
from detnet.data.scenes import write_scenes
from docs._tools.house import ARCHITECTURE
from docs._tools.names import is_name

SMALL = "--width 0.125 --workers 0 --device cpu --epochs 1 --batch-size 2 --min-sizes 64"


def walks() -> list[str]:
    """The functions that the two walks name, in their order."""
    text = ARCHITECTURE.read_text(encoding="utf-8")
    part = text[text.index("## A batch") : text.index("## The core")]
    names = re.findall(r"`(detnet(?:\.\w+)+)`", part)
    return [name for name in dict.fromkeys(names) if inspect.isfunction(found(name))]


def found(name: str) -> object:
    """What a name stands for; None for what another name of the package leads to."""
    assert is_name(name), name
    parts = name.split(".")
    if parts[1] in detnet._HOMES:
        return None
    for length in range(len(parts), 0, -1):
        try:
            value: object = importlib.import_module(".".join(parts[:length]))
        except ModuleNotFoundError:
            continue
        for part in parts[length:]:
            value = getattr(value, part)
        return value
    return None


def test_the_walks_name_functions() -> None:
    assert len(walks()) > 25


@pytest.mark.slow
def test_a_training_takes_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    write_scenes(Path("DATA"), train=4, val=2, size=(160, 120))
    called: set[str] = set()

    def note(frame: FrameType, event: str, argument: object) -> None:
        module = str(frame.f_globals.get("__name__", ""))
        if event == "call" and module.startswith("detnet"):
            called.add(f"{module}.{frame.f_code.co_qualname}")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        words = f"train --data DATA --output runs/a {SMALL} --max-size 96"
        assert main([*words.split(), "--detector-option", "roi_batch=16"]) == 0
    finally:
        sys.setprofile(before)
    missing = [name for name in walks() if name not in called]
    assert not missing, "\n".join(missing)
