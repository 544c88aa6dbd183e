"""The Python reference is read off the source."""

from pathlib import Path

import pytest

pytest.importorskip("sphinx", reason="needs the docs extra")

from docs._tools import python  # noqa: E402
from docs._tools.docstrings import escape, to_rst  # noqa: E402

SOURCE = '''
"""A module."""
from dataclasses import dataclass, field
from detnet.errors import InputError

@dataclass(frozen=True)
class Record:
    """A record.

    Args:
        name: its *name*.
    """
    name: str
    more: list[str] = field(default_factory=list)

    @property
    def length(self) -> int:
        """How long."""

    def _private(self): ...

def read(path: "Record", *, strict: bool = False) -> Record:
    """Reads `a_b`.

        read(x)

    Raises:
        InputError: it is not there.
    """
'''


def test_signatures_and_docstrings_are_shown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(python, "_PACKAGE", tmp_path)
    (tmp_path / "part.py").write_text(SOURCE)
    lines = python.module_section(tmp_path / "part.py").splitlines()
    assert lines[0] == "## detnet.part"
    assert ".. py:class:: Record(name: str, more: list[str] = list())" in lines
    assert "   :param name: its \\*name\\*." in lines
    assert "   .. py:property:: length" in lines and "      :type: int" in lines
    home = "detnet.part.Record"
    assert f".. py:function:: read(path: '{home}', *, strict: bool=False) -> {home}" in lines
    assert "   :raises InputError: it is not there." in lines
    assert "   Reads ``a_b``." in lines and "       read(x)" in lines
    assert not any("_private" in line for line in lines)


def test_every_part_has_a_page() -> None:
    pages = dict(python.reference_pages())
    assert set(pages) == {f"{part}.md" for part in python.PARTS} | {"index.md"}
    assert ".. py:function:: load(" in pages["detnet.inference.md"]


def test_markup_is_taken_as_text() -> None:
    assert escape("`a`s, b_ and *c* or |d|") == "``a``\\ s, b\\_ and \\*c\\* or \\|d\\|"
    assert to_rst(["Text.", "", "    x = 1 * 2", "", "- one", "  two"]) == [
        *("Text.", "", "::", "", "    x = 1 * 2", "", "- one", "  two"),
    ]
