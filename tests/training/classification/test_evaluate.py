"""Evaluating a classifier's file: the error of the pictures, and what cannot be evaluated."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import (
    evaluate_classifier,
    network_input,
    require_readable,
)
from detnet.training.settings import write_config

PROCESS = Process(0, 1, torch.device("cpu"))
COLOURS = {"blue": (10, 20, 200), "green": (10, 200, 20), "red": (200, 20, 10)}


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Four plain pictures of each colour; one of the red ones is green."""
    for name, colour in COLOURS.items():
        (tmp_path / "data" / "val" / name).mkdir(parents=True)
        for number in range(4):
            shown = COLOURS["green"] if (name, number) == ("red", 2) else colour
            picture = Image.fromarray(np.full((40, 56, 3), shown, dtype=np.uint8))
            picture.save(tmp_path / "data" / "val" / name / f"{number}.png")
    return tmp_path / "data"


class Brightest(Classifier):
    """A network whose logits are the mean colour, blue first."""

    def __init__(self) -> None:
        super().__init__(BACKBONES["resnet50"](width=0.125), 3)

    def logits(self, images: torch.Tensor) -> torch.Tensor:
        return images.mean((2, 3)).flip(1)


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A model file that is whole; the network it stands for here knows the colours."""
    info = ClassifierInfo("resnet50", tuple(COLOURS), {"width": 0.125}, 32, 37)
    save_classifier(tmp_path / "m.safetensors", info, Brightest().state_dict())
    monkeypatch.setattr(Classifier, "forward", Brightest.logits)
    return tmp_path / "m.safetensors"


def evaluate(model: Path, data: Path, **options: object) -> dict:
    found = evaluate_classifier(model, data, process=PROCESS, autocast=None, workers=0, **options)
    return found.to_json()


def test_the_error_is_the_share_of_wrong_pictures(model: Path, data: Path) -> None:
    scores = evaluate(model, data)
    assert scores["top1_error"] == pytest.approx(1 / 12)
    assert scores["top5_error"] is None and scores["images"] == 12
    assert scores["per_class"]["red"]["top1_error"] == pytest.approx(1 / 4)
    assert scores["val_loss"] > 0 and scores["unreadable"] == []
    assert evaluate(model, data / "val") == scores


def test_scores_are_written(model: Path, data: Path, tmp_path: Path) -> None:
    scores = evaluate(model, data, output=tmp_path / "out")
    written = json.loads((tmp_path / "out" / "scores.json").read_text())
    assert written == {**scores, "data": str((data / "val").resolve())}


def test_a_run_keeps_scores_apart_by_data(model: Path, data: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    run.mkdir()
    model.rename(run / "best.safetensors")
    write_config(PretrainConfig(data=str(data)), run / "config.yaml")
    evaluate(run, data)
    assert [path.name for path in (run / "evaluation").iterdir()] == ["scores.json"]
    (data / "val").rename(data / "test")
    evaluate(run, data, split="test")
    assert (run / "evaluation" / "data-test" / "scores.json").exists()
    other = shutil.copytree(data, tmp_path / "other" / "data")
    for _ in range(2):
        evaluate(run, other, split="test")
        evaluate(run, data, split="test")
    kept = sorted((run / "evaluation").glob("data-test*/scores.json"))
    told = [Path(json.loads(file.read_text())["data"]).parent for file in kept]
    assert told == [data.resolve(), other.resolve()]


def test_one_bad_file_is_left_out_and_named(model: Path, data: Path) -> None:
    (data / "val" / "red" / "2.png").write_text("no image")
    scores = evaluate(model, data)
    assert (scores["images"], scores["top1_error"]) == (11, 0)
    assert len(scores["unreadable"]) == 1 and "red/2.png: is not" in scores["unreadable"][0]
    (data / "val" / "red" / "1.png").write_text("no image")
    with pytest.raises(InputError, match="2 of 12 images cannot be read"):
        evaluate(model, data)


def test_other_classes_are_refused(model: Path, data: Path) -> None:
    (data / "val" / "red").rename(data / "val" / "rot")
    with pytest.raises(InputError, match="class folders are not the .* of .*m.safetensors"):
        evaluate(model, data)


def test_missing_split_and_model(model: Path, data: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="has no folder 'test' .*; there are val"):
        evaluate(model, data, split="test")
    with pytest.raises(InputError, match="nothing.safetensors"):
        evaluate(tmp_path / "nothing.safetensors", data)


def test_channel_order_is_the_models() -> None:
    info = ClassifierInfo(
        "resnet50", ("a",), pixel_mean=(0, 0, 0), pixel_std=(1, 1, 1), channel_order="bgr"
    )
    pixels = torch.tensor([255, 51, 0], dtype=torch.uint8).reshape(1, 3, 1, 1)
    torch.testing.assert_close(network_input(pixels, info).flatten(), torch.tensor([0.0, 0.2, 1]))


def test_colours_are_changed_before_the_channels_are_turned() -> None:
    """A network that wants BGR gets the colours that one with RGB gets, and its own mean."""
    pixels = torch.randint(0, 256, (2, 3, 5, 7), dtype=torch.uint8)
    draws = [{"color": (1.2, 0.8, 0.6, order), "light": (0.03, -0.02, 0.05)} for order in range(2)]
    order = {"rgb": (0.1, 0.2, 0.3), "bgr": (0.3, 0.2, 0.1)}
    rgb, bgr = (
        network_input(
            pixels,
            ClassifierInfo("resnet50", ("a",), pixel_mean=mean, pixel_std=mean, channel_order=name),  # type: ignore[arg-type]
            draws,
        )
        for name, mean in order.items()
    )
    torch.testing.assert_close(bgr, rgb.flip(1))
    assert bgr.is_contiguous(memory_format=torch.channels_last)


def test_how_many_may_be_unreadable() -> None:
    bad = [(0, "a"), (1, "b")]
    require_readable(bad[:1], 3)
    require_readable(bad, 200)
    with pytest.raises(InputError, match="2 of 199 images cannot be read, more than 1%.*: a$"):
        require_readable(bad, 199)
