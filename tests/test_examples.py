"""Every example runs, and says something; those for extras where these are installed."""

import ast
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from detnet.backbones.detnet import detnet59
from detnet.backbones.spaces.space import read_space
from detnet.campaign.config import read_campaign, read_questions, read_variants, score_kinds
from detnet.search.config import SearchConfig
from detnet.search.trainings import (
    finetune_config,
    pretrain_config,
    retrain_config,
    retrain_pretrain_config,
)

HERE = Path(__file__).parents[1] / "examples"
EXAMPLES = sorted(HERE.glob("*.py"))


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


@pytest.mark.parametrize("file", sorted((HERE / "campaigns").glob("*.yaml")), ids=lambda f: f.name)
def test_example_campaign_can_be_read(file: Path, tmp_path: Path) -> None:
    config = read_campaign(file, root=tmp_path)
    trainings = read_variants(config, where=str(file))
    assert len(trainings) == len(config.variants) * len(config.data)
    kinds = score_kinds((one.data, one.train) for one in trainings)
    assert read_questions(config, kinds, where=str(file))


@pytest.mark.parametrize("file", sorted((HERE / "search").glob("*.yaml")), ids=lambda f: f.name)
def test_example_search_can_be_read(file: Path, scenes: Path, tmp_path: Path) -> None:
    config = SearchConfig.make(str(file), {"data": str(scenes), "pretrain_data": "classes"})
    path = [0] * len(read_space(config.space).genes)
    assert pretrain_config(config, tmp_path).iterations
    assert finetune_config(config, tmp_path).iterations
    assert retrain_pretrain_config(config, tmp_path, path).iterations
    assert retrain_config(config, tmp_path, path, None).iterations


def test_example_search_asks_what_makes_detnet59() -> None:
    config = SearchConfig.make(str(HERE / "search/detnet_pairs.yaml"), {})
    space = read_space(config.space)
    assert [len(gene.choices) for gene in space.genes] == [2] * 12
    first = space.network((0,) * 12, width=config.width)
    assert first.state_dict().keys() == detnet59(width=config.width).state_dict().keys()
