"""The sections of a page of results: where they go, and what is kept."""

from pathlib import Path

import pytest

from detnet.errors import InputError
from detnet.report.results import SINGLE_RUNS, put_section


def sections(page: Path) -> list[str]:
    return [line for line in page.read_text().splitlines() if line.startswith(("#", "<!--"))]


def test_campaigns_come_before_single_runs_in_whatever_order_they_are_written(
    tmp_path: Path,
) -> None:
    page = tmp_path / "RESULTS.md"
    for name in ("campaign: a", SINGLE_RUNS, "campaign: b"):
        put_section(page, name, f"## {name}\n\ntext\n")
    assert sections(page) == [
        "# Results",
        *("<!-- campaign: a -->", "## campaign: a", "<!-- end of campaign: a -->"),
        *("<!-- campaign: b -->", "## campaign: b", "<!-- end of campaign: b -->"),
        *("<!-- single runs -->", "## single runs", "<!-- end of single runs -->"),
    ]
    assert page.read_text().endswith("text\n<!-- end of single runs -->\n")


def test_a_section_is_replaced_where_it_is_and_all_else_is_kept(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    page.write_text("# Mine\n\nbefore\n")
    put_section(page, "campaign: a", "old")
    page.write_text(page.read_text() + "\nafter\n")
    put_section(page, "campaign: a", "new\n")
    assert page.read_text() == (
        "# Mine\n\nbefore\n\n<!-- campaign: a -->\nnew\n<!-- end of campaign: a -->\n\nafter\n"
    )


def test_one_without_an_end_is_not_written_over(tmp_path: Path) -> None:
    page = tmp_path / "RESULTS.md"
    text = "# Results\n\n<!-- single runs -->\nmuch\n"
    page.write_text(text)
    with pytest.raises(InputError, match=r"RESULTS.md: '<!-- single runs -->' has no '<!-- end"):
        put_section(page, SINGLE_RUNS, "new")
    assert page.read_text() == text
