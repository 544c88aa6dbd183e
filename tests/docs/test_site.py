"""The site is built without a warning, and its pages lead to each other."""

import subprocess
import sys
from pathlib import Path, PurePosixPath

import pytest

pytest.importorskip("furo", reason="needs the docs extra")
pytest.importorskip("myst_parser", reason="needs the docs extra")

from docs._tools import site  # noqa: E402
from docs._tools.pages import ROOT  # noqa: E402


def test_links_lead_to_pages_of_the_site_or_are_text() -> None:
    pages = {"index.md", "docs/a.md", "CHANGELOG.md", "examples/index.md"}
    text = "[a](docs/a.md#x) [src](detnet/x.py) [ex](examples/) [web](https://x.y) ![p](docs/p.png)"
    assert site.with_links(text, PurePosixPath("index.md"), pages) == (
        "[a](docs/a.md#x) src [ex](examples/index.md) [web](https://x.y) ![p](docs/p.png)"
    )
    text = "[changes](../CHANGELOG.md) [here](#x) [home](../README.md)"
    assert site.with_links(text, PurePosixPath("docs/a.md"), pages) == (
        "[changes](../CHANGELOG.md) [here](#x) [home](../index.md)"
    )


def test_every_page_of_docs_is_on_the_site() -> None:
    taken = {name for names in site.GUIDES.values() for name in names}
    assert {f"docs/{page.stem}" for page in (ROOT / "docs").glob("*.md")} <= taken


@pytest.mark.slow
def test_the_site_is_built_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "docs._tools.site", str(tmp_path)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stdout + done.stderr
    html = tmp_path / "html"
    front = (html / "index.html").read_text(encoding="utf-8")
    for page in ("docs/training.html", "reference/commands/train.html", "_images/demo.png"):
        assert page in front or (html / page).exists()
    assert "--print-config" in (html / "reference/commands/train.html").read_text(encoding="utf-8")
