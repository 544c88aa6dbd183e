"""A search on a terminal."""

from detnet.report.search.records import SearchRecord
from detnet.report.search.summary import summarise
from detnet.report.search.text import format_search
from tests.report.search.test_page import detnet_search, full_search
from tests.report.search.test_summary import a_thousand
from tests.search.standalone.test_text import BASELINES, RANKING


def test_the_main_things_are_said() -> None:
    text = format_search(summarise(full_search()))
    lines = text.splitlines()
    assert lines[0] == "run: search by evolution, going on"
    assert "3 of 6 candidates scored; 1 failed; 1 running; 1 waiting" in lines[1]
    assert "Best so far: 111 000" in text and "AP 24.00 with shared weights" in text
    assert "known_<net>: 110 000, 5 choices alike, 288.1 M multiply-adds" in text
    assert "Front: none is cheaper and as good" in text
    assert "c2  shufflenet_3x3 0 (33)    xception_3x3 100 (67)" in text
    assert max(map(len, lines)) <= 120


def test_long_lists_are_cut_and_other_spaces_told() -> None:
    text = format_search(summarise(full_search(candidates=a_thousand())))
    assert len(text.splitlines()) < 70
    text = format_search(summarise(detnet_search()))
    assert "c5 depth" in text and "4 100 (50)" in text


def test_nothing_yet() -> None:
    text = format_search(summarise(SearchRecord("run")))
    assert text.startswith("run: search, not begun") and "Best" not in text


def test_networks_trained_alone_are_told_of() -> None:
    text = format_search(summarise(full_search(validation=RANKING, baselines=BASELINES)))
    lines = text[text.index("Networks trained alone") :].splitlines()
    assert lines[1].startswith("  Kendall's tau between the supernet's score (full scoring)")
    assert any(line.startswith("  the winner less") for line in lines)
    assert "Networks trained alone" not in format_search(summarise(full_search()))
