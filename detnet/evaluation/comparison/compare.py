"""Detectors side by side on the same images: every difference with its interval, and a verdict."""

import importlib.metadata
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from detnet.coco.ground_truth import GroundTruth, GroundTruthSource, read_ground_truth
from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.comparison.accumulation import accumulate
from detnet.evaluation.comparison.bootstrap import Cell, bootstrap, tell_difference
from detnet.evaluation.detections import read_detections
from detnet.evaluation.grid import Measure, make_grid
from detnet.evaluation.matching import Matches, match
from detnet.evaluation.results import ResultsSource

RESAMPLES = (100, 20_000)  # fewest and most

SCORE_OF_FOUND = 0.5  # below it a detection does not count as finding its object


class PairDifferences(TypedDict):
    """Of one detector from the first, by the keys of the scores."""

    name: str
    headline: dict[str, Cell]
    by_iou_and_size: dict[str, dict[str, dict[str, Cell]]]
    per_class: dict[str, dict[str, Cell]]


class ImageObjects(TypedDict):
    """Objects of an image, as positions among the annotations."""

    image_id: int
    file_name: NotRequired[str | None]
    truths: list[int]


class PairPictures(TypedDict):
    """Images with objects that only one of two detectors finds, most objects first."""

    name: str
    only_first: list[ImageObjects]
    only_other: list[ImageObjects]


class ModelCost(TypedDict):
    """What one compared detector costs.

    Multiply-adds of the whole detector on the first image, and of its backbone and pyramid; its
    parameters; height and width to which that image was scaled; speed on this machine.
    """

    macs: int
    body_macs: int
    params: int
    input_size: tuple[int, int]
    images_per_s: float


class ComparedCost(TypedDict):
    """What compared detectors cost, None where there is no model at hand.

    `images` are those that were run, `precision` is fp32 or bf16, `device` cpu or the GPU's name,
    `threads` the processor's.
    """

    images: int
    precision: str
    device: str
    threads: int
    models: list[ModelCost | None]


class Comparison(TypedDict):
    """Detectors beside the first of them.

    `scores` are each detector's as `score` gives them. Of files and runs there are `annotations`
    and `sources`, where they were told `weights` ("" of a results file), where measured `cost`.
    """

    names: list[str]
    iou_type: str
    images: int
    resamples: int
    seed: int
    confidence: float
    ground_truth: str
    ground_truth_taken: str
    scores: list[dict[str, Any]]
    differences: list[PairDifferences]
    pictures: list[PairPictures]
    notes: NotRequired[list[str]]
    annotations: NotRequired[str]
    sources: NotRequired[list[str]]
    weights: NotRequired[list[str]]
    cost: NotRequired[ComparedCost]


def compare(
    annotations: GroundTruthSource,
    results: Sequence[ResultsSource],
    *,
    names: Sequence[str],
    iou_type: str = "bbox",
    resamples: int = 2000,
    seed: int = 0,
    confidence: float = 0.95,
    iou_thresholds: Iterable[float] = (),
    areas: Mapping[str, tuple[float, float]] | None = None,
    max_dets: Iterable[int] = (),
    sigmas: Iterable[float] = (),
    progress: Callable[[int, int], None] | None = None,
) -> Comparison:
    """Compares detectors with the first of them, by paired bootstrap over images.

    Each is matched once; docs/comparison.md tells what the intervals mean and what they do not.

    Args:
        annotations: COCO ground truth: a file, its content, or a `GroundTruth` of the same kind.
        results: at least two COCO results on it, files or their records.
        names: of the detectors, all different.
        resamples: 100 to 20,000 draws of as many images as there are.
        confidence: share of the bootstrap differences that the interval holds, its middle part.
        iou_type, sigmas: as in `evaluate`.
        iou_thresholds, areas, max_dets: as in `evaluate`, added to COCO's.
        progress: called with the number of resamples done and their total.

    Returns:
        "scores" of each detector as `score` gives them; "differences" of each after the first:
        "headline", "by_iou_and_size" and "per_class" with the keys of the scores, where a number
        has become {"first", "other", "difference", "low", "high", "verdict"}, or None without
        ground truth; "pictures" of each after the first: "only_first" and "only_other", images
        with the positions of the annotations that one finds (IoU or OKS 0.5, right class, score 0.5
        or more) and the other misses, most first.

    Raises:
        InputError: a file, a record or an argument cannot be used.
    """
    _check(results, names, resamples, seed, confidence)
    grid = make_grid(
        iou_type, iou_thresholds=iou_thresholds, areas=areas, max_dets=max_dets, sigmas=sigmas
    )
    truth = read_ground_truth(annotations, iou_type=iou_type)
    if not len(truth.image_ids):
        file = annotations if isinstance(annotations, Path | str) else "annotations"
        raise InputError(f"{file}: it has no images to compare on")
    models, scores = [], []
    for source in results:
        detections = read_detections(source, truth, iou_type=iou_type)
        matches = match(truth, detections, grid)
        made_by = f"detnet {importlib.metadata.version('detnet')}"
        evaluation = Evaluation(truth, detections, grid, accumulate(matches), made_by, matches)
        models.append(matches)
        scores.append(evaluation.scores().to_json())
    samples = _Samples(models, resamples, seed, confidence, progress)
    others = range(1, len(models))
    return {
        "names": list(names),
        "iou_type": iou_type,
        "images": len(truth.image_ids),
        "resamples": resamples,
        "seed": seed,
        "confidence": confidence,
        "ground_truth": scores[0]["ground_truth"],
        "ground_truth_taken": truth.taken,
        "scores": scores,
        "differences": [samples.differences(names[i], scores, i) for i in others],
        "pictures": [_pictures(names[i], models[0], models[i]) for i in others],
    }


def _check(
    results: Sequence[Any], names: Sequence[str], resamples: int, seed: int, confidence: float
) -> None:
    if len(results) < 2:
        raise InputError(f"a comparison needs at least two results, got {len(results)}")
    if len(names) != len(results) or len(set(names)) != len(names):
        raise InputError(f"{len(results)} results need as many different names, got {list(names)}")
    least, most = RESAMPLES
    if not least <= resamples <= most:
        raise InputError(f"resamples is {resamples}, must be {least} to {most:,}")
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
    if not 0.5 < confidence < 1:
        raise InputError(f"confidence is {confidence}, must be above 0.5 and below 1, such as 0.95")


class _Samples:
    """The bootstrap of all detectors, and how each number of the scores is found in it."""

    def __init__(
        self,
        models: Sequence[Matches],
        resamples: int,
        seed: int,
        confidence: float,
        progress: Callable[[int, int], None] | None,
    ) -> None:
        grid = models[0].grid
        self._headline, self._per_class = grid.headline, grid.per_class
        self._tables = {
            (size, row, key): measure
            for size, rows in grid.by_iou_and_size.items()
            for row, cells in rows.items()
            for key, measure in cells.items()
        }
        measures = {m: None for m in (*self._headline.values(), *self._tables.values())}
        self._index = {measure: q for q, measure in enumerate(measures)}
        self._drawn = bootstrap(
            models,
            list(measures),
            list(self._per_class.values()),
            resamples=resamples,
            seed=seed,
            progress=progress,
        )
        self._images = images_with_objects(models[0].truth, models[0].truth_ignored)
        self._confidence = confidence

    def differences(
        self, name: str, scores: Sequence[Mapping[str, Any]], other: int
    ) -> PairDifferences:
        """Of one detector from the first: headline, by IoU and size, per class."""
        pair = (scores[0], scores[other])
        tables: dict[str, dict[str, dict[str, Cell]]] = {}
        for (size, row, key), measure in self._tables.items():
            cells = tables.setdefault(size, {}).setdefault(row, {})
            values = [each["by_iou_and_size"][size][row][key] for each in pair]
            cells[key] = self._mean(values, other, measure)
        return {
            "name": name,
            "headline": {
                key: self._mean([each[key] for each in pair], other, measure)
                for key, measure in self._headline.items()
            },
            "by_iou_and_size": tables,
            "per_class": {
                name: self._class([each["per_class"][name] for each in pair], other, k)
                for k, name in enumerate(pair[0]["per_class"])
            },
        }

    def _mean(self, values: list[float | None], other: int, measure: Measure) -> Cell:
        means = self._drawn.means[:, self._index[measure]]
        images = self._images[0][measure.size]
        return tell_difference(values, means[other] - means[0], images, self._confidence)

    def _class(self, rows: list[dict[str, Any]], other: int, k: int) -> dict[str, Cell]:
        drawn = self._drawn.classes[other, k] - self._drawn.classes[0, k]
        images = self._images[1][k]
        return {
            key: tell_difference([row[key] for row in rows], drawn[q], images, self._confidence)
            for q, key in enumerate(self._per_class)
        }


def images_with_objects(truth: GroundTruth, ignored: np.ndarray) -> tuple[list[int], list[int]]:
    """On how many images there is something to be found, by size (A,) and by class (K,)."""
    by_size = [len(np.unique(truth.images[~row])) for row in ignored]
    pairs = np.unique(np.stack([truth.categories, truth.images])[:, ~ignored[0]], axis=1)
    return by_size, np.bincount(pairs[0], minlength=len(truth.names)).tolist()


def _pictures(name: str, first: Matches, other: Matches) -> PairPictures:
    found = [_found(first), _found(other)]
    return {
        "name": name,
        "only_first": _by_image(first.truth, found[0] & ~found[1]),
        "only_other": _by_image(first.truth, found[1] & ~found[0]),
    }


def _found(matches: Matches) -> np.ndarray:
    """(G,) objects, crowds left out, found at IoU or OKS 0.5 by a detection that is sure enough."""
    grid = matches.grid
    sure = (matches.scores >= SCORE_OF_FOUND) & (matches.ranks < grid.max_dets[grid.coco_most])
    objects = matches.matched[0, grid.threshold(0.5), sure]
    found = np.zeros(len(matches.truth.images), bool)
    found[objects[objects >= 0]] = True
    return found & ~matches.truth_ignored[0]


def _by_image(truth: GroundTruth, chosen: np.ndarray) -> list[ImageObjects]:
    """Images with their chosen objects, most objects first, then by image id."""
    rows = np.flatnonzero(chosen)
    rows = rows[np.argsort(truth.images[rows], kind="stable")]
    images, begins = np.unique(truth.images[rows], return_index=True)
    groups = np.split(rows, begins[1:])
    order = sorted(range(len(images)), key=lambda i: -len(groups[i]))
    return [
        {"image_id": int(truth.image_ids[images[i]]), "truths": groups[i].tolist()} for i in order
    ]
