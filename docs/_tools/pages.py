"""Reads the project's Markdown: its code blocks, links, anchors and names of files.

A block that cannot be run where tests run has a comment before it that no reader sees:

    <!-- not run: needs ImageNet -->
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt
from markdown_it.token import Token

ROOT = Path(__file__).parents[2]
_NOT_RUN = re.compile(r"<!-- not run: (.+?) -->")


@dataclass(frozen=True)
class Block:
    """A code block of a page.

    Args:
        page: path from the project's root.
        line: of its first line of code, from 1.
        language: "python", "console", …; empty for an indented block.
        text: the code.
        not_run: why it is not run; empty for one that is.
    """

    page: str
    line: int
    language: str
    text: str
    not_run: str


@dataclass(frozen=True)
class Link:
    """A link or picture of a page; `target` as it is written."""

    page: str
    line: int
    target: str


def pages() -> list[Path]:
    """The pages that people read: those of the project's root, and of docs/."""
    found = [*ROOT.glob("*.md"), *(ROOT / "docs").glob("*.md"), *ROOT.glob("benchmarks/*.md")]
    return sorted(found)


def blocks(page: Path) -> Iterator[Block]:
    """Yields a page's code blocks, fenced and indented, in their order."""
    reason = ""
    for token in _tokens(page):
        if token.type == "html_block":
            match = _NOT_RUN.search(token.content)
            reason = match[1] if match else ""
        elif token.type in ("fence", "code_block"):
            first = (token.map or [0])[0] + (2 if token.type == "fence" else 1)
            yield Block(_name(page), first, token.info.strip(), token.content, reason)
            reason = ""
        elif token.type == "inline":
            reason = ""


def links(page: Path) -> Iterator[Link]:
    """Yields a page's links and pictures."""
    for token in _tokens(page):
        for child in token.children or ():
            target = child.attrGet("href") or child.attrGet("src")
            if child.type in ("link_open", "image") and target:
                yield Link(_name(page), (token.map or [0])[0] + 1, str(target))


def anchors(page: Path) -> set[str]:
    """What may stand behind `#` in a link to the page: its headings as GitHub names them."""
    found: set[str] = set()
    tokens = list(_tokens(page))
    for before, token in zip(tokens, tokens[1:], strict=False):
        if before.type == "heading_open":
            words = "".join(child.content for child in token.children or ())
            name = re.sub(r"[^\w\- ]", "", words.lower()).replace(" ", "-")
            number = sum(1 for other in found if re.fullmatch(rf"{re.escape(name)}(-\d+)?", other))
            found.add(f"{name}-{number}" if number else name)
    return found


def quoted(page: Path) -> Iterator[tuple[int, str]]:
    """Yields what stands in backticks within the text, and the line of its paragraph."""
    for token in _tokens(page):
        for child in token.children or ():
            if child.type == "code_inline":
                yield (token.map or [0])[0] + 1, child.content


def _tokens(page: Path) -> list[Token]:
    return MarkdownIt("commonmark").enable("table").parse(page.read_text(encoding="utf-8"))


def _name(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()
