"""Intervals over seeds and images against cases worked out by hand, and how often they hold."""

import math

import numpy as np
import pytest

from detnet.campaign.statistics import (
    CrossedDifference,
    SeedScores,
    crossed_difference,
    seeds_needed,
    smallest_effect,
)
from detnet.search.standalone.statistics import difference_interval, t_quantile

STILL = np.zeros(50)
RANDOM = np.random.default_rng(0)
MOVING = RANDOM.normal(0, 0.02, 400)
MOVING = (MOVING - MOVING.mean()) / MOVING.std(ddof=1) * 0.02  # of deviation 0.02 exactly


def side(values: list[float], *moves: np.ndarray) -> SeedScores:
    """Seeds whose scores move like this as images are resampled."""
    of_seeds = np.array(values)
    rows = [of_seeds[i] + moves[i % len(moves)] for i in range(len(values))]
    return SeedScores(of_seeds, np.stack(rows))


def test_seeds_alone_are_students() -> None:
    found = crossed_difference(side([0.5, 0.6, 0.7], STILL), side([0.3, 0.5], STILL), images=100)
    # Variances 0.01 and 0.02 over 3 and 2 seeds; Welch's freedom of 2 and 1 is 1.5207.
    assert found.value == pytest.approx(0.2)
    assert found.seed_variance == pytest.approx(0.03)
    assert found.image_error == 0
    error = math.sqrt(0.01 / 3 + 0.02 / 2)
    assert found.seed_error == pytest.approx(error)
    freedom = error**4 / ((0.01 / 3) ** 2 / 2 + (0.02 / 2) ** 2 / 1)
    reach = t_quantile(0.975, freedom) * error
    assert found.interval == pytest.approx((0.2 - reach, 0.2 + reach))
    assert difference_interval([0.5, 0.6, 0.7], [0.3, 0.5]) == pytest.approx(found.interval)
    assert found.verdict == "cannot tell"


def test_both_parts_weigh_their_own_quantiles() -> None:
    """Three seeds a side of variance 0.0001, the images' part as large as the seeds'."""
    first, other = [0.51, 0.50, 0.49], [0.41, 0.40, 0.39]
    part = math.sqrt(0.0002 / 3)
    moves = MOVING / 0.02 * part * math.sqrt(99 / 100)
    found = crossed_difference(side(first, moves), side(other, 0 * moves), images=100)
    assert found.seed_error == pytest.approx(part) and found.image_error == pytest.approx(part)
    assert found.interval is not None
    # t is 2.77645 for 4 degrees of freedom and 1.98422 for 99.
    reach = (2.77645 + 1.98422) / 2 * math.sqrt(2) * part
    assert found.interval[1] - found.value == pytest.approx(reach, rel=1e-5)


def test_images_alone_are_the_bootstraps() -> None:
    found = crossed_difference(side([0.5, 0.5], MOVING), side([0.4, 0.4], -MOVING), images=41)
    # The difference moves by 0.04; new images would vary by 41 / 40 more than resamples do.
    assert found.image_error == pytest.approx(0.04 * math.sqrt(41 / 40))
    assert found.seed_variance == found.seed_error == 0
    reach = 2.02108 * math.sqrt(0.00164)
    assert found.interval == pytest.approx((0.1 - reach, 0.1 + reach), rel=1e-4)


def test_what_both_share_on_the_images_falls_out() -> None:
    found = crossed_difference(side([0.5, 0.5], MOVING), side([0.4, 0.4], MOVING), images=41)
    assert found.image_error == pytest.approx(0)
    assert found.verdict == "agrees"
    assert (
        crossed_difference(side([0.4, 0.4], MOVING), side([0.5, 0.5], MOVING), images=41).verdict
        == "disagrees"
    )


def test_how_a_seed_fares_on_the_images_counts_once() -> None:
    """Where only single seeds move with the images, the spread of seeds holds it already."""
    moves = RANDOM.normal(0, 0.02, (4, 20_000))
    found = crossed_difference(
        side([0.50, 0.54], moves[0], moves[1]), side([0.40, 0.44], moves[2], moves[3]), images=100
    )
    assert found.seed_variance == pytest.approx(2 * 0.0008)
    assert found.image_error is not None and found.image_error < 0.0045  # not 0.02


def test_pairs_lose_what_they_share() -> None:
    first, other = side([0.50, 0.60, 0.70], STILL), side([0.41, 0.50, 0.59], STILL)
    alone = crossed_difference(first, other, images=100)
    paired = crossed_difference(first, other, images=100, paired=True)
    assert paired.value == alone.value == pytest.approx(0.1)
    assert paired.seed_variance == pytest.approx(0.0001)
    assert paired.verdict == "agrees" and alone.verdict == "cannot tell"
    with pytest.raises(ValueError, match="in pairs as many"):
        crossed_difference(first, side([0.4, 0.5], STILL), images=100, paired=True)


@pytest.mark.parametrize(
    ("seeds", "images", "nothing"), [(1, 100, 0.0), (2, 5, 0.0), (2, 100, 0.6)]
)
def test_too_little_gives_no_interval(seeds: int, images: int, nothing: float) -> None:
    drawn = MOVING.copy()
    drawn[: int(nothing * len(drawn))] = np.nan
    found = crossed_difference(side([0.5] * seeds, drawn), side([0.4, 0.4], MOVING), images=images)
    assert found.interval is None and found.seed_error is None and found.verdict == "cannot tell"
    assert found.value == pytest.approx(0.1)
    assert seeds_needed(found, 0.01) is None
    with pytest.raises(ValueError, match="known variances"):
        smallest_effect(found, 3)


def test_resamples_with_nothing_to_find_are_left_out() -> None:
    holed = MOVING.copy()
    holed[:40] = np.nan
    found = crossed_difference(
        side([0.5, 0.5], holed), side([0.4, 0.4], STILL[:1].repeat(400)), images=41
    )
    assert found.image_error == pytest.approx(MOVING[40:].std(ddof=1) * math.sqrt(41 / 40))


def test_the_seeds_needed_show_the_effect_and_one_fewer_does_not() -> None:
    found = CrossedDifference(0.01, (3, 3), False, 100, (-1.0, 1.0), 0.01, 0.002, 2 * 0.01**2)
    seeds = seeds_needed(found, 0.015)
    assert seeds is not None and seeds > 3
    assert smallest_effect(found, seeds) <= 0.015 < smallest_effect(found, seeds - 1)
    assert seeds_needed(found, 0.005) is None, "images alone leave more doubt"
    assert seeds_needed(found, 0.5) == 2
    with pytest.raises(ValueError, match="above 0"):
        seeds_needed(found, 0.0)


@pytest.mark.parametrize("seeds", [2, 4])
def test_the_interval_holds_the_truth_as_often_as_it_says(seeds: int) -> None:
    """Scores that add up: image, taste of a variant, seed, seed on image; 200 campaigns.

    benchmarks/campaign_intervals.py does this with average precision, in many worlds.
    """
    random, images, draws, held, naive = np.random.default_rng(seeds), 60, 100, 0, 0
    for _ in range(200):
        common = random.normal(0, 0.2, images)
        weights = random.multinomial(images, [1 / images] * images, draws).T / images
        sides = []
        for _variant in range(2):
            scores = common + random.normal(0, 0.1, images)
            scores = scores + random.normal(0, 0.012, (seeds, 1))
            scores = scores + random.normal(0, 0.1, (seeds, images))
            sides.append(SeedScores(scores.mean(1), scores @ weights))
        interval = crossed_difference(*sides, images=images).interval
        assert interval is not None
        held += interval[0] <= 0 <= interval[1]
        low, high = np.quantile(sides[0].drawn.mean(0) - sides[1].drawn.mean(0), [0.025, 0.975])
        naive += low <= 0 <= high
    assert 0.92 <= held / 200 <= 0.995
    assert naive < held, "images alone are not enough"
