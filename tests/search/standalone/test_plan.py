"""What is left of a plan: how long its trainings will take, told before they begin."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detnet.engine.runs import RunFolder
from detnet.search.config import SearchConfig
from detnet.search.run import SearchRun
from detnet.search.standalone.plan import expectation
from detnet.search.standalone.training import StandaloneTraining
from tests.search.standalone.test_training import SPACE, training_of

STEP = {"event": "step", "images_per_s": 4.0, "data_s": 0.5, "step_s": 1.5}


@pytest.fixture
def networks(tmp_path: Path) -> list[StandaloneTraining]:
    """Three, of 600 images of pre-training and two epochs of fine-tuning each."""
    settings = {
        "retrain_pretrain": {"batch_size": 6, "iterations": 100},
        "retrain": {"epochs": 2},
    }
    return [
        replace(training_of(settings, tmp_path / name), run=SearchRun(tmp_path / "run", config))
        for name in "abc"
        for config in [SearchConfig.make(None, {"space": SPACE, **settings})]
    ]


def write_events(folder: Path, *events: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def finish(folder: Path, seconds: float) -> None:
    write_events(folder, {"event": "end", "seconds": seconds})
    RunFolder(folder).model.touch()


def test_nothing_to_go_by(networks: list[StandaloneTraining]) -> None:
    said = expectation(networks)
    assert said == "3 trainings of networks alone; how long they take is known after the first"


def test_at_the_pace_of_the_supernet(networks: list[StandaloneTraining], tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_events(run / "pretrain", {**STEP, "iteration": 10, "epoch": 1.0})
    # 8 images a step, 20 steps an epoch: 160 images; 2 epochs at 4 a second are 80 s.
    write_events(run / "finetune", {**STEP, "iteration": 10, "epoch": 0.5})
    said = expectation(networks)
    assert said.endswith("about 12 min left for one process, evaluation not counted")  # 3 × 230 s


def test_by_those_that_are_done(networks: list[StandaloneTraining]) -> None:
    finish(networks[0].pretrain_folder, 3600)
    finish(networks[0].train_folder, 1800)
    finish(networks[1].pretrain_folder, 1800)
    networks[0].result.touch()
    # One pre-training of 2,700 s and two fine-tunings of 1,800 s.
    said = expectation(networks)
    assert said.startswith("3 trainings of networks alone, 1 of them done; about 1 h 45 min left")
    for network in networks:
        network.folder.mkdir(exist_ok=True)
        network.result.touch()
    assert expectation(networks) == "3 trainings of networks alone, 3 of them done"


def test_one_that_diverged_is_not_waited_for(
    networks: list[StandaloneTraining], tmp_path: Path
) -> None:
    for place in (networks[0].pretrain_folder, networks[0].train_folder):
        finish(place, 3600)
    for network in networks[:2]:  # the second has not come to the end of its pre-training
        network.folder.mkdir(exist_ok=True)
        network.result.touch()
    assert "2 of them done; about 2 h 00 min left" in expectation(networks)
