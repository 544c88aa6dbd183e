"""docs/plugins.md is typed as it stands: its files are written, then its commands run on them."""

import re
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from detnet.backbones.spaces.space import SPACES
from detnet.cli import main
from detnet.inference.export.differences import BOUNDS
from docs._tools.pages import ROOT, blocks
from tests.docs.test_snippets import commands, shortened
from tests.test_plugins import forgotten  # noqa: F401


@pytest.fixture(autouse=True)
def spaces_forgotten() -> Iterator[None]:
    known = dict(SPACES._homes)
    yield
    SPACES._homes.clear()
    SPACES._homes.update(known)


@pytest.mark.slow
def test_the_page_is_typed(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for precision, bounds in BOUNDS.items():  # rounding decides much in what has learnt nothing
        monkeypatch.setitem(BOUNDS, precision, replace(bounds, unmatched=1.0, ap=1.0))
    shutil.copytree(scenes, "DATA")
    typed = []
    for block in blocks(ROOT / "docs" / "plugins.md"):
        if block.language == "python":
            (name,) = re.findall(r"\A# (\w+\.py)\n", block.text)
            Path(name).write_text(block.text)
        for words in commands(block):
            assert main(shortened(words)) == 0, " ".join(words)
            typed.append(words[0])
    assert typed == ["info", "train", "train", "evaluate", "export", "train", "info"]
