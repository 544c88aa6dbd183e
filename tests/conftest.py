"""Small data sets for all folders, written where a test asks for them."""

import json
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from detnet.data.folders import Split
from detnet.data.scenes import write_scenes
from detnet.training.detection.config import TrainConfig

if (
    signal.getsignal(signal.SIGINT) is signal.SIG_IGN
):  # a suite that a shell began in the background
    signal.signal(signal.SIGINT, signal.default_int_handler)

Record = dict[str, Any]
WriteData = Callable[..., Split]

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
def truth() -> Record:
    """Ground truth of two images and objects, as COCO's files hold it."""
    return {
        "images": [{"id": 10**11 + 7, "height": 40, "width": 60}, {"id": 3}],
        "categories": [{"id": 90, "name": "b"}, {"id": 5, "name": "a"}, {"id": 7, "name": "b"}],
        "annotations": [
            {"id": 1, "image_id": 10**11 + 7, "category_id": 90, "bbox": [1, 2, 3, 4]},
            {"id": 2, "image_id": 3.0, "category_id": 5, "bbox": [0, 0, 0, 9.5], "area": 2},
        ],
    }


@pytest.fixture
def write_data(tmp_path: Path) -> WriteData:
    """Writes a split: sizes of its images (width, height), its annotations, its categories."""

    def write(
        sizes: list[tuple[int, int]],
        annotations: list[Record],
        *,
        categories: list[Record] | None = None,
        names: list[str] | None = None,
        files: bool = True,
    ) -> Split:
        images = []
        for index, (width, height) in enumerate(sizes):
            name = names[index] if names else f"{index:03d}.png"
            images.append({"id": 100 + index, "file_name": name, "width": width, "height": height})
            if files:
                path = tmp_path / "images" / name
                path.parent.mkdir(parents=True, exist_ok=True)
                pixels = np.random.default_rng(index).integers(0, 256, (height, width, 3))
                Image.fromarray(pixels.astype(np.uint8)).save(path)
        content = {
            "images": images,
            "annotations": annotations,
            "categories": categories or [{"id": 1, "name": "cat"}, {"id": 2, "name": "dog"}],
        }
        path = tmp_path / "annotations" / "instances_train.json"
        path.parent.mkdir(exist_ok=True)
        path.write_text(json.dumps(content), encoding="utf-8")
        return Split("train", path, tmp_path / "images")

    return write


def record(number: int, image: int, box: list[float], **more: Any) -> Record:
    """An annotation of image 100 + `image`, of category 1 unless said otherwise."""
    made = {"id": number, "image_id": 100 + image, "category_id": 1, "bbox": box, "iscrowd": 0}
    return {**made, "area": box[2] * box[3], **more}


@pytest.fixture(name="record")
def record_fixture() -> Callable[..., Record]:
    return record


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight small scenes to train on and three to evaluate on."""
    folder = tmp_path_factory.mktemp("scenes")
    write_scenes(folder, train=8, val=3, size=(160, 120))
    return folder


@pytest.fixture
def tiny(scenes: Path) -> TrainConfig:
    return TrainConfig.make(None, {"data": str(scenes), **TINY})
