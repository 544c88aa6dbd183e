"""Kendall's τ equals SciPy's, and its interval behaves as one."""

import numpy as np
import pytest

from detnet.search.standalone.statistics import (
    difference_interval,
    kendall_tau,
    mean_interval,
    t_quantile,
    tau_difference_interval,
    tau_interval,
)


@pytest.mark.parametrize("ties", [0, 2, 4, 1000])
def test_tau_is_scipys(ties: int) -> None:
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(ties)
    for size in (2, 3, 10, 41, 200):
        a, b = rng.random((2, size))
        b = 0.5 * a + b
        if ties:
            a, b = np.floor(a * ties), np.floor(b * ties)
        if min(np.ptp(a), np.ptp(b)) == 0:
            continue
        assert kendall_tau(a, b) == pytest.approx(stats.kendalltau(a, b).statistic, abs=1e-12)


def test_tau_of_known_orders() -> None:
    assert kendall_tau([1, 2, 3], [10, 20, 30]) == 1
    assert kendall_tau([1, 2, 3], [0.3, 0.2, 0.1]) == -1
    assert kendall_tau([1, 2, 3, 4], [1, 2, 4, 3]) == pytest.approx(4 / 6)
    # Four of five untied pairs of b agree, none disagrees, a has no ties.
    assert kendall_tau([1, 2, 3, 4], [1, 2, 2, 3]) == pytest.approx(5 / (6 * 5) ** 0.5)


@pytest.mark.parametrize(
    ("a", "b", "message"),
    [
        ([1.0], [1.0], "at least two"),
        ([1.0, 2.0], [1.0], "2 and 1"),
        ([1.0, 1.0], [1.0, 2.0], "all 2 candidates"),
        ([1.0, 2.0], [float("nan"), 2.0], "finite"),
    ],
)
def test_what_has_no_tau(a: list[float], b: list[float], message: str) -> None:
    for function in (kendall_tau, tau_interval):
        with pytest.raises(ValueError, match=message):
            function(a, b)


def test_interval_of_a_perfect_order_is_one() -> None:
    assert tau_interval(range(12), range(12)) == (1.0, 1.0)


def test_interval_follows_the_seed_and_the_confidence() -> None:
    rng = np.random.default_rng(0)
    a = rng.random(20)
    b = a + rng.normal(0, 0.4, 20)
    tau = kendall_tau(a, b)
    low, high = tau_interval(a, b)
    assert (low, high) == tau_interval(a, b)
    assert (low, high) != tau_interval(a, b, seed=1)
    assert -1 <= low < tau < high <= 1
    narrow = tau_interval(a, b, confidence=0.5)
    assert low < narrow[0] < narrow[1] < high


def test_interval_equals_one_drawn_by_hand() -> None:
    a, b = [1.0, 2.0, 3.0, 4.0, 5.0], [2.0, 1.0, 3.0, 3.0, 4.0]
    rng = np.random.default_rng(np.random.SeedSequence((7, 31)))
    taus = []
    for row in rng.integers(5, size=(300, 5)):
        x, y = [a[i] for i in row], [b[i] for i in row]
        if len(set(x)) > 1 and len(set(y)) > 1:
            taus.append(kendall_tau(x, y))
    expected = np.quantile(taus, [0.05, 0.95])
    assert tau_interval(a, b, resamples=300, seed=7, confidence=0.9) == pytest.approx(expected)


def test_interval_covers_the_tau_of_all_candidates() -> None:
    """Of samples of 30 from many, about 95 in 100 intervals hold the τ of the many."""
    rng = np.random.default_rng(3)
    a = rng.random(1500)
    b = a + rng.normal(0, 0.3, 1500)
    truth = kendall_tau(a, b)
    held = 0
    for seed in range(100):
        few = rng.choice(1500, 30, replace=False)
        low, high = tau_interval(a[few], b[few], resamples=400, seed=seed)
        held += low <= truth <= high
    assert 86 <= held <= 100


def test_the_difference_of_two_taus_is_known_better_than_either() -> None:
    """Scores that share what is hard to rank; about 95 in 100 intervals hold the truth."""
    rng = np.random.default_rng(4)
    real = rng.random(1500)
    shared = real + rng.normal(0, 0.3, 1500)
    one, other = (shared + rng.normal(0, 0.05 * n, 1500) for n in (1, 3))
    truth = kendall_tau(one, real) - kendall_tau(other, real)
    held, widths = 0, []
    for seed in range(100):
        few = rng.choice(1500, 30, replace=False)
        values = [scores[few] for scores in (one, other, real)]
        low, high = tau_difference_interval(*values, resamples=400, seed=seed)
        held += low <= truth <= high
        alone = tau_interval(one[few], real[few], resamples=400, seed=seed)
        widths.append((high - low) / (alone[1] - alone[0]))
    assert 86 <= held <= 100 and np.mean(widths) < 0.8
    assert tau_difference_interval(one[:30], one[:30], real[:30]) == (0.0, 0.0)


@pytest.mark.parametrize("freedom", [1, 1.7, 2, 4.3, 10, 30, 199, 500, 20_000])
@pytest.mark.parametrize("probability", [0.6, 0.9, 0.975, 0.9995])
def test_quantiles_are_scipys(probability: float, freedom: float) -> None:
    stats = pytest.importorskip("scipy.stats")
    assert t_quantile(probability, freedom) == pytest.approx(stats.t.ppf(probability, freedom))


def test_quantiles_of_tables() -> None:
    assert t_quantile(0.975, 2) == pytest.approx(4.302653, abs=1e-6)
    assert t_quantile(0.975, 4) == pytest.approx(2.776445, abs=1e-6)
    with pytest.raises(ValueError, match="freedom"):
        t_quantile(0.975, 0)


def test_mean_of_seeds() -> None:
    low, high = mean_interval([0.30, 0.32, 0.31]) or (0, 0)
    assert (low + high) / 2 == pytest.approx(0.31)
    assert high - low == pytest.approx(2 * 4.302653 * 0.01 / 3**0.5)
    assert mean_interval([0.3]) is None


def test_difference_is_welchs() -> None:
    stats = pytest.importorskip("scipy.stats")
    first, second = [0.52, 0.53, 0.51], [0.48, 0.50, 0.46, 0.49, 0.50]
    found = difference_interval(first, second, confidence=0.9)
    expected = stats.ttest_ind(first, second, equal_var=False).confidence_interval(0.9)
    assert found == pytest.approx((expected.low, expected.high))
    assert difference_interval([0.5], second) is None
    assert difference_interval([0.5, 0.5], [0.25, 0.25]) == (0.25, 0.25)
