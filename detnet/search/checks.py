"""Looks at everything that a search will need before any of its phases begins."""

import math
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from detnet.detectors import DETECTORS
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.search.run import SearchRun
from detnet.search.trainings import (
    finetune_config,
    pretrain_config,
    retrain_config,
    retrain_pretrain_config,
)
from detnet.tables import unknown_name
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import TrainConfig
from detnet.training.resolve import resolve
from detnet.training.settings import combine, typed
from detnet.training.task import batch_per_process


def check(run: SearchRun) -> list[str]:
    """Refuses what would end a later phase.

    Returns:
        One line for each thing a person should know.

    Raises:
        InputError: a wrong setting of any phase, no data, a limit that no network meets, a space
            that does not fit the detector.
    """
    config = run.config
    if config.by_classes and config.from_scratch:
        raise InputError("guide classification needs the pre-training that from_scratch leaves out")
    if config.detector not in DETECTORS:
        raise InputError(unknown_name(DETECTORS.kind, config.detector, DETECTORS))
    if DETECTORS[config.detector].targets != ("boxes",):
        raise InputError(f"detector {config.detector}: a search is guided by boxes; choose another")
    _require_data(run)
    constraints = run.constraints()
    path = constraints.require_possible()
    run.method(constraints)
    if config.pretrain_sampling == "bins" and not config.from_scratch:
        run.sampler(bins=True)
    for group, training in _trainings(run, path).items():
        _require_sound(group, training)
    return [_about(run)]


def _trainings(run: SearchRun, path: tuple[int, ...]) -> dict[str, Any]:
    """The settings of every run there will be, the winner being any path."""
    config, folder = run.config, run.folder
    found: dict[str, Any] = {}
    if not config.from_scratch:
        found["pretrain"] = pretrain_config(config, folder)
        found["retrain_pretrain"] = retrain_pretrain_config(config, folder, path)
    if not config.by_classes:
        found["finetune"] = finetune_config(config, folder)
    weights = None if config.from_scratch else folder / "winner" / "pretrain"
    found["retrain"] = retrain_config(config, folder, path, weights)
    for part, group in (("pretrain", "retrain_pretrain"), ("train", "retrain")):
        changes = config.validate.get(part) or {}
        if changes and group in found:
            values = combine(asdict(found[group]), changes)
            kind = type(found[group])
            found[f"validate: {part}"] = typed(kind, values, where=f"validate: {part}")
    return found


def _require_data(run: SearchRun) -> None:
    config = run.config
    if not config.data:
        raise InputError("no data: give --data FOLDER, the data set that the search is for")
    if not Path(config.data).is_dir():
        raise InputError(f"{config.data}: no such folder; give that of a data set")
    if config.from_scratch:
        return
    if not config.pretrain_data:
        raise InputError(
            "no data to pre-train on: give --pretrain-data FOLDER with train/CLASS/image.jpg, or "
            "--from-scratch true to do without"
        )
    if not Path(config.pretrain_data).is_dir():
        raise InputError(f"{config.pretrain_data}: no such folder")
    split_folder(Path(config.pretrain_data), config.pretrain.get("train_split", "train"))


def _require_sound(group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses what a training would only find out when it begins."""
    processes = int(os.environ.get("WORLD_SIZE", "1"))
    supernet = config.backbone == "supernet"
    if supernet and isinstance(config, TrainConfig) and config.norm not in ("batch", "sync"):
        raise InputError(f"{group}: norm {config.norm} would hold a supernet's batch norms still")
    try:
        batch_per_process(config, Process(0, processes, 0, torch.device("cpu")))
        resolve(config, load_weights=False)
    except InputError as error:
        raise InputError(f"{group}: {error}") from error


def _about(run: SearchRun) -> str:
    height, width = run.costs.image_size
    paths = math.prod(len(gene.choices) for gene in run.space.genes)
    text = f"{paths:.3g} paths, width {run.config.width:g}"
    if run.ends:
        low, high = (run.costs.macs(path) / 1e6 for path in run.ends)
        text += f", {low:.4g} M to {high:.4g} M multiply-adds at {height}×{width} (body)"
    return f"the space: {text}"
