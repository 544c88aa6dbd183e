"""A search's run folder whose networks are trained alone in two steps each."""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detnet.backbones.spaces.space import read_space
from detnet.files import write_json
from detnet.search.config import SearchConfig
from detnet.training.settings import write_config
from tests.search.conftest import SPACE

SHORT: dict[str, Any] = {"lr": 0.01, "lr_batch": 0, "checkpoint_every": 2, "log_every": 1}
RETRAIN: dict[str, Any] = {
    "norm": "sync",
    "min_sizes": [96],
    "max_size": 128,
    "batch_size": 2,
    "iterations": 5,
    "val_loss": False,
    "evaluate_every": 50,
    "detector_options": {"post_nms_train": 20, "post_nms_test": 10, "roi_batch": 16},
    **SHORT,
}
PRETRAIN: dict[str, Any] = {"image_size": 32, "batch_size": 2, "iterations": 1, **SHORT}


def make_run(folder: Path, scored: Path | None, scenes: Path, **changes: Any) -> Path:
    """Copies a run whose supernet is trained, and gives it settings.

    Args:
        folder: the new run.
        scored: the fixture `scored_run`; None for a run whose supernet is not trained yet.
        scenes: the data set to train networks on.
        changes: of the settings.
    """
    folder.mkdir()
    if scored is not None:
        shutil.copytree(scored, folder, dirs_exist_ok=True)
    (folder / "classes").mkdir()
    write_classes(folder / "classes")
    settings: dict[str, Any] = {
        "data": str(scenes),
        "pretrain_data": str(folder / "classes"),
        "space": SPACE.to_json(),
        "width": 0.25,
        "seed": 3,
        "workers": 0,
        "device": "cpu",
        "precision": "fp32",
        "max_macs": 2e6,
        "cost_image_size": [96, 128],
        "recalibration_images": 64,
        "recalibration_batch": 2,
        "cheap_recalibration_images": 4,
        "cheap_score_images": 2,
        "retrain_pretrain": PRETRAIN,
        "retrain": RETRAIN,
        "validate": {"train": {"iterations": 2}},
    }
    config = SearchConfig.make(None, settings | changes)
    write_config(config, folder / "config.yaml")
    write_json(folder / "space.json", read_space(config.space).to_json())
    return folder


def write_classes(folder: Path) -> None:
    rng = np.random.default_rng(0)
    for split in ("train", "val"):
        for name in ("dark", "light"):
            place = folder / split / name
            place.mkdir(parents=True)
            for index in range(2):
                pixels = rng.integers(0, 120, (40, 48, 3)) + 120 * (name == "light")
                Image.fromarray(pixels.astype(np.uint8)).save(place / f"{index}.png")
