"""What the first worker computed in, all others of its study do."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.errors import InputError
from detnet.search import phases
from detnet.search.config import SearchConfig
from detnet.search.run import SearchRun
from detnet.search.scoring import precision
from detnet.search.scoring.precision import settle_precision
from detnet.search.scoring.scorer import Scorer
from detnet.search.study.study import SearchStudy, open_study
from tests.search.conftest import SPACE, scoring_settings

CPU = torch.device("cpu")


@pytest.fixture
def study(tmp_path: Path) -> Iterator[SearchStudy]:
    with open_study(str(tmp_path / "s.db")) as opened:
        yield opened


@pytest.mark.parametrize(("first", "then"), [("always", "never"), ("never", "always")])
def test_auto_is_what_it_was_for_the_first_worker(
    study: SearchStudy, monkeypatch: pytest.MonkeyPatch, first: str, then: str
) -> None:
    precisions = {"always": "bf16", "never": "fp32"}
    events: list[dict[str, Any]] = []
    config = scoring_settings(precision="auto")
    monkeypatch.setenv("DETNET_BF16", first)
    assert settle_precision(config, study, CPU, events.append).precision == precisions[first]
    assert not events
    monkeypatch.setenv("DETNET_BF16", then)
    assert settle_precision(config, study, CPU, events.append).precision == precisions[first]
    text = f"scored in {precisions[first]} since the first worker, not in {precisions[then]} as"
    assert [event["event"] for event in events] == ["note"] and text in events[0]["text"]


def test_a_device_without_the_first_workers_precision(
    study: SearchStudy, monkeypatch: pytest.MonkeyPatch
) -> None:
    def choose(name: str, device: torch.device) -> torch.dtype | None:
        if name == "bf16":
            raise InputError("precision bf16: this GPU has no instructions for it")
        return None

    settle_precision(scoring_settings(precision="bf16"), study, CPU, lambda event: None)
    monkeypatch.setattr(precision, "choose_precision", choose)
    with pytest.raises(InputError, match=r"s\.db: candidates are scored in bf16 since") as caught:
        settle_precision(scoring_settings(precision="auto"), study, CPU, lambda event: None)
    assert "precision: fp32 in a new run folder" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_search_s_workers_score_in_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Made(Exception):
        pass

    def make_scorer(config: SearchConfig, *_: object) -> Scorer:
        made.append(config.precision)
        raise Made

    made: list[str] = []
    monkeypatch.setattr(phases, "make_scorer", make_scorer)
    run = SearchRun(tmp_path, scoring_settings(precision="auto", space=SPACE.to_json()))
    run.supernet_folder.mkdir()
    (run.supernet_folder / "model.safetensors").write_bytes(b"")
    for wish in ("always", "never"):
        monkeypatch.setenv("DETNET_BF16", wish)
        with pytest.raises(Made):
            phases.search(run, lambda event: None)
    assert made == ["bf16", "bf16"]
