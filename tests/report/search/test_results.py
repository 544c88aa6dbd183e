"""A search's section of RESULTS.md, at any stage of the search."""

import json
from pathlib import Path

import pytest
import yaml

from detnet.errors import InputError
from detnet.report.search.results import is_search, read_search_result, search_section
from detnet.report.write_results import write_results_page
from tests.search.standalone.test_text import BASELINES, RANKING

CONFIG = {
    "space": "detnas_small",
    "width": 0.5,
    "method": "evolution",
    "generations": 6,
    "population": 20,
    "detector": "retinanet",
    "data": "/somewhere/bccd",
}
WINNER = {"path": "21 20", "score": 0.5432, "macs": 83_400_000}


@pytest.fixture
def search(tmp_path: Path) -> Path:
    run = tmp_path / "cells"
    run.mkdir()
    (run / "space.json").write_text("{}")
    (run / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    return run


def test_a_search_that_has_only_begun(search: Path) -> None:
    assert is_search(search)
    assert search_section(read_search_result(search)) == (
        "## cells: detnas_small at width 0.5, evolution, 6 generations of 20, retinanet on bccd"
    )


def test_a_whole_one_in_the_page(search: Path, tmp_path: Path) -> None:
    for name, content in (
        ("winner.json", WINNER),
        ("baselines/baselines.json", BASELINES),
        ("validate/validation.json", RANKING),
        ("environment.json", {"command": ["detnet", "search"], "commit": "abc1", "cpu_cores": 2}),
    ):
        (search / name).parent.mkdir(exist_ok=True)
        (search / name).write_text(json.dumps(content))
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
    with pytest.raises(InputError, match="winner.json: was cut or damaged"):
        read_search_result(search)
    (search / "winner.json").write_text("[]")
    with pytest.raises(InputError, match="winner.json: holds no record, but a list"):
        read_search_result(search)


def test_other_runs_are_none(tmp_path: Path) -> None:
    assert not is_search(tmp_path)
