"""`detnet search show` as a person runs it."""

import json
import os
import shutil
from pathlib import Path

import pytest
import yaml

from detnet.cli import main
from tests.report.search.test_state import TINY, score_all, write_search


@pytest.fixture(scope="module")
def searched(tmp_path_factory: pytest.TempPathFactory) -> Path:
    run = write_search(tmp_path_factory.mktemp("show") / "run", TINY)
    score_all(run)
    return run


def test_the_page_and_the_main_things(searched: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["search", "show", str(searched)]) == 0
    said = capsys.readouterr().out
    assert "run: search by evolution, ended" in said and "Winner: " in said
    assert said.endswith(f"look at {searched / 'search.html'}\n")
    assert "<table" in (searched / "search.html").read_text(encoding="utf-8")


def test_json_is_one_object(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    page = tmp_path / "own.html"
    assert main(["search", "show", str(searched), "--json", "--output", str(page)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["page"] == str(page) and page.is_file()
    assert len(found["candidates"]) == 8 and found["best"]["path"]


def test_a_folder_that_may_not_be_written_to_is_shown_elsewhere(
    searched: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    before = sorted(searched.iterdir())
    monkeypatch.setattr(os, "access", lambda path, mode, **_: mode != os.W_OK)
    assert main(["search", "show", str(searched)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith(f"{searched}: may not be written to; give --output FILE for the page")
    assert main(["search", "show", str(searched), "--output", str(tmp_path / "own.html")]) == 0
    assert "Winner: " in capsys.readouterr().out and sorted(searched.iterdir()) == before


def test_a_plugins_space_names_the_plugin(
    searched: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    run = Path(shutil.copytree(searched, tmp_path / "run"))
    values = yaml.safe_load((run / "config.yaml").read_text())
    (run / "config.yaml").write_text(
        yaml.safe_dump({**values, "space": "kernels", "plugins": ["/mine:spaces"]})
    )
    assert main(["search", "show", str(run)]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert (
        f"{run / 'config.yaml'}: unknown space 'kernels'; a plugin's is known with --plugin MODULE"
        in line
    )
    assert line.endswith("; it names --plugin /mine:spaces")


def test_a_folder_without_a_search_is_refused(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["search", "show", str(tmp_path / "gone")]) == 2
    assert "gone" in capsys.readouterr().err
