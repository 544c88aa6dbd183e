"""Detectors side by side on the same images: every difference with its interval, and a verdict."""

import importlib.metadata
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NotRequired, TypedDict

import numpy as np

from detnet.coco.ground_truth import GroundTruth, GroundTruthSource, read_ground_truth
from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation
from detnet.evaluation.comparison.accumulation import accumulate, weighted_scores
from detnet.evaluation.detections import read_detections
from detnet.evaluation.grid import Measure, make_grid
from detnet.evaluation.matching import ClassRankings, Matches, class_rankings, match

RESAMPLES = (100, 20_000)  # fewest and most
NOISE = "cannot be told from noise"

SCORE_OF_FOUND = 0.5  # below it a detection does not count as finding its object

_NUMBERS_AT_ONCE = 4_000_000


class Difference(TypedDict):
    """Two scores, the other's less the first's, and the interval that it lies in."""

    first: float
    other: float
    difference: float
    low: float | None
    high: float | None
    verdict: str


Cell = Difference | None  # None where there is no ground truth


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


class Comparison(TypedDict):
    """Detectors beside the first of them.

    `scores` are each detector's as `score` gives them. Of files and runs there are `annotations`
    and `sources`, where they were measured `cost`, as `detnet.report.comparison_cost` has it.
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
    cost: NotRequired[Any]


def compare(
    annotations: GroundTruthSource,
    results: Sequence[Path | str | list[dict[str, Any]]],
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
    _check(results, names, resamples, confidence)
    if seed < 0:
        raise InputError(f"seed must not be negative, got {seed}")
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


def _check(results: Sequence[Any], names: Sequence[str], resamples: int, confidence: float) -> None:
    if len(results) < 2:
        raise InputError(f"a comparison needs at least two results, got {len(results)}")
    if len(names) != len(results) or len(set(names)) != len(names):
        raise InputError(f"{len(results)} results need as many different names, got {list(names)}")
    least, most = RESAMPLES
    if not least <= resamples <= most:
        raise InputError(f"resamples is {resamples}, must be {least} to {most:,}")
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
        self._images = _images_with_objects(models[0].truth, models[0].truth_ignored)
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
        return _difference(values, means[other] - means[0], images, self._confidence)

    def _class(self, rows: list[dict[str, Any]], other: int, k: int) -> dict[str, Cell]:
        drawn = self._drawn.classes[other, k] - self._drawn.classes[0, k]
        images = self._images[1][k]
        return {
            key: _difference([row[key] for row in rows], drawn[q], images, self._confidence)
            for q, key in enumerate(self._per_class)
        }


def _images_with_objects(truth: GroundTruth, ignored: np.ndarray) -> tuple[list[int], list[int]]:
    """On how many images there is something to be found, by size (A,) and by class (K,)."""
    by_size = [len(np.unique(truth.images[~row])) for row in ignored]
    pairs = np.unique(np.stack([truth.categories, truth.images])[:, ~ignored[0]], axis=1)
    return by_size, np.bincount(pairs[0], minlength=len(truth.names)).tolist()


def _difference(
    values: list[float | None], drawn: np.ndarray, images: int, confidence: float
) -> Cell:
    """The other's score less the first's, with the middle part of the resampled differences.

    Args:
        values: first, other.
        drawn: (R,) resampled differences, NaN where there was nothing to be found.
        images: on which there is something to be found.
    """
    first, other = values
    if first is None or other is None:
        return None
    low = high = None
    verdict = NOISE
    defined = drawn[~np.isnan(drawn)]
    if 2 * len(defined) >= len(drawn):
        edges = [(1 - confidence) / 2, (1 + confidence) / 2]
        low, high = np.quantile(defined.astype(np.float64), edges).tolist()
        if images >= _images_needed(confidence) and (low > 0 or high < 0):
            verdict = "higher" if low > 0 else "lower"
    return {
        "first": first,
        "other": other,
        "difference": other - first,
        "low": low,
        "high": high,
        "verdict": verdict,
    }


def _images_needed(confidence: float) -> int:
    """On fewer, even a difference of the same sign on every image is not rare by chance.

    Of n images that differ at random all differ the same way with probability 2^(1 - n), while
    resamples of so few hardly differ and their interval is far too narrow.
    """
    return math.ceil(1 - math.log2(1 - confidence))


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


@dataclass(frozen=True)
class Resamples:
    """Scores of each model in each resample, NaN where the resample holds no such object.

    Args:
        means: (models, measures, resamples), averaged over the classes that have objects.
        classes: (models, classes, class measures, resamples).
    """

    means: np.ndarray
    classes: np.ndarray


def bootstrap(
    models: Sequence[Matches],
    measures: Sequence[Measure],
    class_measures: Sequence[Measure],
    *,
    resamples: int,
    seed: int,
    progress: Callable[[int, int], None] | None = None,
) -> Resamples:
    """Scores all models on the same resamples of their common images.

    Args:
        models: matches against the same ground truth, on the same grid.
        class_measures: those that are also wanted class by class.
        progress: called with the number of resamples done and their total.
    """
    truth = models[0].truth
    limits = sorted({(m.size, m.limit) for m in (*measures, *class_measures)})
    rankings = [
        [class_rankings(model, k, limits) for k in range(len(truth.names))] for model in models
    ]
    means = np.full((len(models), len(measures), resamples), np.nan)
    # Of many classes (LVIS has 1,203) these are many; 7 digits are enough for intervals.
    shape = (len(models), len(truth.names), len(class_measures), resamples)
    classes = np.full(shape, np.nan, np.float32)
    images, done = len(truth.image_ids), 0
    for weights in image_weights(images, resamples, seed, _columns(images, rankings)):
        until = done + weights.shape[1]
        for i, of_model in enumerate(rankings):
            means[i, :, done:until], classes[i, :, :, done:until] = weighted_scores(
                of_model, weights, measures, class_measures
            )
        done = until
        if progress is not None:
            progress(done, resamples)
    return Resamples(means, classes)


def _columns(images: int, rankings: Sequence[Sequence[ClassRankings]]) -> int:
    """How many resamples are worked on at once, so that memory does not grow with the data."""
    hits = (len(r.hits) for model in rankings for k in model for r in k.rankings.values())
    return int(np.clip(_NUMBERS_AT_ONCE // max(images, *hits, 1), 16, 1000))


def image_weights(images: int, resamples: int, seed: int, columns: int) -> Iterator[np.ndarray]:
    """Blocks of weights (I, R): how often each image is drawn; the same whatever the block."""
    random = np.random.default_rng(seed)
    for begin in range(0, resamples, columns):
        width = min(columns, resamples - begin)
        drawn = random.integers(0, images, (width, images))
        drawn += np.arange(width)[:, None] * images
        counts = np.bincount(drawn.ravel(), minlength=width * images).reshape(width, images)
        yield np.ascontiguousarray(counts.T, np.float32)
