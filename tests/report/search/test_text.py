"""A search on a terminal, and as a section of RESULTS.md."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from detnet.errors import InputError
from detnet.report.results_page import write_results_page
from detnet.report.search.state import SearchState
from detnet.report.search.text import format_search, search_section, write_results_section
from detnet.search.records import Winner, write_record
from detnet.search.run import SearchRun, is_search
from tests.report.search.test_page import detnet_search, full_search
from tests.report.search.test_summary import a_thousand, made_search, searching
from tests.search.standalone.test_text import BASELINES, VALIDATION


def test_the_main_things_are_said() -> None:
    text = format_search(full_search())
    lines = text.splitlines()
    assert lines[0] == "run: search by evolution, going on"
    assert "3 of 6 candidates scored; 1 failed; 1 running; 1 waiting" in lines[1]
    assert "Best so far: 111 000" in text and "AP 24.00 with shared weights" in text
    assert "known_<net>: 110 000, 5 choices alike, 288.1 M multiply-adds" in text
    assert "Front: none is cheaper and as good" in text
    assert "c2  shufflenet_3x3 0 (33)    xception_3x3 100 (67)" in text
    assert max(map(len, lines)) <= 120


def test_long_lists_are_cut_and_other_spaces_told() -> None:
    text = format_search(full_search(candidates=a_thousand()))
    assert len(text.splitlines()) < 70
    text = format_search(detnet_search())
    assert "c5 depth" in text and "4 100 (50)" in text


def test_nothing_yet() -> None:
    text = format_search(SearchState(searching()))
    assert text.startswith("run: search by evolution, not begun") and "Best" not in text


def test_networks_trained_alone_are_told_of() -> None:
    networks = tuple(replace(one, path="012 210") for one in VALIDATION.networks)
    validation = replace(VALIDATION, networks=networks)  # which are of a space of four genes
    text = format_search(full_search(validation=validation, baselines=BASELINES))
    lines = text[text.index("Networks trained alone") :].splitlines()
    assert lines[1].startswith("  Kendall's tau between the supernet's score (full scoring)")
    assert any(line.startswith("  the winner less") for line in lines)
    assert "Networks trained alone" not in format_search(full_search())


def test_a_section_of_the_results_is_replaced_by_the_next(tmp_path: Path) -> None:
    networks = tuple(replace(one, path="012 210") for one in VALIDATION.networks)
    known = {"command": ["x/__main__.py", "search", "--data", "/home/me/cells"], "commit": "abc"}
    state = full_search(validation=replace(VALIDATION, networks=networks), environment=known)
    page = tmp_path / "RESULTS.md"
    write_results_section(page, state)
    text = page.read_text()
    assert "<!-- search: run -->\n## run: " in text and "`detnet search --data …/cells`" in text
    assert text.count("| `012 210` |") == sum(one.AP is not None for one in networks)
    assert "What each choice adds" not in text, "there are too few candidates"
    rich = made_search(a_thousand(), environment=known)
    write_results_section(page, rich)
    text = page.read_text()
    assert text.count("<!-- search: run -->") == 1 and "012 210" not in text
    assert "What each choice adds, with shared weights: 1000 networks" in text
    assert "| c2 block 1: xception_3x3 for shufflenet_3x3 |" in text


CONFIG = {
    "space": "detnas_small",
    "width": 0.5,
    "method": "evolution",
    "generations": 6,
    "population": 20,
    "detector": "retinanet",
    "data": "/somewhere/bccd",
}
WINNER = Winner(path="21 20", score=0.5432, macs=83_400_000, params=1e6, generation=1, slot=2)


@pytest.fixture
def search(tmp_path: Path) -> Path:
    run = tmp_path / "cells"
    run.mkdir()
    (run / "space.json").write_text("{}")
    (run / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return run


def test_a_search_that_has_only_begun(search: Path) -> None:
    assert is_search(search) and not is_search(search.parent)
    assert search_section(SearchRun.look(search)) == (
        "### cells: detnas_small at width 0.5, evolution, 6 generations of 20, retinanet on bccd"
    )


def test_a_whole_one_in_the_page(search: Path, tmp_path: Path) -> None:
    for name, content in (
        ("winner.json", WINNER),
        ("baselines/baselines.json", BASELINES),
        ("validate/validation.json", VALIDATION),
    ):
        write_record(search / name, content)
    environment = {"command": ["detnet", "search"], "commit": "abc1", "cpu_cores": 2}
    (search / "environment.json").write_text(json.dumps(environment))
    page = tmp_path / "RESULTS.md"
    write_results_page(page, [search], curves=None, compared=[])
    text = page.read_text()
    assert "Winner `21 20`, 83.4 M multiply-adds (body), score with shared weights 54.3." in text
    assert "(full scoring) and AP trained alone: 0.33 (-0.50 to 1.00" in text
    assert "not defined: all 3 candidates have the score 0." in text
    assert "| the winner | 288.1 M | 1.85 M | 30.0 32.0 | 31.0 | 18.3 to 43.7 | `0 1` |" in text
    assert "| cells | `detnet search` | abc1 | torch ?, torchvision ? | 2 cores of ? |" in text
    assert "/somewhere" not in text


def test_damaged_files(search: Path) -> None:
    (search / "winner.json").write_text('{"path": ')
    with pytest.raises(InputError, match="winner.json: not JSON, or cut off"):
        search_section(SearchRun.look(search))
    (search / "winner.json").write_text("[]")
    with pytest.raises(InputError, match="winner.json: holds no record, but a list"):
        search_section(SearchRun.look(search))
