"""Intervals of means equal SciPy's."""

import pytest

from detnet.search.intervals import difference_interval, mean_interval, t_quantile


@pytest.mark.parametrize("freedom", [1, 1.7, 2, 4.3, 10, 30, 500])
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
