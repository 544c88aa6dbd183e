"""What the phases of a search will take: multiply-adds, images, and time by measuring steps."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from detnet.data.classification.shards import index_images
from detnet.engine.memory import keep_freed_memory
from detnet.search.run import SearchRun
from detnet.search.scoring.evaluator import ScoringBudget
from detnet.search.split import counts_of
from detnet.search.trainings import (
    finetune_config,
    pretrain_config,
    retrain_config,
    retrain_pretrain_config,
    written_path,
)
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import TrainConfig
from detnet.training.estimate import measure_steps

_AT_ONCE = {PretrainConfig: 16, TrainConfig: 2}  # images of a measured step, at most
_FORWARD = 1 / 3  # of a training step's time
_UNITS = ((86_400, "days"), (3_600, "h"), (60, "min"))


@dataclass(frozen=True)
class _Pace:
    """What an image of a training costs here."""

    macs: int
    counted: str
    seconds: float


def forecast(run: SearchRun, phases: Sequence[str]) -> list[str]:
    """Says what each phase costs, one line for each training and for the search.

    A step of one network of middling cost is measured on noise of the real size; reading of images
    and evaluation are not counted. Several devices share the time.

    Args:
        phases: those that are left, of `PHASES`.
    """
    keep_freed_memory()
    config = run.config
    place = "cuda" if config.device != "cpu" and torch.cuda.is_available() else "cpu"
    path = run.sampler(bins=False).path(0)
    counts = counts_of(run.folder)
    lines, paces = [], dict[tuple[Any, ...], _Pace]()

    def pace(training: PretrainConfig | TrainConfig) -> _Pace:
        key = (type(training), training.precision, *_shape(training))
        if key not in paces:
            paces[key] = _measure(run, training, path, torch.device(place))
        return paces[key]

    for phase in phases:
        if phase == "search":
            guide = pretrain_config if config.by_classes else finetune_config
            lines.append(_search(run, pace(guide(config, run.folder)), counts["search"]))
            continue
        for name, training, images in _trainings(run, phase, path, counts):
            lines.append(_training(name, training, pace(training), images))
    where = torch.cuda.get_device_name() if place == "cuda" else "cpu"
    return [f"what it will take on {where}, reading and evaluation not counted:", *lines]


def _trainings(
    run: SearchRun, phase: str, path: tuple[int, ...], counts: dict[str, int]
) -> list[tuple[str, PretrainConfig | TrainConfig, int]]:
    """The trainings of a phase, with the images of their epochs."""
    config, folder = run.config, run.folder
    if phase == "pretrain":
        images = counts["train"] if config.by_classes else _class_images(run)
        return [(phase, pretrain_config(config, folder), images)]
    if phase == "finetune":
        return [(phase, finetune_config(config, folder), counts["train"])]
    found: list[tuple[str, PretrainConfig | TrainConfig, int]] = []
    if not config.from_scratch:
        alone = retrain_pretrain_config(config, folder, path)
        found.append((f"{phase}, as a classifier", alone, _class_images(run)))
    alone_under = retrain_config(config, folder, path, None)
    return [*found, (f"{phase}, under the detector", alone_under, counts["detection"])]


def _class_images(run: SearchRun) -> int:
    name = run.config.pretrain.get("train_split", "train")
    return len(index_images(split_folder(Path(run.config.pretrain_data), name)))


def _measure(
    run: SearchRun,
    training: PretrainConfig | TrainConfig,
    path: tuple[int, ...],
    place: torch.device,
) -> _Pace:
    """Takes steps of one network alone: a supernet's step costs what that of its path does."""
    options = {**training.backbone_options, "path": written_path(run.config, path)}
    alone: Any = replace(training, backbone="searched", backbone_options=options)
    images = min(training.batch_size, _AT_ONCE[type(training)])
    found = measure_steps(alone, place, images=images, steps=2)
    return _Pace(found.macs, found.counted, found.step_s / images)


def _shape(training: PretrainConfig | TrainConfig) -> tuple[Any, ...]:
    if isinstance(training, PretrainConfig):
        return (training.image_size,)
    return (tuple(training.min_sizes), training.max_size, str(training.detector_options))


def _training(name: str, training: PretrainConfig | TrainConfig, pace: _Pace, images: int) -> str:
    length = training.length
    shown = (
        length["iterations"] * training.batch_size
        if "iterations" in length
        else length["epochs"] * images
    )
    return (
        f"  {name}: {shown:,.0f} images ({shown / max(1, images):,.3g} epochs), "
        f"{pace.macs / 1e9:,.3g} G multiply-adds each {pace.counted}, "
        f"{3 * pace.macs * shown:.2g} in all; about {_duration(pace.seconds * shown)}"
    )


def _search(run: SearchRun, pace: _Pace, images: int) -> str:
    config = run.config
    budget = ScoringBudget.of(config, config.scoring)
    scored = min(budget.score_images or images, images)
    candidates = config.population * config.generations
    each = budget.recalibration_images + scored
    seconds = _FORWARD * pace.seconds * candidates * each
    return (
        f"  search: {candidates:,} candidates × {each:,} images ("
        f"{budget.recalibration_images:,} to recalibrate on, {scored:,} to score on), "
        f"{pace.macs * candidates * each:.2g} "
        f"multiply-adds in all; about {_duration(seconds)} for one worker"
    )


def _duration(seconds: float) -> str:
    for size, unit in _UNITS:
        if seconds >= 2 * size:
            return f"{seconds / size:,.0f} {unit}"
    return f"{seconds:.0f} s"
