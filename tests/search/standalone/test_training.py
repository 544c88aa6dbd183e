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
from detnet.errors import InputError
from detnet.search.begun import is_complete
from detnet.search.config import SearchConfig
from detnet.search.records import SpaceNetwork
from detnet.search.run import SearchRun
from detnet.search.standalone.sharing import Busy, claimed
from detnet.search.standalone.training import StandaloneTraining, train_standalone
from detnet.training.run_state import OnEvent

SPACE = {
    "kind": "shuffle",
    "stem_channels": 8,
    "rows": [{"name": f"c{n}", "blocks": 1, "channels": 16 * n} for n in (2, 3, 4, 5)],
}
SHORT: dict[str, Any] = {"checkpoint_every": 2, "log_every": 1, "lr": 0.01, "lr_batch": 0}
DETECTION: dict[str, Any] = {
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


def training_of(
    settings: dict[str, Any], folder: Path, *, pretrain_folder: Path | None = None, **more: Any
) -> StandaloneTraining:
    config = SearchConfig.make(None, {"space": SPACE, "width": 0.125, **settings})
    return StandaloneTraining(
        SearchRun(folder.parent / "search", config),
        SpaceNetwork(path="0 1 2 3", macs=1e6, params=1e5),
        folder.parent.name,
        0,
        folder=folder,
        result=folder / "result.json",
        pretrain_folder=pretrain_folder or folder / "pretrain",
        pretrain_seed=0,
        **more,
    )


@pytest.fixture
def make(data: Path, tmp_path: Path) -> Callable[..., StandaloneTraining]:
    def make(
        name: str = "a", *, pretrained: bool = True, shared: bool = False, **more: Any
    ) -> StandaloneTraining:
        settings = {
            "data": str(data / "scenes"),
            "pretrain_data": str(data / "classes"),
            "from_scratch": not pretrained,
            "workers": 0,
            "precision": "fp32",
            "device": "cpu",
            "retrain_pretrain": {"image_size": 32, "batch_size": 3, "iterations": 3, **SHORT},
            "retrain": {**DETECTION, **SHORT},
        }
        folder = tmp_path / name / "seed0"
        place = folder.parent / "pretrain" if shared else None
        return training_of(settings, folder, pretrain_folder=place, **more)

    return make


def named(events: list[str]) -> OnEvent:
    return lambda event: events.append(event["event"])


def quiet(event: dict[str, Any]) -> None:
    pass


def never() -> bool:
    return False


def test_a_network_is_trained_and_measured(make: Callable[..., StandaloneTraining]) -> None:
    network, events = make(), list[str]()
    assert train_standalone(
        network, stop=never, on_event=lambda event: events.append(event["event"])
    )
    assert events.count("start") == 2
    found = json.loads(network.result.read_text())
    assert found["path"] == "0 1 2 3"
    assert 0 <= found["AP"] <= found["AP50"] <= 1
    assert min(found["seconds"].values()) > 0
    assert (network.result.parent / "evaluation" / "results.json").exists()
    assert is_complete(network.pretrain_folder) and is_complete(network.train_folder)

    again = list[str]()  # nothing is trained twice
    network.result.unlink()
    assert train_standalone(
        network, stop=never, on_event=lambda event: again.append(event["event"])
    )
    assert "start" not in again
    repeated = json.loads(network.result.read_text())
    assert repeated["AP"] == found["AP"]
    assert repeated["seconds"]["train"] == found["seconds"]["train"]

    longer = make(changes={"train": {"iterations": 6}})
    other = replace(network, network=SpaceNetwork(path="0 0 2 3", macs=1e6, params=1e5))
    told = ("train: was trained with iterations 4, now it is 6", "path 0 1 2 3, now it is 0 0 2 3")
    for wrong, message in zip((longer, other), told, strict=True):
        with pytest.raises(InputError, match=message):
            train_standalone(wrong, stop=never, on_event=quiet)


def test_a_killed_network_ends_as_one_that_was_not(make: Callable[..., StandaloneTraining]) -> None:
    whole, killed = make("whole"), make("killed")
    train_standalone(whole, stop=never, on_event=quiet)

    def killing(start: int, iteration: int) -> Callable[[dict[str, Any]], None]:
        starts = 0

        def on_event(event: dict[str, Any]) -> None:
            nonlocal starts
            starts += event["event"] == "start"
            if event["event"] == "progress" and (starts, event["iteration"]) == (start, iteration):
                raise Kill

        return on_event

    # In pre-training; in fine-tuning before its first checkpoint; after it.
    for kill in ((1, 3), (2, 1), (1, 3)):
        with pytest.raises(Kill):
            train_standalone(killed, stop=never, on_event=killing(*kill))
    assert train_standalone(killed, stop=never, on_event=quiet)
    for folder in ("pretrain_folder", "train_folder"):
        first, second = (RunFolder(getattr(one, folder)).model for one in (whole, killed))
        assert first.read_bytes() == second.read_bytes()


def test_from_scratch_there_is_no_pretraining(make: Callable[..., StandaloneTraining]) -> None:
    network = make(pretrained=False)
    assert train_standalone(network, stop=never, on_event=quiet)
    assert not network.pretrain_folder.exists()
    assert json.loads(network.result.read_text())["seconds"]["pretrain"] == 0


def test_a_loss_that_is_not_finite_is_recorded(make: Callable[..., StandaloneTraining]) -> None:
    network = make(pretrained=False, changes={"train": {"lr": 1e30}})
    notes = list[str]()
    assert train_standalone(network, stop=never, on_event=lambda event: notes.append(str(event)))
    found = json.loads(network.result.read_text())
    assert found["AP"] is None and "loss_classifier is nan" in found["error"]
    assert "left out" in notes[-1]


def test_what_others_are_at_is_left_to_them(make: Callable[..., StandaloneTraining]) -> None:
    shared, own = make("shared", shared=True), make("own")
    for network, folder in ((shared, shared.folder.parent), (own, own.pretrain_folder)):
        with claimed(folder) as mine, pytest.raises(Busy):
            assert mine
            train_standalone(network, stop=never, on_event=quiet)
        assert not network.train_folder.exists()


def test_a_signal_ends_the_measuring(make: Callable[..., StandaloneTraining]) -> None:
    network = make(pretrained=False)
    assert not train_standalone(network, stop=lambda: True, on_event=quiet)
    assert is_complete(network.train_folder) and not network.result.exists()
