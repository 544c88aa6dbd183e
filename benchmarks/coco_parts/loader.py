"""How fast images are loaded by one core: decoded alone, read by us, and as training has them."""

import argparse
import os
import statistics
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import torch
from coco_parts.made import MadeData
from coco_parts.processes import table
from PIL import Image

from detnet.coco.annotations import Annotations
from detnet.data.batches import TrainBatches, stream
from detnet.data.dataset import DetectionDataset
from detnet.data.images import read_image
from detnet.data.reading import load_annotations
from detnet.data.transforms import Augmentation, eval_transform

_IMAGES = 400  # of each turn
_TURNS = 3
_WARM_UP = 8  # images before the clock is started: the worker is there and reads ahead


def measure_loader(made: MadeData, asked: argparse.Namespace) -> dict[str, Any]:
    """One core, in turns; what is read lies in the page cache."""
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, {min(cores)})
    torch.set_num_threads(1)
    try:
        return _measure(made)
    finally:
        os.sched_setaffinity(0, cores)


def _measure(made: MadeData) -> dict[str, Any]:
    notes, _ = load_annotations(made.train, masks=True, keep_empty=False)
    chosen = np.random.default_rng(5).choice(len(notes), _IMAGES).tolist()
    paths = [notes.image_path(index) for index in chosen]

    def decode() -> None:
        for path in paths:
            with Image.open(path) as image:
                np.asarray(image.convert("RGB"))

    def read() -> None:
        for path in paths:
            read_image(path)

    upright, trained = eval_transform(), Augmentation(min_sizes=(800,), max_size=1333)
    ways: dict[str, Callable[[], Any]] = {
        "plain decoding": decode,
        "read_image": read,
        "samples, not resized": lambda: _samples(notes, chosen, upright, masks=False),
        "samples to 800 × 1333": lambda: _samples(notes, chosen, trained, masks=False),
        "samples to 800 × 1333, masks": lambda: _samples(notes, chosen, trained, masks=True),
    }
    pace: dict[str, list[float]] = {}
    for _ in range(_TURNS):
        for name, way in ways.items():
            began = time.perf_counter()
            way()
            pace.setdefault(name, []).append(_IMAGES / (time.perf_counter() - began))
        for name, transform in (
            ("worker, not resized", upright),
            ("worker to 800 × 1333", trained),
        ):
            pace.setdefault(name, []).append(_through_a_worker(notes, transform))
    found = {name: round(statistics.median(values), 1) for name, values in pace.items()}
    plain = found["plain decoding"]
    rows = [[name, value, f"{value / plain:.2f}"] for name, value in found.items()]
    print(table(["one core", "images_per_s", "of plain decoding"], rows))
    return {"images_per_s": found, "pictures": made.pictures}


def _samples(notes: Annotations, chosen: list[int], transform: Any, *, masks: bool) -> None:
    dataset = DetectionDataset(notes, transform, seed=0, masks=masks)
    for index in chosen:
        dataset[index]


def _through_a_worker(notes: Annotations, transform: Any) -> float:
    """Images per second of `stream` with one worker on the same core."""
    dataset = DetectionDataset(notes, transform, seed=0)
    dealt = TrainBatches(notes, batch_size=2)
    steps = (_WARM_UP + _IMAGES) // 2
    batches: Iterator[Any] = stream(dataset, dealt, start=0, stop=steps, workers=1)
    for _ in range(_WARM_UP // 2):
        next(batches)
    began = time.perf_counter()
    count = sum(len(images) for images, _ in batches)
    return count / (time.perf_counter() - began)
