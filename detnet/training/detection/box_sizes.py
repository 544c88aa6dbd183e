"""What the sizes of the training boxes decide: anchors, and the levels that find them."""

from dataclasses import replace

import numpy as np
import torch

from detnet.coco.annotations import Annotations
from detnet.coco.categories import Categories
from detnet.detectors import DETECTORS
from detnet.detectors.base import Detector
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector

# Of the k-means that finds anchors.
_RESTARTS = 5
_MOST_ROUNDS = 300
_MOST_BOXES = 50_000  # more would change no anchor by a pixel, and cost minutes on COCO
_PURPOSE = 7201  # of random numbers: draws here are no one else's


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
    with torch.device("meta"):
        square = build_detector(config, Categories((1,), ("thing",))).transform.square
    sizes = training_sizes(config, annotations, square=square)
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


def training_sizes(config: TrainConfig, annotations: Annotations, *, square: bool) -> np.ndarray:
    """Widths and heights of the training boxes as the network gets them, at each of `min_sizes`.

    Args:
        square: whether the network's images are squares.

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


def tell_levels(model: Detector, config: TrainConfig, annotations: Annotations) -> list[str]:
    """Says in a line what share of the training boxes each level finds, if sizes decide it.

    On images that are small for a detector's sizes the coarse levels find nothing, and backbones
    that differ there are not told apart.

    Args:
        annotations: the training split.
    """
    if not model.count_by_level(torch.empty(0, 2)):
        return []
    sizes = torch.from_numpy(training_sizes(config, annotations, square=model.transform.square))
    counts = model.count_by_level(sizes)
    shares = ", ".join(f"{name} {count / len(sizes):.0%}" for name, count in counts.items())
    return [f"levels that find the training boxes, by their sizes: {shares}"] if len(sizes) else []


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
