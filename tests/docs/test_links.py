"""What the pages point at is there: other pages and their headings, files, names of the package."""

import re
from pathlib import Path

import pytest

from docs._tools.names import is_name
from docs._tools.pages import ROOT, anchors, links, pages, quoted

# A changelog and a notebook tell of what was there then.
OF_TODAY = [page for page in pages() if page.name not in ("CHANGELOG.md", "LOG.md")]
FILE = re.compile(r"[\w.-]+(/[\w.-]+)*/[\w.-]+\.(py|md|j2|svg|toml)")
DOTTED = re.compile(r"(detnet(?:\.\w+)+)(\(.*\))?", re.DOTALL)


def name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


@pytest.mark.parametrize("page", pages(), ids=name)
def test_links_lead_somewhere(page: Path) -> None:
    wrong = []
    for link in links(page):
        target, _, anchor = link.target.partition("#")
        if "://" in target or target.startswith("mailto:"):
            continue
        place = (page.parent / target) if target else page
        if not place.exists() or (anchor and anchor not in anchors(place)):
            wrong.append(f"{link.page}:{link.line}: {link.target}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize("page", OF_TODAY, ids=name)
def test_files_and_names_in_the_text_exist(page: Path) -> None:
    wrong = []
    for line, text in quoted(page):
        dotted = None if text.endswith(".py") else DOTTED.fullmatch(text)
        missing = FILE.fullmatch(text) and not any(
            (base / text).is_file() for base in (ROOT, ROOT / "detnet", page.parent)
        )
        first = text.partition("/")[0]
        of_ours = any((base / first).is_dir() for base in (ROOT, ROOT / "detnet"))
        if (missing and of_ours) or (dotted and not is_name(dotted[1])):
            wrong.append(f"{name(page)}:{line}: {text}")
    assert not wrong, "\n".join(wrong)


def test_what_is_not_there_is_found(tmp_path: Path) -> None:
    assert is_name("detnet.load") and is_name("detnet.inference.predictor.Predictor.predict")
    assert is_name("detnet.inference") and is_name("detnet.cli.COMMANDS")
    for wrong in ("detnet.lod", "detnet.inference.predictr", "torch.nn", "detnet.load.x"):
        assert not is_name(wrong)
    page = tmp_path / "page.md"
    page.write_text("# One `thing`, twice\n\n## Same\n\n## Same\n")
    assert anchors(page) == {"one-thing-twice", "same", "same-1"}
