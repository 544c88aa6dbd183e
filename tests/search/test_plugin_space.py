"""A space registered by a plugin goes through a search, from the command line to the page."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import yaml

from detnet.backbones.spaces.space import SPACES
from detnet.cli import main
from detnet.detectors.files import load_model
from detnet.plugins import loaded_plugins
from tests.search.small_search import settings, write_classes, write_data

SIZES = {"population": 3, "generations": 2, "parents": 1, "mutations": 1, "crossovers": 0}


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The options that name it; no name is left behind."""
    known = dict(SPACES._homes)
    monkeypatch.setattr("detnet.plugins._loaded", dict.fromkeys(loaded_plugins()))
    monkeypatch.delitem(sys.modules, "tests.plugins.my_space", raising=False)
    yield ["--plugin", f"{Path(__file__).parents[2]}:tests.plugins.my_space"]
    SPACES._homes.clear()
    SPACES._homes.update(known)


@pytest.mark.slow  # half a minute
@pytest.mark.parametrize("scratch", [True, False])
def test_a_space_of_ones_own_is_searched_and_shown(
    plugin: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str], scratch: bool
) -> None:
    torch.set_num_threads(1)
    values = settings(write_data(tmp_path / "data"), write_classes(tmp_path / "classes"))
    config = {**values, **SIZES, "space": "kernels", "width": 1.0, "max_macs": None}
    config["from_scratch"] = scratch
    (tmp_path / "own.yaml").write_text(yaml.safe_dump(config))
    run = tmp_path / "run"
    command = ["search", "--config", str(tmp_path / "own.yaml"), "--output", str(run)]
    assert main([*command, "--no-estimate", *plugin]) == 0
    assert "winner " in capsys.readouterr().out
    assert yaml.safe_load((run / "config.yaml").read_text())["plugins"] == plugin[1:]
    assert main(["search", "show", str(run), *plugin]) == 0
    assert "6 of 6 candidates scored" in capsys.readouterr().out
    network = load_model(run / "winner" / "train" / "model.safetensors").backbone.backbone
    assert list(network.stages) == ["c2", "c3", "c4", "c5"]
    SPACES._homes.pop("kernels")
    assert main(["search", "show", str(run)]) == 2, "a folder that is read brings no plugin along"
    assert "unknown space 'kernels'" in capsys.readouterr().err
