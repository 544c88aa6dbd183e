"""A run of a search as its first phases leave it: tiny, hardly trained, on a few scenes."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from detnet import create
from detnet.backbones.spaces.shuffle_space import ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import take_path
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split
from detnet.data.reading import load_annotations
from detnet.data.transforms import eval_transform
from detnet.detectors.base import info_of
from detnet.detectors.files import save_model
from detnet.search.config import SearchConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.settings import write_config

SPACE = ShuffleSpace(8, tuple(ShuffleStage(f"c{n}", 1, 16 * (n - 1)) for n in range(2, 6)), 16)


def scoring_settings(**changes: Any) -> SearchConfig:
    """The settings of a search that scoring goes by."""
    values: dict[str, Any] = {
        "precision": "fp32",
        "seed": 3,
        "workers": 0,
        "recalibration_images": 72,
        "recalibration_batch": 1,
        "cheap_recalibration_images": 4,
        "cheap_score_images": 2,
        "cheap_proposals": 60,
    }
    return SearchConfig(**{**values, **changes})


@pytest.fixture(scope="session")
def scored_run(scenes: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """RUN with data/ and finetune/, whose supernet finds something with every path."""
    run = tmp_path_factory.mktemp("search") / "run"
    (run / "data").mkdir(parents=True)
    (run / "finetune").mkdir()
    for name, split in (("train", "train"), ("search", "val")):
        raw = json.loads((scenes / f"annotations/instances_{split}.json").read_text())
        (run / "data" / f"{name}.json").write_text(json.dumps(raw))
    folder = run / "images"
    for split in ("train", "val"):
        shutil.copytree(scenes / split, folder, dirs_exist_ok=True)
    config = TrainConfig.make(
        None, {"train_annotations": str(run / "data/train.json"), "train_images": str(folder)}
    )
    write_config(config, run / "finetune" / "config.yaml")
    model = tiny_detector(raw["categories"])
    learn_a_little(model, Split("train", run / "data" / "train.json", folder))
    save_model(run / "finetune" / "model.safetensors", model)
    return run


def learn_a_little(model: Any, split: Split, *, steps: int = 40) -> None:
    """Takes a path a step, until every path finds something."""
    annotations, _ = load_annotations(split)
    dataset = DetectionDataset(annotations, eval_transform(min_size=96, max_size=128), seed=0)
    images, targets = zip(*(dataset[index] for index in range(len(dataset))), strict=True)
    optimizer = torch.optim.Adam(model.parameters(), lr=5e-3)
    for step in range(steps):
        take_path(model.train(), [(step * gene) % 4 for gene in (1, 3, 5, 7)])
        optimizer.zero_grad()
        sum(model(list(images[:4]), list(targets[:4])).values()).backward()
        optimizer.step()


def tiny_detector(categories: list[dict[str, Any]], **options: Any) -> Any:
    torch.manual_seed(0)
    small = dict.fromkeys(("pre_nms_test", "pre_nms_train"), 600)
    model = create(
        "faster_rcnn_fpn",
        backbone="supernet",
        num_classes=len(categories) + 1,
        **{
            "backbone_options": {"space": SPACE.to_json()},
            "width": 0.25,
            "norm": "sync",
            "pyramid_norm": "sync",
            "box_head": "4conv1fc",
            "min_size": 96,
            "max_size": 128,
            "roi_batch": 16,
            "score_threshold": 0.0,
            **small,
            **dict.fromkeys(("post_nms_test", "post_nms_train"), 200),
            **options,
        },
    )
    info_of(model).categories = categories
    return model
