"""The run folder of a search: whether it is still the same one."""

from pathlib import Path

import pytest
import yaml

from detnet.errors import InputError
from detnet.search.config import SearchConfig
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
