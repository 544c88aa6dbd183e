"""Weights of 1 give the evaluators' tables; other weights what images written twice give."""

from dataclasses import replace

import numpy as np
import pytest

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation.comparison import accumulation
from detnet.evaluation.comparison.accumulation import (
    accumulate,
    average_precision,
    hits_within,
)
from detnet.evaluation.detections import Detections
from detnet.evaluation.engines import run_engine
from detnet.evaluation.grid import make_grid
from detnet.evaluation.matching import Matches, class_rankings, match
from tests.evaluation.columns import keypoint_case, random_case


@pytest.mark.parametrize("engine", ["hotcoco", "pycocotools"])
def test_tables_are_those_of_the_evaluators(engine: str) -> None:
    averaged = 0
    for seed in range(120):
        truth, detections, grid = random_case(seed)
        expected = run_engine(engine, truth, detections, grid)
        ours = accumulate(match(truth, detections, grid))
        np.testing.assert_allclose(ours.precision, expected.precision, rtol=0, atol=1e-12)
        np.testing.assert_allclose(ours.recall, expected.recall, rtol=0, atol=1e-12)
        averaged += int(((ours.precision > 0) & (ours.precision < 1)).sum())
    assert averaged > 50_000  # the cases say something


def test_tables_of_keypoints_are_those_of_the_evaluator() -> None:
    averaged = 0
    for seed in range(60):
        truth, detections, grid = keypoint_case(seed)
        expected = run_engine("hotcoco", truth, detections, grid)
        ours = accumulate(match(truth, detections, grid))
        np.testing.assert_allclose(ours.precision, expected.precision, rtol=0, atol=1e-9)
        np.testing.assert_allclose(ours.recall, expected.recall, rtol=0, atol=1e-9)
        averaged += int(((ours.precision > 0) & (ours.precision < 1)).sum())
    assert averaged > 10_000  # the cases say something


def weighted(matches: Matches, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(T, K, A, M, R) average precision and recall, -1 where there are no objects."""
    grid, classes = matches.grid, len(matches.truth.names)
    shape = (len(grid.iou_thresholds), classes, len(grid.areas), len(grid.max_dets))
    precision, recall = -np.ones((2, *shape, weights.shape[1]))
    limits = [(a, m) for a in range(shape[2]) for m in range(shape[3])]
    for k in range(classes):
        of_class = class_rankings(matches, k, limits)
        for (a, t, m), ranking in of_class.rankings.items():
            objects = weights[of_class.objects[a]].sum(axis=0)
            some = np.maximum(objects, 1)
            ap = average_precision(ranking, weights, some)
            precision[t, k, a, m] = np.where(objects, ap, -1)
            recall[t, k, a, m] = np.where(objects, hits_within(ranking, weights) / some, -1)
    return precision, recall


def repeated(
    truth: GroundTruth, detections: Detections, counts: np.ndarray
) -> tuple[GroundTruth, Detections]:
    """Each image as often as told, its copies with all they hold as images of their own."""
    first = np.cumsum(counts) - counts

    def columns(of: GroundTruth | Detections) -> dict[str, object]:
        times = counts[of.images]
        rows = np.repeat(np.arange(len(of.images)), times)
        copy = np.arange(len(rows)) - np.repeat(np.cumsum(times) - times, times)
        taken = {
            name: getattr(of, name)[rows]
            for name in ("categories", "boxes", "areas", "crowd", "scores")
            if hasattr(of, name)
        }
        masks = [of.masks[i] for i in rows] if of.masks is not None else None
        return taken | {"images": first[of.images[rows]] + copy, "masks": masks}

    total = int(counts.sum())
    sizes = np.repeat(truth.sizes, counts, axis=0)
    copies = replace(truth, sizes=sizes, image_ids=np.arange(total), **columns(truth))
    return copies, replace(detections, **columns(detections))


@pytest.mark.parametrize("kind, tolerance", [(np.float64, 1e-12), (np.float32, 1e-6)])
def test_a_weight_is_that_many_copies_of_an_image(kind: type, tolerance: float) -> None:
    averaged = 0
    for seed in range(60):
        truth, detections, grid = random_case(seed)
        # Among equal scores copies would stand image by image; here they stand side by side.
        tie_breaks = 1e-4 * np.arange(len(detections.scores))
        detections = replace(detections, scores=detections.scores + tie_breaks)
        weights = np.random.default_rng(seed).integers(0, 4, (len(truth.image_ids), 3))
        weights[:, 0] = 1
        matches = match(truth, detections, grid)
        precision, recall = weighted(matches, weights.astype(kind))
        for r in range(3):
            copies = match(*repeated(truth, detections, weights[:, r]), grid)
            tables = accumulate(copies)
            expected = tables.precision.mean(axis=1)
            np.testing.assert_allclose(precision[..., r], expected, rtol=0, atol=tolerance)
            np.testing.assert_allclose(recall[..., r], tables.recall, rtol=0, atol=tolerance)
            averaged += int(((expected > 0) & (expected < 1)).sum())
    assert averaged > 2000


@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_a_recall_that_is_one_of_cocos_counts_as_numpy_compares_it(kind: type) -> None:
    recalls = np.linspace(0, 1, 101)
    for objects in [*range(1, 130), 1000, 2500, 9999]:
        found = np.arange(objects + 1)
        expected = np.searchsorted(recalls, found / objects, "right")
        reached = accumulation._reached(found.astype(kind), np.array(objects, kind))
        np.testing.assert_array_equal(reached, expected)


@pytest.mark.parametrize("count", [1, 2, 3, 5, 16, 17, 80])
def test_running_results(count: int) -> None:
    rows = np.random.default_rng(count).integers(0, 99, (count, 7)).astype(np.float32)
    added, greatest = rows.copy(), rows.copy()
    accumulation._run(added, np.add)
    accumulation._run(greatest[::-1], np.maximum)
    np.testing.assert_array_equal(added, np.cumsum(rows, axis=0))
    np.testing.assert_array_equal(greatest, np.maximum.accumulate(rows[::-1])[::-1])


def test_long_rankings_are_summed_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, detections, _ = random_case(1)
    matches = match(truth, detections, make_grid())
    weights = np.random.default_rng(0).integers(0, 3, (len(truth.image_ids), 5)).astype(float)
    whole = weighted(matches, weights)
    monkeypatch.setattr(accumulation, "_NUMBERS_IN_CACHE", 6)
    np.testing.assert_array_equal(weighted(matches, weights), whole)
