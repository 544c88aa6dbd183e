"""Looks at everything that a search will need before it begins, and says what it will take."""

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from detnet.data.classification.shards import index_images
from detnet.detectors import DETECTORS
from detnet.engine.launch import world_size
from detnet.engine.machine import accelerator
from detnet.engine.processor import keep_freed_memory
from detnet.errors import InputError
from detnet.search.begun import require_same_settings
from detnet.search.plan import FORWARD
from detnet.search.reuse import check_supernet
from detnet.search.run import SearchRun
from detnet.search.scoring.evaluator import ScoringBudget
from detnet.search.split import class_folder, counts_of
from detnet.search.study.storage import parse_storage
from detnet.search.supernet import PathSampler
from detnet.search.trainings import (
    changed,
    images_of,
    path_settings,
    pretrain_config,
    trainings_of_phases,
    written_path,
)
from detnet.text import duration
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import split_folder
from detnet.training.detection.config import TrainConfig, find_train, find_val
from detnet.training.estimate import MEASURED_IMAGES, Estimate, device_name, measure_steps
from detnet.training.resolve import resolve


def check(run: SearchRun, *, resume: bool) -> list[str]:
    """Refuses what would end a later phase.

    Args:
        resume: whether the run's folder is its own; else what is in it is not looked at.

    Returns:
        One line for each thing a person should know.

    Raises:
        InputError: a wrong setting of any phase, no data, a limit that no network meets, a space
            that does not fit the detector.
    """
    config = run.config
    if config.by_classes and config.from_scratch:
        raise InputError("guide classification needs the pre-training that from_scratch leaves out")
    DETECTORS.require(config.detector)
    if DETECTORS[config.detector].targets != ("boxes",):
        raise InputError(f"detector {config.detector}: a search is guided by boxes; choose another")
    _require_storage(run)
    _require_data(run)
    constraints = run.constraints()
    path = constraints.require_possible()
    run.method(constraints)
    if not config.from_scratch:
        run.sampler("pretrain")
    if not config.by_classes:
        run.sampler("finetune")
    for group, training in _trainings(run, path).items():
        _require_sound(group, training)
        if training.backbone == "supernet":
            _require_inheritance(run, group, training)
            _require_open_steps(run, group, training)
        else:
            _require_splits(group, training)
        if resume:
            _require_unchanged(run, group, training)
    return [_about(run), *(check_supernet(run) if config.supernet else [])]


def _trainings(run: SearchRun, path: tuple[int, ...]) -> dict[str, Any]:
    """The settings of every run there will be, the winner being any path."""
    config = run.config
    found: dict[str, Any] = trainings_of_phases(config, run.folder, path)
    for part, group in (("pretrain", "retrain_pretrain"), ("train", "retrain")):
        if config.validate.get(part) and group in found:
            found[f"validate: {part}"] = changed(found[group], config.validate, part)
    return found


def _require_storage(run: SearchRun) -> None:
    """Refuses a storage of no kind that is served, and a file in a folder that is not there."""
    if not run.config.storage:
        return
    url = parse_storage(run.config.storage)
    place = Path(str(url.database)).resolve().parent
    if url.drivername == "sqlite" and not place.is_dir() and place != run.folder.resolve():
        raise InputError(f"storage {url.database}: there is no folder {place}")


def _require_data(run: SearchRun) -> None:
    config = run.config
    if config.search_images_folder and not config.search_annotations:
        raise InputError(
            "search_images_folder is that of search_annotations, which is not given; give both or "
            "neither"
        )
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
    pretrain_config(config, run.folder)  # its train_split may be of the wrong kind
    class_folder(config)


def _require_sound(group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses what a training would only find out when it begins."""
    if config.backbone == "supernet":
        _require_own_statistics(group, config)
    try:
        config.batch_of(world_size())
        resolve(config, load_weights=False)
    except InputError as error:
        raise InputError(f"{group}: {error}") from error


def _require_own_statistics(group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses norms by anything but the batch: what a path's own statistics are, no layer knows."""
    if isinstance(config, TrainConfig) and config.norm not in ("batch", "sync"):
        raise InputError(f"{group}: norm {config.norm} would hold a supernet's batch norms still")
    if config.norm_settled < 1:
        raise InputError(
            f"{group}: norm_settled {config.norm_settled:g} would have a supernet's paths go by "
            "running statistics, which are those of no path; leave it at 1"
        )


def _require_splits(group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses a training of one network alone whose data have not the splits it asks for."""
    try:
        if isinstance(config, TrainConfig):
            find_train(config)
            find_val(config)
            return
        split_folder(Path(config.data), config.train_split)
        if config.val_split not in ("none", "val"):  # "val" need not be there
            split_folder(Path(config.data), config.val_split)
    except InputError as error:
        raise InputError(f"{group}: {error}") from error


def _require_inheritance(run: SearchRun, group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses an average over what most paths inherit and what was there before."""
    if config.ema and (single := path_settings(run.config, group).get("single_steps")):
        raise InputError(
            f"{group}: ema {config.ema:g} would average what all paths begin from after "
            f"single_steps {single} with the weights drawn before; leave one of them out"
        )


def _require_open_steps(run: SearchRun, group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses single steps that last to a training's end: no other choice would learn anything."""
    single, steps = path_settings(run.config, group).get("single_steps", 0), None
    if "iterations" in config.length:
        steps = config.length["iterations"]
    elif group == "pretrain" and single:
        epoch = len(index_images(class_folder(run.config)))
        steps = images_of(config, epoch) / config.batch_size
    if single and steps is not None and single >= steps:
        raise InputError(
            f"single_steps {single} would leave none of the {steps:,.0f} steps of {group} to other "
            "choices than the first; set fewer, or train longer"
        )


def _require_unchanged(run: SearchRun, group: str, config: PretrainConfig | TrainConfig) -> None:
    """Refuses a supernet that was begun with other settings; one taken over may have others."""
    taken = run.taken_supernet
    if config.backbone != "supernet" or taken is not None and taken.phase == group:
        return
    # By the number of processes.
    decided = ("norm",) if group == "pretrain" and "norm" not in run.config.pretrain else ()
    paths = path_settings(run.config, group)
    require_same_settings(run.folder / group, config, paths=paths, aside=decided)


def _about(run: SearchRun) -> str:
    height, width = run.costs.image_size
    paths = math.prod(len(gene.choices) for gene in run.space.genes)
    text = f"{paths:.3g} paths, width {run.config.width:g}"
    if run.ends:
        low, high = (run.costs.macs(path) / 1e6 for path in run.ends)
        text += f", {low:.4g} M to {high:.4g} M multiply-adds at {height}×{width} (body)"
    return f"the space: {text}"


_TITLES = {  # of each phase's trainings
    "pretrain": {"pretrain": "pretrain"},
    "finetune": {"finetune": "finetune"},
    "retrain": {
        "retrain_pretrain": "retrain, as a classifier",
        "retrain": "retrain, under the detector",
    },
}


def forecast(run: SearchRun, phases: Sequence[str]) -> list[str]:
    """Says what each phase costs, one line for each training and for the search.

    A step of one network of middling cost is measured on noise of the real size; reading of images
    and evaluation are not counted. Several devices share the time.

    Args:
        phases: those that are left, of `PHASES`.
    """
    keep_freed_memory()
    config = run.config
    place = (accelerator() if config.device != "cpu" else None) or torch.device("cpu")
    path = PathSampler(run.space, config.seed).path(0)
    trainings, counts = _trainings(run, path), counts_of(run.folder)
    lines, measured = [], dict[tuple[Any, ...], Estimate]()

    def measure(training: PretrainConfig | TrainConfig) -> Estimate:
        key = (type(training), training.precision, *_shape(training))
        if key not in measured:
            measured[key] = _measure(run, training, path, place, counts.get("classes"))
        return measured[key]

    for phase in phases:
        if phase == "search":
            guide = trainings["pretrain" if config.by_classes else "finetune"]
            lines.append(_search(run, measure(guide), counts["search"]))
            continue
        for group, title in _TITLES[phase].items():
            if group in trainings:
                training, epoch = trainings[group], _epoch(run, group, counts)
                lines.append(_training(title, training, measure(training), epoch))
    return [
        f"what it will take on {device_name(place)}, reading and evaluation not counted:",
        *lines,
    ]


def _epoch(run: SearchRun, group: str, counts: dict[str, int]) -> int:
    """The images of an epoch of a training."""
    if group == "retrain":
        return counts["detection"]
    if group == "finetune" or (group == "pretrain" and run.config.by_classes):
        return counts["train"]
    return len(index_images(class_folder(run.config)))


def _measure(
    run: SearchRun,
    training: PretrainConfig | TrainConfig,
    path: tuple[int, ...],
    place: torch.device,
    classes: int | None,
) -> Estimate:
    """Takes steps of one network alone: a supernet's step costs what that of its path does.

    Args:
        classes: of objects.
    """
    options = {**training.backbone_options, "path": written_path(run.config, path)}
    alone: Any = replace(training, backbone="searched", backbone_options=options)
    images = min(training.batch_size, MEASURED_IMAGES[type(training)])
    own = classes if isinstance(training, TrainConfig) else None
    return measure_steps(alone, place, images=images, steps=2, classes=own)


def _shape(training: PretrainConfig | TrainConfig) -> tuple[Any, ...]:
    if isinstance(training, PretrainConfig):
        return (training.image_size,)
    return (tuple(training.min_sizes), training.max_size, str(training.detector_options))


def _training(
    title: str, training: PretrainConfig | TrainConfig, step: Estimate, epoch: int
) -> str:
    shown = images_of(training, epoch)
    return (
        f"  {title}: {shown:,.0f} images ({shown / max(1, epoch):,.3g} epochs), "
        f"{step.macs / 1e9:,.3g} G multiply-adds each {step.counted}, "
        f"{3 * step.macs * shown:.2g} in all; about {duration(step.step_s / step.images * shown)}"
    )


def _search(run: SearchRun, step: Estimate, images: int) -> str:
    config = run.config
    budget = ScoringBudget.of(config, config.scoring)
    scored = min(budget.score_images or images, images)
    candidates = config.population * config.generations
    each = budget.recalibration_images + scored
    seconds = FORWARD * step.step_s / step.images * candidates * each
    return (
        f"  search: {candidates:,} candidates × {each:,} images ("
        f"{budget.recalibration_images:,} to recalibrate on, {scored:,} to score on), "
        f"{step.macs * candidates * each:.2g} "
        f"multiply-adds in all; about {duration(seconds)} for one worker"
    )
