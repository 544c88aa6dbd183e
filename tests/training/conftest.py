"""A data set of eight small scenes, and settings that train on it in seconds."""

from pathlib import Path
from typing import Any

import pytest

from detnet.training.detection.config import TrainConfig, make_config

TINY: dict[str, Any] = {
    "width": 0.125,
    "norm": "sync",
    "min_sizes": [96],
    "max_size": 128,
    "batch_size": 2,
    "iterations": 6,
    "lr": 0.02,
    "lr_batch": 0,
    "warmup_iterations": 2,
    "clip_norm": 10.0,
    "ema": 0.9,
    "workers": 0,
    "log_every": 1,
    "checkpoint_every": 2,
    "evaluate_every": 1,
    "precision": "fp32",
    "device": "cpu",
    "detector_options": {
        "pre_nms_train": 200,
        "post_nms_train": 50,
        "pre_nms_test": 100,
        "post_nms_test": 20,
        "roi_batch": 16,
        "rpn_batch": 32,
    },
}


@pytest.fixture
def tiny(scenes: Path) -> TrainConfig:
    return make_config(None, {"data": str(scenes), **TINY})
