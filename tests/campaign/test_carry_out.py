"""One run: what it leaves, a loss that is not finite, a folder in other hands."""

import json
import os
import shutil
import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from detnet.campaign.carry_out import RunScorer, read_outcome
from detnet.campaign.plan import Campaign, begin_campaign
from detnet.engine.interrupt import Interrupt
from detnet.engine.memory import OutOfMemory
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.evaluation.files import read_scores
from detnet.search.standalone.sharing import claimed
from detnet.search.study.study import Candidate
from detnet.training.detection.config import TrainConfig
from tests.campaign.small_campaign import TRAIN

pytestmark = pytest.mark.slow  # trains
Write = Callable[..., Path]


@pytest.fixture
def make(tmp_path: Path, campaign_data: Path, campaign_file: Write) -> Callable[..., Campaign]:
    def made(**changes: Any) -> Campaign:
        train = {**TRAIN, "iterations": 2, **changes}
        file = campaign_file(pretrain=None, seeds=1, train=train)
        return begin_campaign(file, tmp_path / "c", root=campaign_data)

    return made


class _Stopped(Exception):
    """Stands for the worker's own."""


def stop() -> None:
    raise _Stopped


def score(campaign: Campaign, notes: list[str], *, stopped: bool = False) -> float:
    def hear(event: dict[str, Any]) -> None:
        notes.append(str(event.get("text", "")))

    scorer = RunScorer(campaign, stop=lambda: stopped, on_event=hear)
    (value,) = scorer(Candidate(0, 0, (0,)), stop)
    return value


def test_the_last_model_is_scored_not_the_best(make: Callable[..., Campaign]) -> None:
    campaign = make()
    value = score(campaign, [])
    run = campaign.runs[0]
    found = read_outcome(campaign, run)
    assert found is not None and found.error is None and found.seconds > 0
    assert found.scores["AP"] == value
    last = read_scores(campaign.place(run) / "last")
    assert last.split is not None and last.headline["AP"] == value
    folder = RunFolder(campaign.place(run))
    assert folder.best.exists() and folder.model.exists()
    before = folder.model.stat().st_mtime_ns
    assert score(campaign, []) == value and folder.model.stat().st_mtime_ns == before


def test_a_run_that_was_begun_follows_its_data(
    make: Callable[..., Campaign], tmp_path: Path, campaign_data: Path
) -> None:
    campaign = make()
    value = score(campaign, [])
    place = campaign.place(campaign.runs[0])
    for name in ("result.json", "model.safetensors"):  # as if it was killed before its end
        (place / name).unlink()
    metrics = place / "metrics.jsonl"
    lines = metrics.read_text().splitlines(keepends=True)
    metrics.write_text("".join(line for line in lines if json.loads(line)["event"] != "end"))
    moved = tmp_path / "moved"
    shutil.copytree(campaign_data, moved)
    campaign = begin_campaign(tmp_path / "c.yaml", campaign.folder, root=moved)
    assert score(campaign, []) == value
    assert TrainConfig.read(place / "config.yaml").data == str(moved / "scenes")


def test_a_signal_in_the_last_evaluation_is_heard(make: Callable[..., Campaign]) -> None:
    campaign = make()

    def hear(event: dict[str, Any]) -> None:
        if event["event"] == "end":
            os.kill(os.getpid(), signal.SIGTERM)

    with Interrupt() as interrupt:
        scorer = RunScorer(campaign, stop=lambda: interrupt.set, on_event=hear)
        with pytest.raises(_Stopped):
            scorer(Candidate(0, 0, (0,)), stop)
    run = campaign.runs[0]
    assert RunFolder(campaign.place(run)).model.exists() and not campaign.is_done(run)


def test_a_loss_that_is_not_finite_is_a_result(make: Callable[..., Campaign]) -> None:
    campaign = make(lr=1e30, iterations=4)
    notes: list[str] = []
    score(campaign, notes)
    found = read_outcome(campaign, campaign.runs[0])
    assert found is not None and found.error is not None and not found.scores
    assert any("it is left out" in note for note in notes)


def test_too_little_memory_is_one_runs_failure_and_no_workers_end(
    make: Callable[..., Campaign], monkeypatch: pytest.MonkeyPatch
) -> None:
    def lacking(*args: object) -> bool:
        raise OutOfMemory("training takes more memory than there is")

    monkeypatch.setattr("detnet.campaign.carry_out.carry_out", lacking)
    campaign = make()
    with pytest.raises(RuntimeError, match="more memory than there is") as error:
        score(campaign, [])
    assert not isinstance(error.value, InputError) and not campaign.is_done(campaign.runs[0])


def test_a_run_in_other_hands_is_waited_for(make: Callable[..., Campaign]) -> None:
    campaign = make()
    done: list[float] = []
    with claimed(campaign.place(campaign.runs[0])) as mine:
        assert mine
        thread = threading.Thread(target=lambda: done.append(score(campaign, [])))
        thread.start()
        time.sleep(0.3)
        assert not done
        with pytest.raises(_Stopped):
            score(campaign, [], stopped=True)
    thread.join(60)
    assert done
