"""Measures a detector on a split: COCO scores, the files they come from, and validation losses."""

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.coco.annotations import Annotations
from detnet.coco.categories import Categories
from detnet.coco.ground_truth import GroundTruths, trained_on
from detnet.coco.keypoints import KeypointLayout
from detnet.data.batches import eval_loader
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split
from detnet.data.reading import fingerprint_files, load_scored
from detnet.data.transforms import Augmentation, eval_transform
from detnet.detectors.base import Detector, info_of
from detnet.detectors.files import load_model
from detnet.engine.agreement import require_same_files
from detnet.engine.distributed import Process, all_gather, same_on_all, to_main
from detnet.engine.loop import to_device
from detnet.engine.machine import autocast_to, drawing_from, is_accelerator
from detnet.engine.processor import keep_freed_memory
from detnet.errors import InputError
from detnet.evaluation.detector import score_results
from detnet.evaluation.files import DetectorScores, write_scores
from detnet.evaluation.results import Results, join_results, to_results
from detnet.evaluation.submission import write_submissions
from detnet.evaluation.voc import score_voc
from detnet.files import make_writable, place_apart
from detnet.inference.augmentation import PredictionOptions, detect
from detnet.inference.fuse import fuse
from detnet.inference.models import find_model
from detnet.training.detection.config import TrainConfig, find_val, with_keypoints

Track = Callable[[Iterable[Any], int], Iterable[Any]]


def evaluate_file(
    model_path: Path,
    split: Split,
    *,
    process: Process,
    autocast: torch.dtype | None,
    output: Path | None = None,
    workers: int = 2,
    measures: Mapping[str, Any] | None = None,
    submission: Path | None = None,
    metric: str = "coco",
    options: PredictionOptions | None = None,
    track: Track | None = None,
) -> DetectorScores:
    """Evaluates a model file or run folder and writes scores.json and results.json.

    It is scored against the split's file as it is, as `score` does it, but for annotations that
    cannot be scored; the scores tell which under "ground_truth_taken".

    Args:
        model_path: a run folder (its best model) or a `.safetensors` file.
        split: what to evaluate on; its categories must be the model's.
        output: folder for the two files; None for the run's `evaluation` folder, if it is a run,
            and for other data than it was trained with, and with `options`, a folder in that.
        measures: keyword arguments of `score`: the engine, own thresholds, sizes ….
        submission: zip of the detections for COCO's test-dev server; those with masks or keypoints
            get a second one beside it, NAME-segm.zip or NAME-keypoints.zip, since the server takes
            one kind at a time.
        metric: "coco", or "voc07" or "voc12" for VOC's average precision as well.
        options: soft suppression, and several views of each image; none by default.
        track: wraps the batches to show progress.

    Raises:
        InputError: the model cannot be read, its categories are not the data's, or several
            processes have other files.
        OSError: the folder cannot be written to.
    """
    keep_freed_memory()
    path = find_model(model_path)
    model = load_model(path).to(process.device).to(memory_format=torch.channels_last)
    used, annotations, truths = load_for(
        split, info_of(model).categories, masks="masks" in model.targets, categories_of=str(path)
    )
    require_same_files(process, path, lambda: {"annotations": fingerprint_files(used)})
    folder = output or (place_of_scores(model_path, split) if model_path.is_dir() else None)
    if options and not output and folder:
        folder /= options.name  # those of the run as it is stay where reports look for them
    if folder and process.main:
        make_writable(folder)
    scores = evaluate_model(
        model,
        annotations,
        truths=truths,
        split=used,
        process=process,
        autocast=autocast,
        workers=workers,
        measures=measures,
        options=options,
        track=track,
    )
    if process.main:
        scores = with_voc(scores, truths, metric)
        write_files(scores, truths, folder, submission)
    return scores


def with_voc(scores: DetectorScores, truths: GroundTruths, metric: str) -> DetectorScores:
    """Adds VOC's average precision where `metric` is one of VOC's."""
    if metric == "coco":
        return scores
    return replace(scores, voc=score_voc(truths.bbox, scores.results, metric=metric))


def write_files(
    scores: DetectorScores, truths: GroundTruths, folder: Path | None, submission: Path | None
) -> None:
    """Writes what is asked for: the files of an evaluation's folder, and a zip for the server."""
    if folder is not None:
        write_scores(scores, folder)
    if submission is not None:
        write_submissions(scores, truths, submission)


def load_for(
    split: Split, categories: Sequence[dict[str, Any]], *, masks: bool, categories_of: str
) -> tuple[Split, Annotations, GroundTruths]:
    """Reads a split for a model with these categories, which must be the data's.

    Args:
        categories: as a model file has them; a model with named keypoints is scored on them.
        masks: whether it finds masks.
        categories_of: whose they are, for messages.

    Returns:
        the split that was read, its annotations, and what is to be found.

    Raises:
        InputError: the categories or the keypoints are not the data's.
    """
    layout = KeypointLayout.from_json(categories, file=categories_of)
    used = with_keypoints(split) if layout else split
    annotations, _, truths = load_scored(
        used,
        masks=masks,
        keypoints=layout is not None,
        categories=Categories.from_json(categories),
        layout=layout,
        categories_of=categories_of,
        unlabelled=True,
    )
    return used, annotations, truths


@torch.no_grad()
def evaluate_model(
    model: Detector,
    annotations: Annotations,
    *,
    process: Process,
    autocast: torch.dtype | None,
    truths: GroundTruths | None = None,
    split: Split | None = None,
    workers: int = 2,
    batch_size: int = 4,
    measures: Mapping[str, Any] | None = None,
    options: PredictionOptions | None = None,
    track: Track | None = None,
) -> DetectorScores:
    """Detects on every image of a split and scores it; several processes share the images.

    The model is left as it is: a copy with its batch norms folded into the convolutions does the
    work, which is faster and differs from it only by rounding. The scores are told to all
    processes, the detections come to the main one alone.

    Args:
        annotations: of the images.
        truths: what is to be found on them; by default the annotations as they are trained on.
        split: the scores tell that they are of it.
        measures: keyword arguments of `score`.
        options: those of prediction, none by default.

    Raises:
        InputError: an image cannot be read, or sigmas are given for a detector without keypoints.
    """
    if annotations.keypoints is None and (measures or {}).get("sigmas"):  # on all processes
        raise InputError("sigmas are for keypoints, which this detector does not find")
    fused = fuse(model.eval(), dtype=autocast)
    dataset = DetectionDataset(annotations, eval_transform(), seed=0)
    loader = eval_loader(
        dataset,
        batch_size=batch_size,
        workers=workers,
        rank=process.rank,
        world_size=process.world_size,
        pin_memory=is_accelerator(process.device),
    )
    batches: Iterable[Any] = track(loader, len(loader)) if track else loader
    layout = annotations.keypoint_layout
    of_label = layout.of_label if layout else None
    pieces: list[Results] = []
    for images, targets in batches:
        with autocast_to(process.device, autocast):
            inputs = [image.to(process.device, non_blocking=True) for image in images]
            found = detect(fused, inputs, options or PredictionOptions())
        ids = [target["image_id"] for target in targets]
        pieces.append(to_results(found, ids, annotations.categories.ids, of_label))
    results = join_results(to_main(pieces))
    pieces.clear()
    truths = truths or trained_on(annotations)
    scores = score_results(results, truths, measures or {}) if process.main else None
    told = same_on_all(scores and replace(scores, results=join_results([])))
    assert told is not None  # the main process has made them
    return replace(scores or told, split=split, images=len(annotations))


def place_of_scores(run: Path, split: Split) -> Path:
    """Where a run keeps scores: its own validation split's at the top, others' in a folder.

    The folder is named as the data; of two data sets of one name the second's gets a hash behind.
    """
    config = TrainConfig.read(run / "config.yaml") if (run / "config.yaml").exists() else None
    with contextlib.suppress(InputError):  # a run may outlive its data
        if config and (own := find_val(config)) and own.same_as(split):
            return run / "evaluation"
    if split.lists:
        parts = [f"{path.parents[2].name}_{path.stem}" for path in split.files]
        return _apart(run / "evaluation" / "+".join(parts), split)
    data = split.annotations.resolve().parent
    data = data.parent if data.name in ("annotations", split.name, "valid") else data
    # A file given by its own name may stand beside others of the same data set.
    stem = split.annotations.stem
    named = split.name in stem or split.format != "coco" or stem == "_annotations.coco"
    return _apart(run / "evaluation" / f"{data.name}-{split.name if named else stem}", split)


def _apart(place: Path, split: Split) -> Path:
    used = with_keypoints(split)  # of the two files the scores tell one

    def is_same(told: Any) -> bool:
        return with_keypoints(Split.from_json(told)).same_as(used)

    return place_apart(place, repr((used.name, *map(str, used.files))), is_same)


@torch.no_grad()
def validation_losses(
    model: nn.Module,
    annotations: Annotations,
    batch_size: int,
    *,
    process: Process,
    autocast: torch.dtype | None,
    workers: int,
    seed: int,
) -> dict[str, float]:
    """Averages the training losses over a split, as `loss`, `loss_classifier` …

    The losses are those of training, their random samples of anchors and regions included, drawn
    from a stream of their own: the run's is left where it was. Batch norm goes by its running
    statistics.
    """
    detector: Any = model
    images = detector.transform.options
    transform = Augmentation(min_sizes=(images.min_size,), max_size=images.max_size, flip_h=0.0)
    dataset = DetectionDataset(
        annotations,
        transform,
        seed=seed,
        masks=annotations.masks is not None,
        keypoints=annotations.keypoints is not None,
    )
    loader = eval_loader(
        dataset,
        batch_size=max(1, batch_size),
        workers=workers,
        rank=process.rank,
        world_size=process.world_size,
    )
    sums: dict[str, Tensor] = {}
    count = 0
    with drawing_from(seed, process.device), _losses_without_learning(model):
        for images, targets in loader:
            with autocast_to(process.device, autocast):
                losses = model(*to_device((images, targets), process.device))
            for name, value in losses.items():
                part = value.detach().double() * len(images)  # read at the end, not in each batch
                sums[name] = sums[name] + part if name in sums else part
            count += len(images)
    parts = all_gather(({name: float(value) for name, value in sums.items()}, count))
    images_seen = max(1, sum(part[1] for part in parts))
    names = {name for part in parts for name in part[0]}
    means = {
        name: sum(part[0].get(name, 0.0) for part in parts) / images_seen for name in sorted(names)
    }
    return {"loss": sum(means.values()), **means}


@contextlib.contextmanager
def _losses_without_learning(model: nn.Module) -> Iterator[None]:
    """Train mode for the losses, but normalisation and dropout as in evaluation."""
    still = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    model.train()
    for layer in model.modules():
        if isinstance(layer, still):
            layer.eval()
    try:
        yield
    finally:
        model.eval()
