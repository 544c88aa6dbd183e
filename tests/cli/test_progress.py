"""Progress never changes the items and keeps off standard output."""

import pytest

from detnet.cli import progress
from detnet.cli.progress import plain_line, telling, track


def test_items_pass_through(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    assert list(track(range(3), what="images", total=3)) == [0, 1, 2]
    out, err = capsys.readouterr()
    assert out == ""
    assert [line.split(",")[0] for line in err.splitlines()] == [
        "1 of 3 images",
        "2 of 3 images",
        "3 of 3 images",
    ]


def test_short_work_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track("ab", what="images")) == ["a", "b"]
    assert capsys.readouterr() == ("", "")


def test_a_terminal_gets_a_bar(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert list(track(range(4), what="pictures", total=4)) == [0, 1, 2, 3]
    out, err = capsys.readouterr()
    assert out == "" and "pictures" in err and "4/4" in err


def test_work_that_calls_back(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with telling("images read") as tell:
        tell(1, 3)
    assert capsys.readouterr() == ("", "")
    monkeypatch.setattr(progress, "PLAIN_EVERY_S", 0.0)
    with telling("images read") as tell:
        tell(2, 3)
    out, err = capsys.readouterr()
    assert out == "" and err.startswith("2 of 3 images read, ")
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("FORCE_COLOR", "1")
    with telling("images read") as tell:
        tell(3, 3)
    out, err = capsys.readouterr()
    assert out == "" and "images read" in err and "3/3" in err


def test_lines_tell_the_time_left() -> None:
    assert plain_line(40, 200, 6.0, "images") == "40 of 200 images, 24 s left"
    assert plain_line(40, None, 6.0, "frames") == "40 frames, 6 s"
