"""The bootstrap: all detectors on the same images, drawn with replacement, by the seed alone."""

import numpy as np
import pytest

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation.comparison import accumulation
from detnet.evaluation.comparison import bootstrap as bootstrap_module
from detnet.evaluation.comparison.accumulation import accumulate, weighted_scores
from detnet.evaluation.comparison.bootstrap import bootstrap, least_images
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import Measure, make_grid
from detnet.evaluation.matching import Matches, class_rankings, match
from tests.evaluation.columns import random_case

MEASURES = [
    Measure("AP", 0, 2, tuple(range(10))),
    Measure("AP", 3, 2, (0, 5)),
    Measure("AR", 1, 0, tuple(range(10))),
]


def one_object_each(found: np.ndarray) -> Matches:
    """Images of one object of the class their number tells, found or missed by its one box."""
    count = len(found)
    images, boxes = np.arange(count), np.tile([[5.0, 6, 20, 30]], (count, 1))
    kinds, areas = images % 2, np.full(count, 600.0)
    truth = GroundTruth(
        np.zeros((count, 2), int), ("a", "b"), images, np.arange(2), images, kinds, boxes, areas,
        np.zeros(count, bool), None,
    )  # fmt: skip
    shifted = boxes + np.where(found, 0, 40)[:, None] * [1, 0, 0, 0]
    detections = Detections(images, kinds, shifted, areas, np.full(count, 0.5), None)
    return match(truth, detections, make_grid())


def test_weights_of_one_give_the_means_of_the_tables() -> None:
    compared = 0
    for seed in range(60):
        truth, detections, _ = random_case(seed)
        if truth.masks is not None:
            continue
        matches = match(truth, detections, make_grid())
        tables = accumulate(matches)
        limits = sorted({(m.size, m.limit) for m in MEASURES})
        rankings = [class_rankings(matches, k, limits) for k in range(len(truth.names))]
        weights = np.ones((len(truth.image_ids), 1))
        means, classes = weighted_scores(rankings, weights, MEASURES, MEASURES)
        for q, measure in enumerate(MEASURES):
            table = tables.recall if measure.of == "AR" else tables.precision.mean(axis=1)
            values = table[list(measure.thresholds)][..., measure.size, measure.limit].mean(axis=0)
            there = values > -1
            expected = values[there].mean() if there.any() else np.nan
            np.testing.assert_allclose(means[q, 0], expected, rtol=0, atol=1e-9)
            values[~there] = np.nan
            np.testing.assert_allclose(classes[:, q, 0], values, rtol=0, atol=1e-9)
            compared += int(there.sum())
    assert compared > 100


def test_recall_varies_as_drawing_with_replacement_does() -> None:
    # With one object an image recall is the share of drawn images that are hits.
    found = np.arange(400) % 8 < 6
    matches = one_object_each(found)
    recall = Measure("AR", 0, 2, (0,))
    scores = bootstrap([matches], [recall], [recall], resamples=2000, seed=3)
    assert scores.means.shape == (1, 1, 2000) and scores.classes.shape == (1, 2, 1, 2000)
    share = np.array([found[::2].mean(), found[1::2].mean()])
    spread = np.sqrt(share * (1 - share) / 200)
    np.testing.assert_allclose(scores.classes.mean(axis=3)[0, :, 0], share, atol=0.004)
    np.testing.assert_allclose(scores.classes.std(axis=3)[0, :, 0], spread, rtol=0.08)
    np.testing.assert_allclose(scores.means.std(), np.sqrt((spread**2).sum()) / 2, rtol=0.08)


def test_models_are_scored_on_the_same_images() -> None:
    found = np.arange(60) % 3 < 2
    same, worse = one_object_each(found), one_object_each(found & (np.arange(60) != 1))
    scores = bootstrap([same, same, worse], MEASURES, [], resamples=200, seed=0)
    np.testing.assert_array_equal(scores.means[0], scores.means[1])
    # One more hit is never worse on any draw, and as good only where that image is not drawn.
    lost = scores.means[0, 2] - scores.means[2, 2]
    assert (lost >= 0).all() and 0.25 < (lost == 0).mean() < 0.5


def test_a_class_absent_from_a_resample_is_left_out() -> None:
    matches = one_object_each(np.array([True, False, True]))  # class b in one image only
    recall = Measure("AR", 0, 2, (0,))
    none_large = Measure("AR", 3, 2, (0,))
    scores = bootstrap([matches], [recall, none_large], [recall], resamples=300, seed=1)
    a, b = scores.classes[0, :, 0]
    absent = np.isnan(b)
    assert 0.2 < absent.mean() < 0.4  # (2/3)³ = 0.30
    np.testing.assert_array_equal(scores.means[0, 0][absent], a[absent])
    assert np.isnan(scores.means[0, 1]).all()


def test_blocks_change_nothing_and_seeds_do(monkeypatch: pytest.MonkeyPatch) -> None:
    truth, detections, _ = random_case(1)
    matches = match(truth, detections, make_grid())
    heard: list[tuple[int, int]] = []

    def run(seed: int) -> np.ndarray:
        heard.clear()
        return bootstrap(
            [matches], MEASURES, [], resamples=100, seed=seed,
            progress=lambda done, total: heard.append((done, total)),
        ).means  # fmt: skip

    whole = run(5)
    assert heard == [(100, 100)]
    monkeypatch.setattr(bootstrap_module, "_NUMBERS_AT_ONCE", 1)
    np.testing.assert_allclose(run(5), whole, rtol=0, atol=1e-6)
    assert len(heard) == 7 and heard[-1] == (100, 100)
    assert np.nanmax(np.abs(run(6) - whole)) > 0.01


def test_many_objects_are_counted_in_double_precision(monkeypatch: pytest.MonkeyPatch) -> None:
    matches = one_object_each(np.arange(30) % 3 < 2)
    single = bootstrap([matches], MEASURES, [], resamples=100, seed=0).means
    monkeypatch.setattr(accumulation, "_EXACT_IN_FLOAT32", 1)
    double = bootstrap([matches], MEASURES, [], resamples=100, seed=0).means
    assert np.nanmax(np.abs(double - single)) < 1e-6
    assert (double != single).any()


def test_an_interval_takes_as_many_images_as_signs_take() -> None:
    assert least_images(0.95) == 6
