"""The demonstration end to end on a handful of scenes; `make demo` is the same with more."""

from pathlib import Path
from typing import Any

import pytest

from detnet.recipes import demo as module
from detnet.recipes.config import make_config


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    from tests.recipes.conftest import TINY

    monkeypatch.setattr(module, "TRAIN_SCENES", 4)
    monkeypatch.setattr(module, "VAL_SCENES", 2)
    monkeypatch.setattr(
        module, "_config", lambda place: make_config(None, {**TINY, "data": str(place)})
    )


def test_second_call_only_writes_the_page_again(quick: None, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    outcome = module.demo(tmp_path / "demo", None, watch=events.append)
    assert outcome.page is not None and outcome.page.stat().st_size > 10_000
    trained = (outcome.run / "best.safetensors").stat().st_mtime_ns
    again = module.demo(tmp_path / "demo", None, watch=events.append)
    assert again.page == outcome.page
    assert (outcome.run / "best.safetensors").stat().st_mtime_ns == trained


def test_own_data(quick: None, scenes: Path, tmp_path: Path) -> None:
    outcome = module.demo(tmp_path / "demo", scenes, watch=lambda event: None)
    assert outcome.run.name == f"run-{scenes.name}"
    assert not (tmp_path / "demo" / "scenes").exists()
    assert outcome.page is not None and "data:image" in outcome.page.read_text()
