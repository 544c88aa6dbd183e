"""Data, and two runs on it of which the second finds less."""

import json
from pathlib import Path

import pytest

from tests.report.runs import write_data, write_run


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("comparison")
    data = write_data(folder / "data")
    for name in ("a", "b"):
        write_run(folder / name, data, masks=True)
    results = folder / "b" / "evaluation" / "results.json"
    results.write_text(json.dumps(json.loads(results.read_text())[::2]))
    return folder
