"""A search that takes seconds: a space of four blocks, a dozen scenes, a few pictures."""

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from detnet.data.scenes import write_scenes

SPACE: dict[str, Any] = {
    "kind": "shuffle",
    "stem_channels": 8,
    "rows": [{"name": f"c{n}", "blocks": 1, "channels": 16 * (n - 1)} for n in range(2, 6)],
    "tail_channels": 16,
}
_STEPS: dict[str, Any] = {
    "iterations": 4,
    "lr": 0.02,
    "lr_batch": 0,
    "warmup_iterations": 2,
    "log_every": 1,
    "checkpoint_every": 2,
}
AS_CLASSIFIER: dict[str, Any] = {"image_size": 32, "batch_size": 4, **_STEPS}
UNDER_DETECTOR: dict[str, Any] = {
    "min_sizes": [96],
    "max_size": 128,
    "batch_size": 2,
    "clip_norm": 10.0,
    **_STEPS,
    "detector_options": {
        "pre_nms_train": 200,
        "post_nms_train": 50,
        "pre_nms_test": 100,
        "post_nms_test": 20,
        "roi_batch": 16,
        "rpn_batch": 32,
        "box_head": "4conv1fc",
        "head_norm": "sync",
        "pyramid_norm": "sync",
    },
}


def settings(data: Path, classes: Path) -> dict[str, Any]:
    """What `SearchConfig.make` takes."""
    return {
        "data": str(data),
        "pretrain_data": str(classes),
        "space": SPACE,
        "width": 0.5,
        "device": "cpu",
        "precision": "fp32",
        "workers": 0,
        "pretrain_sampling": "uniform",
        "max_macs": 1.1e6,
        "cost_image_size": [64, 96],
        "search_images": 4,
        "population": 4,
        "generations": 2,
        "parents": 2,
        "mutations": 1,
        "crossovers": 1,
        "recalibration_images": 4,
        "recalibration_batch": 2,
        "pretrain": AS_CLASSIFIER,
        "finetune": UNDER_DETECTOR,
        "retrain_pretrain": AS_CLASSIFIER,
        "retrain": UNDER_DETECTOR,
    }


def write_data(folder: Path, *, train: int = 12, val: int = 3) -> Path:
    """Scenes in COCO's layout."""
    write_scenes(folder, train=train, val=val, size=(160, 120))
    return folder


def write_classes(folder: Path, *, train: int = 8) -> Path:
    """Pictures of noise in two class folders, no two alike."""
    generator = np.random.default_rng(0)
    for split, count in (("train", train), ("val", 3)):
        for name in ("cat", "dog"):
            (folder / split / name).mkdir(parents=True)
            for number in range(count):
                pixels = generator.integers(0, 256, (40, 52, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(folder / split / name / f"{number}.png")
    return folder
