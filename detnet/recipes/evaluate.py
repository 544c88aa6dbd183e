"""Measures a detector on a split: COCO scores, the files they come from, and validation losses."""

import contextlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detnet.data.annotations import Annotations, to_coco_dict
from detnet.data.categories import Categories
from detnet.data.coco import load_annotations
from detnet.data.folders import Split
from detnet.data.keypoints import KeypointLayout
from detnet.data.loaders import DetectionDataset, eval_loader
from detnet.data.transforms import eval_transform, train_transform
from detnet.detectors.build import info_of
from detnet.detectors.files import load_model
from detnet.engine.distributed import Process, all_gather, same_on_all
from detnet.engine.memory import keep_freed_memory
from detnet.errors import InputError
from detnet.evaluation.coco import HEADLINE, KEYPOINT_HEADLINE, score
from detnet.evaluation.normalise import read_detections, read_truth
from detnet.evaluation.results import to_results, write_results, write_whole
from detnet.evaluation.submission import write_submission
from detnet.evaluation.voc import score_voc
from detnet.inference.augmentation import PredictionOptions, detect
from detnet.inference.fuse import fuse
from detnet.inference.predictor import find_model
from detnet.recipes.config import read_config
from detnet.recipes.splits import find_val, with_keypoints

Track = Callable[[Iterable[Any], int], Iterable[Any]]


@dataclass(frozen=True)
class Scores:
    """What one evaluation found.

    Args:
        bbox: the scores JSON for boxes.
        segm: that for masks, or None where the detector has none.
        results: detections in COCO's results format.
        keypoints: likewise for keypoints.
        voc: VOC's average precision as `score_voc` gives it, where it was asked for.
    """

    bbox: dict[str, Any]
    segm: dict[str, Any] | None
    results: list[dict[str, Any]]
    voc: dict[str, Any] | None = None
    keypoints: dict[str, Any] | None = None

    @property
    def headline(self) -> dict[str, float | None]:
        """The twelve COCO numbers for boxes, and those for masks as `segm_AP` …, the ten for
        keypoints as `keypoints_AP` …
        """
        numbers = {name: self.bbox[name] for name in HEADLINE}
        if self.segm is not None:
            numbers |= {f"segm_{name}": self.segm[name] for name in HEADLINE}
        if self.keypoints is not None:
            numbers |= {f"keypoints_{name}": self.keypoints[name] for name in KEYPOINT_HEADLINE}
        return numbers

    def to_json(self) -> dict[str, Any]:
        """One object: the scores for boxes, those for masks under "segm", for keypoints under
        "keypoints".
        """
        more = {"segm": self.segm, "keypoints": self.keypoints}
        return self.bbox | {name: scores for name, scores in more.items() if scores is not None}


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
) -> Scores:
    """Evaluates a model file or run folder and writes scores.json and results.json.

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
        InputError: the model cannot be read, or its categories are not the data's.
    """
    keep_freed_memory()
    path = find_model(model_path)
    model = load_model(path).to(process.device).to(memory_format=torch.channels_last)
    categories = Categories.from_json(info_of(model).categories)
    layout = KeypointLayout.from_json(info_of(model).categories, file=str(path))
    annotations, _ = load_annotations(
        with_keypoints(split) if layout else split,
        masks=_has_masks(model),
        keypoints=layout is not None,
        categories=categories,
        layout=layout,
        categories_of=str(path),
        unlabelled=True,
    )
    scores = evaluate_model(
        model,
        annotations,
        process=process,
        autocast=autocast,
        workers=workers,
        measures=measures,
        options=options,
        track=track,
    )
    if metric != "coco":
        scores = replace(
            scores, voc=score_voc(to_coco_dict(annotations), scores.results, metric=metric)
        )
    folder = output or (_place(model_path, split) if model_path.is_dir() else None)
    if options and not output and folder:
        folder /= options.name  # those of the run as it is stay where reports look for them
    if folder is not None and process.main:
        write_scores(scores, folder)
    if submission is not None and process.main:
        write_submissions(scores, annotations, submission)
    return scores


def write_scores(scores: Scores, folder: Path) -> None:
    """Writes scores.json and results.json, and scores_voc07.json where that was measured."""
    folder.mkdir(parents=True, exist_ok=True)
    write_results(folder / "results.json", scores.results)
    write_whole(folder / "scores.json", json.dumps(scores.to_json(), indent=1) + "\n")
    if scores.voc is not None:
        place = folder / f"scores_{scores.voc['metric']}.json"
        write_whole(place, json.dumps(scores.voc, indent=1) + "\n")


def write_submissions(scores: Scores, annotations: Annotations, path: Path) -> list[Path]:
    """Writes the zip for boxes and, where there are masks or keypoints, NAME-segm.zip or
    NAME-keypoints.zip; returns their paths.
    """
    kinds = {"bbox": path}
    for kind, more in (("segm", scores.segm), ("keypoints", scores.keypoints)):
        if more is not None:
            kinds[kind] = path.with_name(f"{path.stem}-{kind}{path.suffix}")
    truth_dict = to_coco_dict(annotations)
    for iou_type, place in kinds.items():
        truth = read_truth(truth_dict, iou_type=iou_type)
        results = scores.results
        if iou_type == "keypoints":  # objects of a category without any are none of the server's
            results = [record for record in results if "keypoints" in record]
        write_submission(place, truth, read_detections(results, truth, iou_type=iou_type))
    return list(kinds.values())


def _place(run: Path, split: Split) -> Path:
    """Where a run keeps scores: its own validation split's at the top, others' in a folder."""
    config = read_config(run / "config.yaml") if (run / "config.yaml").exists() else None
    own = find_val(config) if config else None
    if own is not None and own.files == split.files:
        return run / "evaluation"
    if split.lists:
        parts = [f"{path.parents[2].name}_{path.stem}" for path in split.files]
        return run / "evaluation" / "+".join(parts)
    data = split.annotations.resolve().parent
    data = data.parent if data.name in ("annotations", split.name, "valid") else data
    # A file given by its own name may stand beside others of the same data set.
    stem = split.annotations.stem
    named = split.name in stem or stem == "_annotations.coco"
    return run / "evaluation" / f"{data.name}-{split.name if named else stem}"


@torch.no_grad()
def evaluate_model(
    model: nn.Module,
    annotations: Annotations,
    *,
    process: Process,
    autocast: torch.dtype | None,
    workers: int = 2,
    batch_size: int = 4,
    measures: Mapping[str, Any] | None = None,
    options: PredictionOptions | None = None,
    track: Track | None = None,
) -> Scores:
    """Detects on every image of a split and scores it; several processes share the images.

    The model is left as it is: a copy with its batch norms folded into the convolutions does the
    work, which is faster and differs from it only by rounding. `measures` are keyword arguments
    of `score`; `options` are those of prediction, none by default.
    """
    fused = fuse(model.eval(), dtype=autocast)
    dataset = DetectionDataset(annotations, eval_transform(), seed=0)
    loader = eval_loader(
        dataset,
        batch_size=batch_size,
        workers=workers,
        rank=process.rank,
        world_size=process.world_size,
        pin_memory=process.device.type == "cuda",
    )
    batches: Iterable[Any] = track(loader, len(loader)) if track else loader
    layout = annotations.keypoint_layout
    of_label = layout.of_label if layout else None
    records: list[dict[str, Any]] = []
    for images, targets in batches:
        with _autocast(process.device, autocast):
            inputs = [image.to(process.device, non_blocking=True) for image in images]
            found = detect(fused, inputs, options or PredictionOptions())
        ids = [target["image_id"] for target in targets]
        records += to_results(found, ids, annotations.categories.ids, of_label)
    everything = all_gather(records)
    scores = same_on_all(_score(everything, annotations, measures or {}) if process.main else None)
    assert scores is not None  # the main process has made them
    return scores


def _score(
    parts: list[list[dict[str, Any]]], annotations: Annotations, measures: Mapping[str, Any]
) -> Scores:
    results = [record for part in parts for record in part]
    results.sort(key=lambda record: record["image_id"])
    truth = to_coco_dict(annotations)
    own = {name: value for name, value in measures.items() if name != "sigmas"}
    segm = keypoints = None
    if annotations.masks is not None:
        segm = score(truth, _without_boxes(results), iou_type="segm", **own)
    if annotations.keypoints is not None:
        found = [record for record in _without_boxes(results) if "keypoints" in record]
        keypoints = score(truth, found, iou_type="keypoints", **measures)
    elif measures.get("sigmas"):
        raise InputError("sigmas are for keypoints, which this detector does not find")
    return Scores(score(truth, results, **own), segm, results, keypoints=keypoints)


def _without_boxes(results: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Leaves the boxes out, so that a detection's size is that of its mask, as in the truth, or of
    its keypoints, as in COCO's own results.
    """
    return [{k: v for k, v in record.items() if k != "bbox"} for record in results]


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
    from a
    stream of their own: the run's is left where it was. Batch norm goes by its running statistics.
    """
    detector: Any = model
    images = detector.transform.options
    transform = train_transform(min_sizes=(images.min_size,), max_size=images.max_size, flip_h=0.0)
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
    sums: dict[str, float] = {}
    count = 0
    cuda = [process.device] if process.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), _losses_without_learning(model):
        torch.manual_seed(seed)
        for images, targets in loader:
            inputs = [image.to(process.device) for image in images]
            aims = [
                {k: v.to(process.device) if hasattr(v, "to") else v for k, v in target.items()}
                for target in targets
            ]
            with _autocast(process.device, autocast):
                losses = model(inputs, aims)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(images)
            count += len(images)
    parts = all_gather((sums, count))
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


def _autocast(device: torch.device, dtype: torch.dtype | None) -> Any:
    if dtype is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype)


def _has_masks(model: nn.Module) -> bool:
    heads = getattr(model, "roi_heads", None)
    return heads is not None and heads.has_mask()
