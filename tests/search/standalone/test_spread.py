"""What is networks' own and what is their seeds': against worlds whose parts are known."""

import math

import numpy as np
import pytest

from detnet.search.records import NetworkSpread
from detnet.search.standalone.spread import (
    MOST_SEEDS,
    measure_spread,
    seeds_for,
    spread_lines,
    tau_ceiling,
)
from detnet.search.standalone.statistics import kendall_tau

WORLDS = [(0.02, 0.01, 3), (0.01, 0.02, 3), (0.01, 0.01, 2), (0.03, 0.005, 5)]


def draw(
    rng: np.random.Generator, networks: int, own: float, chance: float, seeds: int
) -> tuple[np.ndarray, np.ndarray]:
    """True values, and what is measured of them by each seed, which moves all networks, too."""
    true = 0.4 + own * rng.standard_normal(networks)
    alike = 0.03 * rng.standard_normal(seeds)
    return true, true[:, None] + alike + chance * rng.standard_normal((networks, seeds))


@pytest.mark.parametrize(("own", "chance", "seeds"), WORLDS)
def test_parts_are_those_of_many_networks(own: float, chance: float, seeds: int) -> None:
    _, values = draw(np.random.default_rng(3), 20_000, own, chance, seeds)
    found = measure_spread(values.tolist())
    assert found is not None and (found.networks, found.seeds) == (20_000, seeds)
    assert found.of_networks == pytest.approx(own, rel=0.05)
    assert found.of_seeds == pytest.approx(chance, rel=0.05)
    reliability = own**2 / (own**2 + chance**2 / seeds)
    assert found.reliability == pytest.approx(reliability, abs=0.02)


@pytest.mark.parametrize(("own", "chance", "seeds"), WORLDS[:3])
def test_the_interval_holds_the_truth_as_often_as_it_says(
    own: float, chance: float, seeds: int
) -> None:
    rng, held, times = np.random.default_rng(2), 0, 300
    reliability = own**2 / (own**2 + chance**2 / seeds)
    for _ in range(times):
        found = measure_spread(draw(rng, 10, own, chance, seeds)[1].tolist(), confidence=0.8)
        assert found is not None
        held += found.interval[0] <= reliability <= found.interval[1]
    assert 0.73 <= held / times <= 0.87, "three standard errors about 0.8"


def test_the_ceiling_is_what_the_truth_itself_reaches() -> None:
    rng, (own, chance, seeds) = np.random.default_rng(3), WORLDS[1]
    reached = []
    for _ in range(300):
        true, values = draw(rng, 16, own, chance, seeds)
        reached.append(kendall_tau(true.tolist(), values.mean(axis=1).tolist()))
    reliability = own**2 / (own**2 + chance**2 / seeds)
    assert tau_ceiling(reliability) == pytest.approx(np.mean(reached), abs=0.03)
    assert tau_ceiling(0) == 0 and tau_ceiling(1) == 1
    with pytest.raises(ValueError, match=r"in \[0, 1\], got 1.1"):
        tau_ceiling(1.1)


def test_so_many_seeds_reach_a_ceiling_and_one_less_does_not() -> None:
    spread = NetworkSpread(
        networks=10, seeds=3, of_networks=0.01, of_seeds=0.02, reliability=0.4, interval=(0.0, 0.8)
    )
    needed = seeds_for(spread, 0.6)
    assert needed is not None

    def ceiling(seeds: int) -> float:
        return tau_ceiling(0.01**2 / (0.01**2 + 0.02**2 / seeds))

    assert ceiling(needed - 1) < 0.6 <= ceiling(needed)
    assert seeds_for(spread, 0.999) is None, f"more than {MOST_SEEDS}"
    with pytest.raises(ValueError, match="tau must lie in"):
        seeds_for(spread, 1.0)


def test_networks_that_do_not_differ() -> None:
    found = measure_spread([[0.1, 0.3], [0.3, 0.1], [0.2, 0.2]])
    assert found is not None and found.of_networks == found.reliability == 0
    assert seeds_for(found) is None
    ceiling = spread_lines(found, 0.95)[1]
    assert "tau 0.00 (0.00 to " in ceiling and "not be reached with 100 seeds" in ceiling


def test_where_nothing_can_be_told() -> None:
    assert measure_spread([[0.1], [0.2]]) is None and measure_spread([[0.1, 0.2]]) is None
    assert measure_spread([]) is None and measure_spread([[0.1, 0.1], [0.1, 0.1]]) is None
    with pytest.raises(ValueError, match=r"equally many seeds are needed, got \[2, 1\]"):
        measure_spread([[0.1, 0.2], [0.3]])


def test_in_words() -> None:
    spread = NetworkSpread(
        networks=12,
        seeds=3,
        of_networks=0.012,
        of_seeds=0.006,
        reliability=math.sin(math.pi * 0.4) ** 2,
        interval=(0.0, 1.0),
    )
    assert spread_lines(spread, 0.95) == [
        "Networks differ by 1.20 points of AP, trainings of one network by 0.60, beside what a "
        "seed gives all of them (standard deviations; 12 networks, 3 seeds)",
        "With 3 seeds no score is expected to rank them better than tau 0.80 (0.00 to 1.00, 95 % "
        "interval); a ceiling of 0.6 takes 1 seed of each network",
    ]
