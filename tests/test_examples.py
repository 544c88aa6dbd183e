"""Every example runs, and says something; those for extras where these are installed."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

EXAMPLES = sorted((Path(__file__).parents[1] / "examples").glob("*.py"))


NOT_IMPORTED = {"06_backbone_in_detr.py": ["scipy"]}  # transformers needs it for DETR's losses


def packages(example: Path) -> list[str]:
    """What an example needs to be installed."""
    found = list(NOT_IMPORTED.get(example.name, []))
    for node in ast.walk(ast.parse(example.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found += [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            found.append(node.module or "")
    return [name.partition(".")[0] for name in found]


# One Python for all: torch, timm and transformers take longer to import than the examples to run.
DRIVER = """
import contextlib, io, json, runpy, sys, tempfile, traceback
from pathlib import Path

found = {}
for example in sys.argv[2:]:
    said, error = io.StringIO(), ""
    with contextlib.redirect_stdout(said):
        try:
            runpy.run_path(example, run_name="__main__")
        except BaseException:
            error = traceback.format_exc()
    found[Path(example).name] = [said.getvalue(), error]
Path(sys.argv[1]).write_text(json.dumps(found))
"""


def absent(example: Path) -> list[str]:
    return [name for name in packages(example) if importlib.util.find_spec(name) is None]


@pytest.fixture(scope="module")
def outcomes(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """What each example printed, and its traceback."""
    folder = tmp_path_factory.mktemp("examples")
    known = {"OMP_NUM_THREADS": "1", "TMPDIR": str(folder), "HF_HUB_OFFLINE": "1"}
    runnable = [str(example) for example in EXAMPLES if not absent(example)]
    done = subprocess.run(
        [sys.executable, "-c", DRIVER, str(folder / "found.json"), *runnable],
        capture_output=True,
        text=True,
        env={**os.environ, **known},
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, list[str]] = json.loads((folder / "found.json").read_text())
    return found


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.name)
def test_example_runs(example: Path, outcomes: dict[str, list[str]]) -> None:
    if lacking := absent(example):
        pytest.skip(f"{', '.join(lacking)} not installed: pip install 'detnet[dev]'")
    said, error = outcomes[example.name]
    assert not error
    assert said.strip()
