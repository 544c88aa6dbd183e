"""Numbers in words."""

import pytest

from detnet.text import (
    amount,
    count,
    duration,
    first_line,
    hide_passwords,
    interval,
    lay_out,
    markdown_row,
    one_line,
    percent,
    points,
    points_between,
    shorten,
)


def test_names_stand_to_the_left_and_numbers_to_the_right() -> None:
    rows = [["", "AP", "of"], ["disk", "50.0", "a"], ["bar", "7.5", "longer"]]
    assert lay_out(rows, left=(0, 2)).splitlines() == [
        "        AP  of",
        "disk  50.0  a",
        "bar    7.5  longer",
    ]
    assert lay_out([["1", "22"]], indent="  ") == "  1  22"
    assert lay_out([]) == ""


def test_rows_of_unequal_length_are_refused() -> None:
    with pytest.raises(ValueError, match="shorter"):
        lay_out([["a", "b"], ["c"]])


def test_fractions_are_told_in_percent() -> None:
    assert [percent(0.4271), percent(0.42718, 2), percent(None)] == ["42.7", "42.72", "–"]
    assert percent(None, none="-") == "-"
    assert [points(0.0214), points(-0.0214), points(None)] == ["+2.1", "-2.1", "–"]
    assert [points(0.0004), points(-0.0004), points(0.0004, 2)] == ["0.0", "0.0", "+0.04"]
    assert [points(-0.0004, side=True), points(0.0, side=True)] == ["-0.04", "0.00"]
    assert points_between((-0.0264, 0.0038)) == "-2.6 to +0.4"
    assert points_between((-0.0264, -0.0004)) == "-2.6 to -0.04"
    assert points_between((0.00046, 0.02), 2) == "+0.05 to +2.00"
    assert points_between((None, 0.1)) == points_between(None) == "–"
    assert interval((0.1, 0.254)) == "10.0 to 25.4"
    assert interval((0.1, None)) == interval(None) == "–"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (None, "–"),
        (0.04, "0.0 s"),
        (9.94, "9.9 s"),
        (9.96, "10 s"),
        (89.4, "89 s"),
        (90, "2 min"),
        (59.6 * 60, "1 h 00 min"),
        (3 * 3600 + 290, "3 h 05 min"),
        (47 * 3600 + 3599, "2 d 0 h"),
        (52 * 3600, "2 d 4 h"),
    ],
)
def test_times_are_told_in_the_units_that_tell_most(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_numbers_have_their_noun_and_their_thousands() -> None:
    assert [count(n, "file") for n in (0, 1, 1200)] == ["no files", "1 file", "1,200 files"]
    assert count(0, "file", none="0") == "0 files"
    found = [amount(n) for n in (None, 999, 4_213_000, 4.11e9, -3100)]
    assert found == ["–", "999", "4.2 M", "4.1 G", "-3.1 k"]
    assert amount(23.51e6, 2) == "23.51 M"
    assert [amount(n) for n in (999_949, 999_950, 0.99996e9)] == ["999.9 k", "1.0 M", "1.0 G"]


def test_a_long_text_is_cut() -> None:
    assert [shorten("abcde", 5), shorten("abcdef", 5)] == ["abcde", "abcd…"]


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("postgresql://me:p@ss/w@host:5432/name", "postgresql://me:***@host:5432/name"),
        ("--storage=postgresql://h/n?user=me&password=x&a=b", None),
        ("postgresql://me@host/name and sqlite:///a:b/study.db", None),
    ],
)
def test_passwords_of_urls_are_hidden(text: str, told: str | None) -> None:
    assert hide_passwords(text) == (told or text.replace("password=x", "password=***"))


def test_an_error_is_told_on_a_line() -> None:
    error = RuntimeError("\n no kernel\n  for  this\nSearch for `cudaError`\n")
    assert one_line(error) == "no kernel for this Search for `cudaError`"
    assert one_line(error, 12) == "no kernel f…"
    assert first_line(error) == "no kernel"
    assert one_line(KeyError()) == first_line(KeyError()) == "KeyError"


def test_a_bar_or_a_line_break_in_a_name_stays_in_its_cell() -> None:
    assert markdown_row(["a", "cat|dog\nbird", ""]) == r"| a | cat\|dog bird |  |"
