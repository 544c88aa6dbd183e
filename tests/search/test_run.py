"""The run folder of a search: whether it is still the same one."""

from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.search.records import Winner, write_record
from detnet.search.run import SearchRun
from tests.search.small_search import SPACE


def test_a_space_of_a_file_that_is_gone_is_the_folders_own(tmp_path: Path) -> None:
    file, folder = tmp_path / "space.yaml", tmp_path / "run"
    file.write_text(yaml.safe_dump(SPACE))
    began = SearchRun.create(folder, SearchConfig(space=str(file)))
    file.write_text(yaml.safe_dump({**SPACE, "stem_channels": 12}))
    with pytest.raises(InputError, match="began with another space"):
        SearchRun.open(folder)
    file.unlink()
    moved = folder.rename(tmp_path / "elsewhere")
    assert SearchRun.open(moved).space.to_json() == began.space.to_json()


def test_a_search_is_over_by_the_generations_asked_for_now(tmp_path: Path) -> None:
    place = tmp_path / "winner.json"
    winner = Winner(path="0 0 0 0", macs=1, params=1, score=0.1, generation=1, slot=0)
    for noted, asked, over in ((3, 3, True), (3, 5, False), (5, 3, True), (None, 5, True)):
        write_record(place, replace(winner, generations=noted))
        run = SearchRun(tmp_path, SearchConfig(space=SPACE, generations=asked))
        assert (run.winner is not None) == over
