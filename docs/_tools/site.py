"""Builds the documentation: `python -m docs._tools.site build/docs`, or `make docs`.

The pages are gathered in a folder of their own, with those of the project's root and those that
are made from the code, so that links between them hold on the site as they do in the files.
"""

import argparse
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path, PurePosixPath

from docs._tools import commands, python
from docs._tools.pages import ROOT

GUIDES = {
    "Use": (
        "docs/training",
        "docs/pretraining",
        "docs/weights",
        "docs/detectors",
        "docs/voc",
        "docs/reproduce",
        "docs/plugins",
    ),
    "Measure": (
        "docs/measures",
        "docs/diagnosis",
        "docs/comparison",
        "docs/report",
        "docs/inspect",
    ),
    "Use elsewhere": ("docs/export", "docs/serve", "docs/speed"),
    "Search": ("docs/search", "docs/detnet53_s8"),
    "Campaigns": ("docs/campaigns", "docs/findings"),
    "Reference": ("reference/commands/index", "reference/python/index", "examples/index"),
    "The project": (
        "docs/architecture",
        "CONTRIBUTING",
        "docs/papers",
        "RESULTS",
        "docs/reliability",
        "benchmarks/README",
        "CHANGELOG",
    ),
}
_LINK = re.compile(r"(?<!!)\[(?P<text>[^\]]+)\]\((?P<target>[^)\s]+)\)")


def gather(source: Path) -> None:
    """Writes everything that the site is made of into an empty folder.

    Args:
        source: is emptied first.
    """
    shutil.rmtree(source, ignore_errors=True)
    taken = [page for pages in GUIDES.values() for page in pages if (ROOT / f"{page}.md").is_file()]
    texts = {f"{page}.md": (ROOT / f"{page}.md").read_text(encoding="utf-8") for page in taken}
    texts["index.md"] = (ROOT / "README.md").read_text(encoding="utf-8") + "\n" + contents()
    texts |= dict(made_pages())
    for name, text in texts.items():
        path = source / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(with_links(text, PurePosixPath(name), set(texts)), encoding="utf-8")
    for picture in [*(ROOT / "docs").rglob("*.svg"), *(ROOT / "docs").rglob("*.png")]:
        place = source / picture.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(picture, place)


def contents() -> str:
    """The site's table of contents; pages that are not there are left out."""
    made = {"reference/commands/index", "reference/python/index", "examples/index"}
    lines = []
    for caption, names in GUIDES.items():
        there = [name for name in names if name in made or (ROOT / f"{name}.md").is_file()]
        lines += ["```{toctree}", ":hidden:", f":caption: {caption}", "", *there, "```", ""]
    return "\n".join(lines)


def made_pages() -> Iterator[tuple[str, str]]:
    """Yields name and text of the pages that are made from the code."""
    found = list(commands.commands())
    yield "reference/commands/index.md", commands.index_page(found)
    for command in found:
        yield f"reference/commands/{command.page}.md", commands.command_page(command)
    for name, text in python.reference_pages():
        yield f"reference/python/{name}", text
    yield "examples/index.md", examples_page()


def examples_page() -> str:
    """Gives the page of the scripts in examples/, whole."""
    lines = ["# Examples", "", "Scripts in `examples/` that the tests run.", ""]
    for path in sorted((ROOT / "examples").glob("*.py")):
        text = path.read_text(encoding="utf-8").strip()
        title = path.stem.partition("_")[2].replace("_", " ")
        lines += [f"## {title[:1].upper()}{title[1:]}", "", f"`{path.relative_to(ROOT)}`", ""]
        lines += ["```python", text, "```", ""]
    return "\n".join(lines)


def with_links(text: str, page: PurePosixPath, pages: set[str]) -> str:
    """Points links at pages of the site, and takes the others off: there the text says enough.

    Args:
        text: of the page, Markdown.
        page: its place on the site.
        pages: all places on the site.
    """

    def pointed(match: re.Match[str]) -> str:
        target, _, anchor = match["target"].partition("#")
        if not target or "://" in target:
            return match[0]
        place = _normal(page.parent / target)
        place = {"README.md": "index.md", "examples": "examples/index.md"}.get(place, place)
        if place == "benchmarks":
            place = "benchmarks/README.md"
        if place not in pages:
            return match["text"]
        up = "../" * len(page.parent.parts)
        return f"[{match['text']}]({up}{place}{'#' if anchor else ''}{anchor})"

    return _LINK.sub(pointed, text)


def _normal(path: PurePosixPath) -> str:
    parts: list[str] = []
    for part in path.parts:
        if part == ".." and parts:
            parts.pop()
        elif part != ".":
            parts.append(part)
    return "/".join(parts)


def main() -> int:
    """Builds the site below the folder that is named; a warning is an error."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("output", type=Path)
    output: Path = parser.parse_args().output
    gather(output / "source")
    from sphinx.cmd.build import main as build

    places = [str(output / "source"), str(output / "html")]
    code = build(["-W", "--keep-going", "-q", "-c", str(ROOT / "docs"), "-j", "auto", *places])
    if code == 0:
        print(output / "html" / "index.html")
    return code


if __name__ == "__main__":
    sys.exit(main())
