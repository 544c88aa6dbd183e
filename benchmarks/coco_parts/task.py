"""The task of a process: data read, augmented and dealt out as in a training."""

import os
from typing import Any

import torch

from detnet.engine.distributed import Process
from detnet.engine.processor import keep_freed_memory
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import DetectionTask
from detnet.training.task import Task

_DETECTORS = {False: "faster_rcnn_fpn", True: "mask_rcnn_fpn"}


def settings(told: dict[str, Any]) -> TrainConfig:
    """The recipe's: 16 images a step on 8 processes, short side 800."""
    return TrainConfig.make(
        None,
        {
            "data": None,
            "train_annotations": told["train"],
            "val_annotations": told["val"],
            "train_images": told["images"],
            "val_images": told["images"],
            "detector": _DETECTORS[told["masks"]],
            "batch_size": 2 * told["processes"],
            "workers": told["workers"],
            "min_sizes": told.get("min_sizes", [800]),
            "max_size": told.get("max_size", 1333),
            "skip_empty": True,
            "seed": 3,
        },
    )


def make_task(told: dict[str, Any]) -> DetectionTask:
    """Reads this process's data as `detnet train` does."""
    keep_freed_memory()
    task = DetectionTask(settings(told))
    task.read_data(_process())
    return task


def make_pretraining(told: dict[str, Any]) -> Task:
    """Lists the images as `detnet pretrain` does; 256 a step on 8 processes."""
    # Not at the top: memory is measured of processes that do not need them.
    from detnet.training.classification.config import PretrainConfig
    from detnet.training.classification.train import PretrainTask

    keep_freed_memory()
    options = {"data": told["folder"], "val_split": "none", "workers": told["workers"]}
    task = PretrainTask(
        PretrainConfig.make(None, {**options, "batch_size": 32 * told["processes"]})
    )
    task.read_data(_process())
    return task


def _process() -> Process:
    rank, world_size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    return Process(rank, world_size, torch.device("cpu"))
