import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from detnet.data.shapes import write_scenes
from detnet.detectors.build import option_defaults
from detnet.detectors.files import save_model
from detnet.recipes import config as detection
from detnet.recipes import detect
from detnet.recipes.catalogue import RECIPES
from detnet.recipes.classification import config as pretraining
from detnet.recipes.classification import pretrain
from detnet.recipes.material import build_detector, load_material
from detnet.recipes.search import config as searching
from detnet.recipes.splits import KEYPOINT_DETECTORS

OURS = ("demo", "small", "small_keypoints")
TRAINED = [name for name, row in RECIPES.items() if row.command == "train" and name not in OURS]
PRETRAINED = [name for name, row in RECIPES.items() if row.command == "pretrain"]
ONE_STEP: dict[str, Any] = {
    "width": 0.125,
    "batch_size": 2,
    "iterations": 1,
    "lr": 1e-4,
    "workers": 0,
    "precision": "fp32",
    "device": "cpu",
    "log_every": 1,
}


def test_every_preset_is_in_the_list_and_the_other_way_round() -> None:
    assert set(detection.presets()) == {*TRAINED, *OURS}
    assert set(pretraining.presets()) == set(PRETRAINED)
    searches = {name for name, row in RECIPES.items() if row.command == "search"}
    assert {f"search/{name}" for name in searching.presets()} == searches


def test_the_paper_s_rows_are_there() -> None:
    published = {name: row.published for name, row in RECIPES.items()}
    assert published["detnet59_faster_rcnn_fpn_2x"] == {"AP": 40.2, "AP50": 61.7}
    assert published["resnet101_faster_rcnn_fpn_2x_detectron"] == {"AP": 39.8, "AP50": 62.0}
    assert published["detnet59_mask_rcnn_fpn_2x"] == {"segm_AP": 37.1, "segm_AP50": 60.0}
    assert published["detnet59_faster_rcnn_fpn_scratch"] == {"AP": 36.3, "AP50": 56.5}
    assert published["detnet59_imagenet"] == {"top-1 error": 23.5}


@pytest.mark.parametrize("name", [name for name in TRAINED if name.endswith("_detectron")])
def test_detectron_s_settings_differ_where_they_are_said_to(name: str) -> None:
    literal = detection.make_config(name.removesuffix("_detectron"), {})
    other = detection.make_config(name, {})
    assert (literal.frozen, other.frozen) == (["stem"], ["stem", "c2"])
    assert (literal.warmup, other.warmup) == ("constant", "linear")
    assert other.detector_options["proposals"] == "per_level"
    assert literal.detector_options == {}
    assert (other.bias_lr_factor, other.bias_weight_decay) == (2.0, 0.0)
    assert (literal.lr, literal.steps, literal.iterations) == (
        other.lr,
        other.steps,
        other.iterations,
    )


def steps_of(run: Path) -> list[dict[str, Any]]:
    lines = (run / "metrics.jsonl").read_text().splitlines()
    return [event for event in map(json.loads, lines) if event["event"] == "step"]


def calm(model: nn.Module) -> nn.Module:
    """Lets a residual network's blocks add little: undrawn batch norms do not hold values down."""
    with torch.no_grad():
        for name, value in model.state_dict().items():
            if name.endswith("bn3.weight"):
                value.fill_(0.1)
    return model


@pytest.mark.slow
@pytest.mark.parametrize("name", TRAINED)
def test_a_detection_recipe_takes_a_step(name: str, scenes: Path, tmp_path: Path) -> None:
    fewer = {"pre_nms_train": 200, "post_nms_train": 50, "pre_nms_test": 50, "post_nms_test": 10}
    fewer |= {"roi_batch": 16}
    known = option_defaults(detection.make_config(name, {}).detector)
    changes = {
        **ONE_STEP,
        "data": str(scenes),
        "min_sizes": [96],
        "test_min_size": 96,
        "max_size": 128,
        "detector_options": {key: value for key, value in fewer.items() if key in known},
    }
    if detection.make_config(name, {}).detector in KEYPOINT_DETECTORS:
        write_scenes(tmp_path / "scenes", train=4, val=2, size=(160, 120), keypoints=True)
        changes["data"] = str(tmp_path / "scenes")
    config = detection.make_config(name, changes)
    if config.norm == "frozen":
        train = load_material(config).train
        model = build_detector(config, train.categories, train.keypoint_layout)
        save_model(tmp_path / "begin.safetensors", calm(model))
        changes["weights"] = str(tmp_path / "begin.safetensors")
        config = detection.make_config(name, changes)
    assert detect.train(config, tmp_path / "run", watch=lambda event: None)
    (step,) = steps_of(tmp_path / "run")
    assert np.isfinite(step["loss"])
    assert (tmp_path / "run" / "best.safetensors").exists()


@pytest.mark.slow
@pytest.mark.parametrize("name", PRETRAINED)
def test_a_pretraining_recipe_takes_a_step(name: str, tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for split in ("train", "val"):
        for kind in ("cat", "dog"):
            folder = tmp_path / "data" / split / kind
            folder.mkdir(parents=True)
            for index in range(2):
                pixels = random.integers(0, 256, (40, 56, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / f"{index}.jpg")
    changes = {**ONE_STEP, "data": str(tmp_path / "data"), "image_size": 32}
    config = pretraining.make_config(name, changes)
    assert pretrain.pretrain(config, tmp_path / "run", watch=lambda event: None)
    (step,) = steps_of(tmp_path / "run")
    assert np.isfinite(step["loss"])
