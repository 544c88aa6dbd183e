"""A network of a space trained alone: both trainings, what it reaches, kills, failures."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detnet.data.scenes import write_scenes
from detnet.engine.runs import RunFolder
from detnet.search.standalone.sharing import Busy, claimed
from detnet.search.standalone.training import Alone, expectation, is_complete, train_alone
from detnet.training.classification.config import make_config as make_pretrain_config
from detnet.training.detection.config import make_config

SPACE = {
    "kind": "shuffle",
    "stem_channels": 8,
    "rows": [{"name": f"c{n}", "blocks": 1, "channels": 16 * n} for n in (2, 3, 4, 5)],
}
SMALL: dict[str, Any] = {
    "backbone": "searched",
    "backbone_options": {"space": SPACE, "path": "0 1 2 3"},
    "workers": 0,
    "checkpoint_every": 2,
    "log_every": 1,
    "precision": "fp32",
    "device": "cpu",
    "lr": 0.01,
    "lr_batch": 0,
}
DETECTION: dict[str, Any] = {
    "detector": "faster_rcnn_fpn",
    "width": 0.125,
    "norm": "sync",
    "min_sizes": [96],
    "max_size": 128,
    "batch_size": 2,
    "iterations": 4,
    "evaluate_every": 50,
    "detector_options": {"post_nms_train": 20, "post_nms_test": 10, "roi_batch": 16},
}


class Kill(Exception):
    """Stands for kill -9."""


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    write_scenes(folder / "scenes", train=6, val=2, size=(128, 96))
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("dark", "light"):
            place = folder / "classes" / split / name
            place.mkdir(parents=True)
            for index in range(3):
                pixels = rng.integers(0, 120, (40, 48, 3)) + 120 * (name == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")
    return folder


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Callable[..., Alone]:
    def make(name: str = "a", *, pretrained: bool = True, shared: bool = False) -> Alone:
        folder = tmp_path / name / "seed0"
        weights = (folder.parent if shared else folder) / "pretrain"
        pretrain = make_pretrain_config(
            None,
            {"data": str(data / "classes"), "image_size": 32, "batch_size": 3, "iterations": 3}
            | {"width": 0.125}
            | SMALL,
        )
        train = make_config(
            None,
            {"data": str(data / "scenes"), "weights": str(weights) if pretrained else None}
            | SMALL
            | DETECTION,
        )
        about = {"path": "0 1 2 3", "seed": 0}
        return Alone(
            name,
            folder,
            weights,
            folder / "result.json",
            about,
            lambda: (pretrain if pretrained else None, train),
        )

    return make


def quiet(event: dict[str, Any]) -> None:
    pass


def never() -> bool:
    return False


def test_a_network_is_trained_and_measured(make: Callable[..., Alone]) -> None:
    network, events = make(), list[str]()
    assert train_alone(network, stop=never, watch=lambda event: events.append(event["event"]))
    assert events.count("start") == 2
    found = json.loads(network.result.read_text())
    assert found["path"] == "0 1 2 3"
    assert 0 <= found["AP"] <= found["AP50"] <= 1
    assert found["seconds"] == pytest.approx(sum(found["seconds_of"].values()))
    assert min(found["seconds_of"].values()) > 0
    assert (network.result.parent / "evaluation" / "results.json").exists()
    assert is_complete(network.pretrain_folder) and is_complete(network.train_folder)

    again = list[str]()  # nothing is trained twice
    network.result.unlink()
    assert train_alone(network, stop=never, watch=lambda event: again.append(event["event"]))
    assert "start" not in again
    repeated = json.loads(network.result.read_text())
    assert repeated["AP"] == found["AP"]
    assert repeated["seconds_of"]["train"] == found["seconds_of"]["train"]


def test_a_killed_network_ends_as_one_that_was_not(make: Callable[..., Alone]) -> None:
    whole, killed = make("whole"), make("killed")
    train_alone(whole, stop=never, watch=quiet)

    def killing(start: int, iteration: int) -> Callable[[dict[str, Any]], None]:
        starts = 0

        def watch(event: dict[str, Any]) -> None:
            nonlocal starts
            starts += event["event"] == "start"
            if event["event"] == "progress" and (starts, event["iteration"]) == (start, iteration):
                raise Kill

        return watch

    # In pre-training; in fine-tuning before its first checkpoint; after it.
    for kill in ((1, 3), (2, 1), (1, 3)):
        with pytest.raises(Kill):
            train_alone(killed, stop=never, watch=killing(*kill))
    assert train_alone(killed, stop=never, watch=quiet)
    for folder in ("pretrain_folder", "train_folder"):
        first, second = (RunFolder(getattr(one, folder)).model for one in (whole, killed))
        assert first.read_bytes() == second.read_bytes()


def test_from_scratch_there_is_no_pretraining(make: Callable[..., Alone]) -> None:
    network = make(pretrained=False)
    assert train_alone(network, stop=never, watch=quiet)
    assert not network.pretrain_folder.exists()
    assert json.loads(network.result.read_text())["seconds_of"]["pretrain"] == 0


def test_a_loss_that_is_not_finite_is_recorded(make: Callable[..., Alone]) -> None:
    network = make(pretrained=False)
    train = replace(network.settings()[1], lr=1e30)
    network = replace(network, settings=lambda: (None, train))
    notes = list[str]()
    assert train_alone(network, stop=never, watch=lambda event: notes.append(str(event)))
    found = json.loads(network.result.read_text())
    assert found["AP"] is None and "loss_classifier is nan" in found["error"]
    assert "left out" in notes[-1]


def test_what_others_are_at_is_left_to_them(make: Callable[..., Alone]) -> None:
    shared, own = make("shared", shared=True), make("own")
    for network, folder in ((shared, shared.folder.parent), (own, own.pretrain_folder)):
        with claimed(folder) as mine, pytest.raises(Busy):
            assert mine
            train_alone(network, stop=never, watch=quiet)
        assert not network.train_folder.exists()


def test_a_signal_ends_the_measuring(make: Callable[..., Alone]) -> None:
    network = make(pretrained=False)
    assert not train_alone(network, stop=lambda: True, watch=quiet)
    assert is_complete(network.train_folder) and not network.result.exists()


STEP = {"event": "step", "images_per_s": 4.0, "data_s": 0.5, "step_s": 1.5}


@pytest.fixture
def networks(tmp_path: Path) -> list[Alone]:
    """Three, of 600 images of pre-training and two epochs of fine-tuning each."""
    before = make_pretrain_config(None, {"batch_size": 6, "iterations": 100})
    train = make_config(None, {"epochs": 2})

    def network(name: str) -> Alone:
        folder = tmp_path / name
        result = folder / "result.json"
        return Alone(name, folder, folder / "pretrain", result, {}, lambda: (before, train))

    return [network(name) for name in "abc"]


def write_events(folder: Path, *events: dict[str, Any]) -> None:
    folder.mkdir(parents=True)
    (folder / "metrics.jsonl").write_text("".join(json.dumps(event) + "\n" for event in events))


def finish(folder: Path, seconds: float) -> None:
    write_events(folder, {"event": "end", "seconds": seconds})
    RunFolder(folder).model.touch()


def test_nothing_to_go_by(networks: list[Alone], tmp_path: Path) -> None:
    said = expectation(networks, tmp_path / "run")
    assert said == "3 trainings of networks alone; how long they take is known after the first"


def test_at_the_pace_of_the_supernet(networks: list[Alone], tmp_path: Path) -> None:
    run = tmp_path / "run"
    write_events(run / "pretrain", {**STEP, "iteration": 10, "epoch": 1.0})
    # 8 images a step, 20 steps an epoch: 160 images; 2 epochs at 4 a second are 80 s.
    write_events(run / "finetune", {**STEP, "iteration": 10, "epoch": 0.5})
    said = expectation(networks, run)
    assert said.endswith("about 12 min left for one process, evaluation not counted")  # 3 × 230 s


def test_by_those_that_are_done(networks: list[Alone], tmp_path: Path) -> None:
    run = tmp_path / "run"
    finish(networks[0].pretrain_folder, 3600)
    finish(networks[0].train_folder, 1800)
    finish(networks[1].pretrain_folder, 1800)
    networks[0].result.touch()
    # One pre-training of 2,700 s and two fine-tunings of 1,800 s.
    said = expectation(networks, run)
    assert said.startswith("3 trainings of networks alone, 1 of them done; about 1 h 45 min left")
    for network in networks:
        network.folder.mkdir(exist_ok=True)
        network.result.touch()
    assert expectation(networks, run) == "3 trainings of networks alone, 3 of them done"


def test_one_that_diverged_is_not_waited_for(networks: list[Alone], tmp_path: Path) -> None:
    for place in (networks[0].pretrain_folder, networks[0].train_folder):
        finish(place, 3600)
    for network in networks[:2]:  # the second has not come to the end of its pre-training
        network.folder.mkdir(exist_ok=True)
        network.result.touch()
    assert "2 of them done; about 2 h 00 min left" in expectation(networks, tmp_path / "run")
