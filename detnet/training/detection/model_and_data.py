"""What a detection run works on: its data, their anchors, and the network of its settings."""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from detnet.coco.annotations import Annotations, require_images
from detnet.coco.categories import Categories
from detnet.coco.ground_truth import GroundTruths
from detnet.coco.keypoints import KeypointLayout
from detnet.coco.scorable import AS_IT_IS
from detnet.data.batches import TrainBatches
from detnet.data.dataset import DetectionDataset
from detnet.data.folders import Split
from detnet.data.reading import fingerprint_files, load_annotations, load_scored
from detnet.data.transforms import Augmentation
from detnet.detectors import DETECTORS, create
from detnet.detectors.base import Detector, info_of
from detnet.engine.distributed import Process
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig, find_train, find_val

# Of the k-means that finds anchors.
_RESTARTS = 5
_MOST_ROUNDS = 300
_MOST_BOXES = 50_000  # more would change no anchor by a pixel, and cost minutes on COCO
_PURPOSE = 7201  # of random numbers: draws here are no one else's


@dataclass(frozen=True)
class DetectionData:
    """The data of a run.

    Args:
        train, val: annotations; `val` is None where the data set has no such split.
        truths: what is to be found on `val`.
        notes: one line for each thing that was repaired or left out.
        fingerprint: of the training annotations, by which a resumed run knows its data again.
        split: where `val` comes from.
    """

    train: Annotations
    val: Annotations | None
    notes: list[str]
    fingerprint: str
    truths: GroundTruths | None = None
    split: Split | None = None

    def file_names(self, image_ids: Iterable[int]) -> list[str]:
        """The training images with these ids."""
        places = {int(image_id): index for index, image_id in enumerate(self.train.image_ids)}
        return [self.train.file_name(places[image_id]) for image_id in image_ids]


def load_data(config: TrainConfig) -> DetectionData:
    """Reads the annotations of both splits and repairs what is safe.

    Raises:
        InputError: no such data, errors in it, missing images, or other categories in val.
    """
    targets = DETECTORS[config.detector].targets
    masks, keypoints = "masks" in targets, "keypoints" in targets
    split = find_train(config)
    train, repairs = load_annotations(
        split, masks=masks, keypoints=keypoints, keep_empty=not config.skip_empty
    )
    if not len(train):
        with_objects = " with objects" if config.skip_empty else ""
        raise InputError(f"{split.annotations}: has no images{with_objects} to train on")
    require_images(train)
    notes = [f"{split.name}: {repair}" for repair in repairs]
    val, truths, split_val = None, None, find_val(config)
    if split_val is not None:
        val, repairs, truths = load_scored(
            split_val,
            masks=masks,
            keypoints=keypoints,
            categories=train.categories,
            layout=train.keypoint_layout,
            categories_of=str(split.annotations),
        )
        require_images(val)
        notes += [f"{split_val.name}: {repair}" for repair in repairs]
        if repairs or truths.bbox.taken != AS_IT_IS:
            notes.append(f"{split_val.name}: ground truth of its scores: {truths.bbox.taken}")
    else:
        notes.append("no validation split: nothing is evaluated, no best model is kept")
    return DetectionData(train, val, notes, fingerprint_files(split), truths, split_val)


def make_dataset(config: TrainConfig, annotations: Annotations) -> DetectionDataset:
    """The training split with the run's augmentation."""
    transform = Augmentation(
        min_sizes=tuple(config.min_sizes),
        max_size=config.max_size,
        flip_h=config.flip,
        flip_v=config.flip_vertical,
        color_jitter=config.color_jitter,
    )
    return DetectionDataset(
        annotations,
        transform,
        seed=config.seed,
        masks=annotations.masks is not None,
        keypoints=annotations.keypoints is not None,
    )


def make_batches(config: TrainConfig, annotations: Annotations, process: Process) -> TrainBatches:
    """Deals the training images out to processes and accumulated batches.

    Raises:
        InputError: the batch cannot be divided.
    """
    return TrainBatches(
        annotations,
        batch_size=config.batch_of(process.world_size),
        seed=config.seed,
        aspect_grouping=config.aspect_grouping,
        repeat_threshold=config.repeat_threshold,
        rank=process.rank,
        world_size=process.world_size,
    )


def build_detector(
    config: TrainConfig, categories: Categories, layout: KeypointLayout | None = None
) -> Detector:
    """Builds the detector that the settings describe, its weights drawn at random.

    Raises:
        InputError: an unknown name or option.
    """
    options: dict[str, Any] = {
        "width": config.width,
        "stride_in": config.stride_place,
        "norm": "sync" if config.norm == "auto" else config.norm,
        "frozen": tuple(config.frozen),
        "min_size": config.test_min_size or config.min_sizes[-1],
        "max_size": config.max_size,
        "backbone_options": config.backbone_options,
    }
    if twice := next((name for name in config.detector_options if name in options), None):
        own = "test_min_size" if twice == "min_size" else twice
        raise InputError(f"detector_options: {twice} is a setting of its own: give {own}")
    options |= config.detector_options
    if layout is not None and options.setdefault("num_keypoints", len(layout)) != len(layout):
        given = options["num_keypoints"]
        raise InputError(f"detector_options: num_keypoints is {given}, the data have {len(layout)}")
    try:
        model = create(
            config.detector,
            backbone=config.backbone,
            num_classes=len(categories) + 1,
            **options,
        )
    except (TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"detector_options: {error}") from error
    info_of(model).categories = layout.to_json(categories) if layout else categories.to_json()
    return model


def with_anchors(config: TrainConfig, annotations: Annotations) -> tuple[TrainConfig, list[str]]:
    """Finds the anchors of a detector that needs some, unless its settings give them.

    Args:
        annotations: the training split.

    Returns:
        the settings with `detector_options.anchor_sizes`, and a line that says what they are.

    Raises:
        InputError: there is no object to find them by.
    """
    count = DETECTORS[config.detector].anchors_of_data
    if not count or config.detector_options.get("anchor_sizes"):
        return config, []
    sizes = training_sizes(config, annotations)
    if not len(sizes):
        raise InputError(
            f"{annotations.path}: has no objects to find anchors by; give "
            "detector_options.anchor_sizes"
        )
    anchors, overlap = cluster(sizes, count, seed=config.seed)
    pairs = [[round(float(side), 2) for side in anchor] for anchor in anchors]
    shown = ", ".join(f"{width:.0f}×{height:.0f}" for width, height in pairs)
    note = (
        f"anchors by k-means on {len(sizes)} training boxes: {shown} pixels; a box overlaps the "
        f"nearest by {overlap:.2f} on average"
    )
    options = {**config.detector_options, "anchor_sizes": pairs}
    return replace(config, detector_options=options), [note]


def training_sizes(config: TrainConfig, annotations: Annotations) -> np.ndarray:
    """Widths and heights of the training boxes as the network gets them, at each of `min_sizes`.

    Returns:
        (B, 2) float64, pixels; drawn by the run's seed where there are very many.
    """
    counts = np.diff(annotations.offsets)
    image = np.repeat(np.arange(len(counts)), counts)
    rows = np.flatnonzero(~annotations.crowd)
    most = max(1, _MOST_BOXES // len(config.min_sizes))
    if len(rows) > most:
        generator = np.random.default_rng((config.seed, _PURPOSE, 0))
        rows = np.sort(generator.choice(rows, most, replace=False))
    sides = annotations.sizes[image[rows]].astype(np.float64)
    boxes = annotations.boxes[rows].astype(np.float64)
    own = boxes[:, 2:] - boxes[:, :2]
    with torch.device("meta"):
        square = build_detector(config, Categories((1,), ("thing",))).transform.square
    found = [
        own * _resized(sides, min_size, config.max_size, square=square) / sides
        for min_size in config.min_sizes
    ]
    return np.concatenate(found)


def _resized(sides: np.ndarray, min_size: int, max_size: int, *, square: bool) -> np.ndarray:
    """Width and height of images, (I, 2), as training resizes them."""
    scale = np.minimum(min_size / sides.min(axis=1), max_size / sides.max(axis=1))
    new = np.maximum(1, np.floor(sides * scale[:, None]))
    return np.broadcast_to(new.min(axis=1, keepdims=True), new.shape) if square else new


def cluster(sizes: np.ndarray, count: int, *, seed: int) -> tuple[np.ndarray, float]:
    """Finds the sizes around which boxes gather, the distance being 1 − IoU of their shapes.

    Args:
        sizes: (B, 2), widths and heights.
        count: of clusters; fewer come out where there are fewer different sizes.
        seed: of the first guesses, of which the best is taken.

    Returns:
        (count, 2) means of the clusters, small to large, and the mean IoU of a box with its own.

    Paper: Redmon & Farhadi 2017, arXiv:1612.08242, Section 2, "Dimension Clusters".
    """
    count = min(count, len(np.unique(sizes, axis=0)))
    best, best_overlap = sizes[:count], -1.0
    for restart in range(_RESTARTS):
        generator = np.random.default_rng((seed, _PURPOSE, 1, restart))
        centres = _refined(sizes, _first_guess(sizes, count, generator))
        overlap = float(_overlaps(sizes, centres).max(axis=1).mean())
        if overlap > best_overlap:
            best, best_overlap = centres, overlap
    return best[np.argsort(best.prod(axis=1), kind="stable")], best_overlap


def _first_guess(sizes: np.ndarray, count: int, generator: np.random.Generator) -> np.ndarray:
    """Draws boxes, each with a chance that grows with its distance from those before."""
    centres = sizes[[generator.integers(len(sizes))]]
    while len(centres) < count:
        distance = np.clip(1 - _overlaps(sizes, centres).max(axis=1), 0, None) ** 2
        if not distance.any():  # all that are left differ by rounding only
            break
        chosen = generator.choice(len(sizes), p=distance / distance.sum())
        centres = np.concatenate([centres, sizes[[chosen]]])
    return centres


def _refined(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """Moves each centre to the mean of its boxes until no box changes sides."""
    owner = np.full(len(sizes), -1)
    for _ in range(_MOST_ROUNDS):
        nearest = _overlaps(sizes, centres).argmax(axis=1)
        if (nearest == owner).all():
            break
        owner = nearest
        members = [sizes[owner == index] for index in range(len(centres))]
        pairs = zip(members, centres, strict=True)
        centres = np.stack([own.mean(axis=0) if len(own) else old for own, old in pairs])
    return centres


def _overlaps(sizes: np.ndarray, centres: np.ndarray) -> np.ndarray:
    """IoU of boxes laid on one corner, (B, 2) and (C, 2) to (B, C)."""
    common = np.minimum(sizes[:, None], centres).prod(axis=2)
    return common / (sizes.prod(axis=1)[:, None] + centres.prod(axis=1) - common)
