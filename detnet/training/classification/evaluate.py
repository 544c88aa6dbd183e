"""Measures a classifier on a split: top-1 and top-5 error."""

import math
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detnet.backbones.files import ClassifierInfo, load_classifier
from detnet.data.batches import eval_loader
from detnet.data.classification.dataset import ClassificationDataset
from detnet.data.classification.image_folder import ClassifiedImages
from detnet.data.classification.shards import index_images
from detnet.data.classification.transforms import TestView, prepare
from detnet.engine.agreement import require_same_files
from detnet.engine.distributed import Process, all_gather
from detnet.engine.machine import autocast_to, is_accelerator
from detnet.engine.processor import keep_freed_memory
from detnet.errors import InputError
from detnet.evaluation.classification import ClassifierScores, ranks, summarise
from detnet.files import make_writable, place_apart, write_json
from detnet.inference.fuse import fuse
from detnet.inference.models import find_model
from detnet.training.classification.config import PretrainConfig

Track = Callable[[Iterable[Any], int], Iterable[Any]]

MOST_UNREADABLE = 0.01  # of the images; one bad file alone never ends a run


def evaluate_classifier(
    model_path: Path,
    data: Path,
    *,
    split: str = "val",
    process: Process,
    autocast: torch.dtype | None,
    output: Path | None = None,
    workers: int = 2,
    track: Track | None = None,
) -> ClassifierScores:
    """Evaluates a classifier's file or run folder and writes scores.json.

    Args:
        model_path: a run folder (its best model) or a `.safetensors` file.
        data: a folder with one folder per split, or the split itself.
        output: folder for scores.json; None for the run's `evaluation` folder, if it is a run,
            and for other data than it was trained with a folder in that.
        track: wraps the batches to show progress.

    Raises:
        InputError: the model cannot be read, its classes are not the data's, several processes
            have other files, or too many images cannot be read.
        OSError: the folder cannot be written to.
    """
    keep_freed_memory()
    path = find_model(model_path)
    model, info = load_classifier(path)
    images = index_images(split_folder(data, split))
    if images.classes != info.classes:
        raise InputError(
            f"{images.path}: its {len(images.classes)} class folders are not the "
            f"{len(info.classes)} classes of {path}"
        )
    require_same_files(process, path, lambda: {"images": images.fingerprint()})
    folder = output or (_place(model_path, images.path) if model_path.is_dir() else None)
    if folder is not None and process.main:
        make_writable(folder)
    model.to(process.device).to(memory_format=torch.channels_last)
    scores = measure(
        model, info, images, process=process, autocast=autocast, workers=workers, track=track
    )
    if folder is not None and process.main:
        write_scores(scores, folder, images.path)
    return scores


def _place(run: Path, split: Path) -> Path:
    """Where a run keeps scores: its own validation split's at the top, others' in a folder."""
    path = run / "config.yaml"
    config = PretrainConfig.read(path) if path.exists() else None
    if config is not None and split == (Path(config.data) / config.val_split).resolve():
        return run / "evaluation"
    place = run / "evaluation" / f"{split.parent.name}-{split.name}"
    return place_apart(place, str(split), lambda told: told == str(split))


def split_folder(data: Path, split: str) -> Path:
    """The folder of a split: DATA/SPLIT, or DATA itself where it is called so.

    Raises:
        InputError: there is none.
    """
    if (data / split).is_dir():
        return data / split
    if data.name == split and data.is_dir():
        return data
    there = (
        sorted(entry.name for entry in data.iterdir() if entry.is_dir())[:5]
        if (data.is_dir())
        else []
    )
    raise InputError(
        f"{data}: has no folder {split!r} of images in class folders"
        + (f"; there are {', '.join(there)}" if there else "")
    )


def write_scores(scores: ClassifierScores, folder: Path, data: Path) -> None:
    """Writes scores.json, which tells under "data" the folder of the split."""
    folder.mkdir(parents=True, exist_ok=True)
    write_json(folder / "scores.json", {**scores.to_json(), "data": str(data)})


@torch.no_grad()
def measure(
    model: nn.Module,
    info: ClassifierInfo,
    images: ClassifiedImages,
    *,
    process: Process,
    autocast: torch.dtype | None,
    workers: int = 2,
    batch_size: int = 64,
    track: Track | None = None,
) -> ClassifierScores:
    """Classifies every image of a split; several processes share the images.

    The model is left as it is: a copy with its batch norms folded into the convolutions does the
    work.
    """
    fused = fuse(model.eval(), dtype=autocast)
    view = TestView(info.input_size, info.short_side)
    loader = eval_loader(
        ClassificationDataset(images, view, substitute=False),
        batch_size=batch_size,
        workers=workers,
        rank=process.rank,
        world_size=process.world_size,
        pin_memory=is_accelerator(process.device),
    )
    found = _Ranked()
    batches: Iterable[Any] = track(loader, len(loader)) if track else loader
    for pixels, targets in batches:
        inputs = network_input(pixels.to(process.device), info)
        with autocast_to(process.device, autocast):
            logits = fused(inputs)
        found.add(logits.float().cpu(), targets)
    return _together(all_gather(found), images, info)


def network_input(pixels: Tensor, info: ClassifierInfo, draws: Any = ()) -> Tensor:
    """Turns (N, 3, H, W) uint8 into what the classifier takes; see `prepare`."""
    if info.channel_order == "rgb":
        return prepare(pixels, draws, mean=info.pixel_mean, std=info.pixel_std)
    # Colours are changed in red, green, blue; the network's order comes last.
    mean, std = info.pixel_mean[::-1], info.pixel_std[::-1]
    return prepare(pixels, draws, mean=mean, std=std).flip(1)


class _Ranked:
    """What one process saw."""

    def __init__(self) -> None:
        self.ranks: list[int] = []
        self.labels: list[int] = []
        self.loss = 0.0
        self.unreadable: list[tuple[int, str]] = []

    def add(self, logits: Tensor, targets: list[dict[str, Any]]) -> None:
        for target in targets:
            self.unreadable += target.get("unreadable", [])
        labels = torch.tensor([target["label"] for target in targets])
        readable = labels >= 0
        logits, labels = logits[readable], labels[readable]
        self.ranks += ranks(logits, labels).tolist()
        self.labels += labels.tolist()
        self.loss += float(F.cross_entropy(logits, labels, reduction="sum"))


def _together(
    parts: list[_Ranked], images: ClassifiedImages, info: ClassifierInfo
) -> ClassifierScores:
    unreadable = sorted(entry for part in parts for entry in part.unreadable)
    require_readable(unreadable, len(images))
    found = np.array([rank for part in parts for rank in part.ranks], dtype=np.int64)
    labels = np.array([label for part in parts for label in part.labels], dtype=np.int64)
    loss = sum(part.loss for part in parts) / len(found) if len(found) else math.nan
    names = [reason for _, reason in unreadable]
    return summarise(
        found, labels, info.classes, loss=loss if math.isfinite(loss) else None, unreadable=names
    )


def require_readable(unreadable: list[tuple[int, str]], images: int) -> None:
    """Refuses a data set of which more than one image, and more than 1 %, cannot be read.

    Raises:
        InputError: naming the first.
    """
    if len(unreadable) > max(1, MOST_UNREADABLE * images):
        raise InputError(
            f"{len(unreadable)} of {images} images cannot be read, more than "
            f"{MOST_UNREADABLE:.0%}; the first: {unreadable[0][1]}"
        )
