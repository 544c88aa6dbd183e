"""The settings of a search."""

import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.training.settings import dump_config, option_help, presets, write_config
from tests.search.small_search import SPACE


def test_every_setting_is_explained() -> None:
    assert set(option_help(SearchConfig)) == {entry.name for entry in fields(SearchConfig)}


def test_the_issues_searches_are_there() -> None:
    asked = {"detnas_fpn_300m", "detnas_retinanet_300m", "clsnas_300m", "small", "detnet_space"}
    asked |= {f"detnas_voc_{name}_300m" for name in ("fpn", "retinanet")}
    asked |= {f"detnas_{name}_300m_scratch" for name in ("fpn", "retinanet")}
    asked |= {f"detnas_voc_{name}_300m_scratch" for name in ("fpn", "retinanet")}
    asked |= {f"clsnas_{name}_300m" for name in ("retinanet", "voc_fpn", "voc_retinanet")}
    assert asked | {"detnas_fpn_1_3g"} == set(presets("search"))


@pytest.mark.parametrize("name", presets("search"))
def test_a_preset_says_what_it_is_and_reads(name: str) -> None:
    assert presets("search")[name].read_text().startswith("# ")
    config = SearchConfig.make(name, {"data": "somewhere"})
    assert config.mutations + config.crossovers < config.population
    assert config.retrain


def test_groups_are_merged_one_setting_at_a_time() -> None:
    changes = {
        "finetune": {"epochs": 3, "detector_options": {"roi_batch": 7}},
        "retrain": {"lr": 0.5},
        "population": 60,
    }
    config = SearchConfig.make("detnas_fpn_300m", changes)
    assert "iterations" not in config.finetune and config.finetune["epochs"] == 3
    assert config.finetune["detector_options"]["roi_batch"] == 7
    assert config.finetune["detector_options"]["box_head"] == "4conv1fc"
    assert config.retrain["iterations"] == 90_000 and config.retrain["lr"] == 0.5
    assert config.population == 60
    assert SearchConfig.make("detnas_fpn_300m", {}).finetune["iterations"] == 90_000


def test_another_detector_keeps_the_options_it_has() -> None:
    config = SearchConfig.make("detnas_fpn_300m", {"detector": "retinanet"})
    assert "box_head" not in config.finetune["detector_options"]
    assert config.finetune["lr"] == 0.02


def test_written_settings_are_read_back_with_absolute_places(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    config = SearchConfig.make("small", {"data": "here", "space": SPACE, "max_macs": None})
    path = tmp_path / "config.yaml"
    write_config(config, path)
    read = SearchConfig.read(path)
    assert read.data == str(tmp_path / "here") and read.space == SPACE
    assert read.max_macs is None and read.pretrain_data == ""
    assert SearchConfig.make(str(path), {}) == read
    assert dump_config(read) == path.read_text()


@pytest.mark.parametrize(
    ("given", "written"),
    [
        ("my.db", "{here}/my.db"),
        ("sqlite:///my.db", "sqlite:///{here}/my.db"),
        ("sqlite+pysqlite:///sub/my.db", "sqlite+pysqlite:///{here}/sub/my.db"),
        ("/disk/my.db", "/disk/my.db"),
        ("sqlite:////disk/my.db", "sqlite:////disk/my.db"),
        ("sqlite:///:memory:", "sqlite:///:memory:"),
        ("postgresql://me:pw@host:5432/name", "postgresql://me:pw@host:5432/name"),
        ("postgresql:///name", "postgresql:///name"),
        (None, None),
    ],
)
def test_a_database_in_a_file_is_found_from_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, given: str | None, written: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    write_config(SearchConfig(storage=given), tmp_path / "config.yaml")
    monkeypatch.chdir("/")
    read = SearchConfig.read(tmp_path / "config.yaml").storage
    assert read == (written and written.format(here=tmp_path))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"populaton": 3}, "unknown setting 'populaton'; did you mean 'population'"),
        ({"guide": "taste"}, "setting guide"),
        ({"population": "many"}, "setting population"),
        ({"heartbeat_s": 1e300}, "heartbeat_s must be positive and 86400 at most, got 1e.300"),
        ({"max_macs": -1}, "max_macs must be positive, got -1"),
        ({"max_macs": float("inf")}, "max_macs must be positive, got inf"),
        ({"width": 0.0}, "width must be positive"),
        ({"validate": {"train": 5}}, "validate: train must be a group of settings, got 5"),
        ({"validate": {"pretrain": ["x"]}}, "validate: pretrain must be a group"),
        ({"objectives": ["beauty"]}, "objectives are of macs, params, latency_ms, got beauty"),
        ({"cost_image_size": [224]}, "a height and a width"),
        ({"validate": {"epochs": 3}}, "validate has pretrain and train in it, got 'epochs'"),
        ({"search_images": 0}, "search_images must be positive"),
        ({"seed": -1}, "seed must not be negative"),
    ],
)
def test_mistakes_are_named(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        SearchConfig.make(None, changes)


def test_groups_of_the_wrong_kind_are_named_under_another_detector(tmp_path: Path) -> None:
    path = tmp_path / "mine.yaml"
    for group in ("5", "[1]"):
        path.write_text(f"finetune: {group}\n")
        with pytest.raises(InputError, match="setting finetune must be an object"):
            SearchConfig.make(str(path), {"detector": "fcos"})
    path.write_text("finetune: {detector_options: 5}\n")
    assert SearchConfig.make(str(path), {"detector": "fcos"}).finetune == {"detector_options": 5}


def test_unknown_presets_and_other_runs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="did you mean 'detnas_fpn_300m'"):
        SearchConfig.make("detnas_fpn_300", {})
    path = tmp_path / "config.yaml"
    path.write_text("backbone: detnet59\n")
    with pytest.raises(InputError, match="another kind of run"):
        SearchConfig.read(path)


def test_settings_are_made_without_torch() -> None:
    code = "import sys; from detnet.search.config import SearchConfig; "
    code += "SearchConfig.make('small', {}); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
