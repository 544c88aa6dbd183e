"""Turns our docstrings, plain text with names in backticks, into what Sphinx reads."""

import re
from collections.abc import Sequence

_SECTION = re.compile(r"^(Args|Returns|Raises|Yields|Attributes|Example|Examples|Note):\s*$")
_LIST = re.compile(r"^\s*(-|\d+\.) ")


def to_rst(lines: Sequence[str]) -> list[str]:
    """Escapes what would be markup, and marks indented blocks of code as such.

    Args:
        lines: of a docstring, without its indentation.

    Returns:
        Lines in reStructuredText, sections as they were, for napoleon to read.
    """
    found: list[str] = []
    section = code = False
    for line in lines:
        indented = line.startswith("  ")
        if line and not indented:
            section, code = bool(_SECTION.match(line)), False
        if indented and not section and not code and (not found or not found[-1]):
            code = not _LIST.match(line)
            if code:
                found += ["::", ""]
        found.append(line if code else escape(line))
    return found


def escape(line: str) -> str:
    """Escapes a line for reStructuredText; what is in single backticks becomes code."""
    text = ""
    for place, piece in enumerate(re.split(r"(`+[^`]+`+)", line)):
        if place % 2:
            text += f"``{piece.strip('`')}``"
            continue
        piece = re.sub(r"([\\*|])", r"\\\1", piece)
        piece = re.sub(r"(?<=\w)_(?!\w)", r"\_", piece)
        # Code must end where its backticks do: in `c2`s there is code and then a letter.
        text += "\\ " + piece if place and re.match(r"\w", piece) else piece
    return text
