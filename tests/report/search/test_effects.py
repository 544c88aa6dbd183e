"""What a choice is worth: planted effects are found, their intervals hold them, and no more."""

from dataclasses import replace

import numpy as np
import pytest

from detnet.report.search.effects import Effect, Effects, effects_by_origin, effects_of
from detnet.report.search.networks import DrawnGene
from detnet.report.search.page import render
from detnet.report.search.summary import summarise
from detnet.report.search.text import _effects, format_search
from detnet.search.records import ValidatedNetwork, Validation
from tests.report.search.test_summary import a_thousand, candidate, made_search

CHOICES = (2, 3, 2, 2)
PLANTED = {(0, 1): -0.03, (1, 1): 0.01, (1, 2): 0.02, (2, 1): 0.0, (3, 1): 0.005}
GENES = [
    DrawnGene(f"c{2 + number}", "depth", tuple("abc"[:many]), tuple("abc"[:many]))
    for number, many in enumerate(CHOICES)
]


def drawn(count: int, rng: np.random.Generator) -> list[tuple[int, ...]]:
    return [tuple(int(rng.integers(many)) for many in CHOICES) for _ in range(count)]


def scored(
    paths: list[tuple[int, ...]], rng: np.random.Generator, noise: float
) -> list[tuple[tuple[int, ...], float | None]]:
    return [
        (path, 0.4 + sum(PLANTED.get(pair, 0.0) for pair in enumerate(path)) + noise * one)
        for path, one in zip(paths, rng.standard_normal(len(paths)), strict=True)
    ]


def found_in(count: int, seed: int, noise: float) -> Effects:
    rng = np.random.default_rng(seed)
    found = effects_of(GENES, scored(drawn(count, rng), rng, noise))
    assert found is not None
    return found


def test_planted_effects_are_found() -> None:
    found = found_in(30, 0, 0.0)
    assert [one.gene for one in found.effects] == [f"c{n} depth" for n in (2, 3, 3, 4, 5)]
    assert [(one.choice, one.first) for one in found.effects[:3]] == [
        ("b", "a"),
        ("b", "a"),
        ("c", "a"),
    ]
    assert [one.difference for one in found.effects] == pytest.approx(list(PLANTED.values()))
    assert found.explained == pytest.approx(1) and found.networks == 30


def test_intervals_hold_the_truth_as_often_as_they_say() -> None:
    held = []
    for seed in range(400):
        for one in found_in(24, seed, 0.02).effects:
            if one.first == "a":  # all but a draw or two have every choice
                gene, choice = int(one.gene[1]) - 2, "abc".index(one.choice)
                held.append(one.interval[0] <= PLANTED[gene, choice] <= one.interval[1])
    assert len(held) > 1990 and 0.93 <= np.mean(held) <= 0.97
    few, many = (found_in(count, 1, 0.02).effects[0].interval for count in (20, 200))
    assert many[1] - many[0] < 0.5 * (few[1] - few[0])


def test_what_cannot_be_told_apart_is_left_out() -> None:
    rng = np.random.default_rng(2)
    paths = [(path[0], path[1], path[0], 1) for path in drawn(40, rng)]
    found = effects_of(GENES, scored(paths, rng, 0.001))
    assert found is not None  # the first and third always change together, the last never
    assert [one.gene for one in found.effects] == ["c3 depth", "c3 depth"]


def test_the_first_that_was_taken_is_compared_with() -> None:
    rng = np.random.default_rng(4)
    paths = [(path[0], 1 + path[2], *path[2:]) for path in drawn(60, rng)]
    paths = [(a, 1 + int(rng.integers(2)), c, d) for a, _, c, d in paths]
    found = effects_of(GENES, scored(paths, rng, 0.0))
    assert found is not None
    [one] = [one for one in found.effects if one.gene == "c3 depth"]
    assert (one.choice, one.first) == ("c", "b") and one.difference == pytest.approx(0.01)
    assert one.networks == sum(path[1] == 2 for path in paths)


def test_too_few_say_nothing() -> None:
    rng = np.random.default_rng(5)
    paths = drawn(40, rng)
    assert effects_of(GENES, scored(paths[:7], rng, 0.01)) is None
    assert effects_of(GENES, [(path, 0.3) for path in paths]) is None, "all score alike"
    assert effects_of(GENES, [(paths[0], 0.1 * n) for n in range(9)]) is None, "all are one"
    assert effects_of(GENES, [(path, None) for path in paths]) is None
    assert effects_of(GENES, []) is None


def test_a_search_tells_them_everywhere() -> None:
    """With shared weights, and alone where enough networks were trained."""
    state = made_search(a_thousand())
    candidates = [
        replace(one, values=(0.3 - 0.02 * one.path[0] + 1e-3 * (one.slot % 7),))
        for one in state.candidates
    ]
    networks = tuple(
        ValidatedNetwork(
            name=f"{number:02d}",
            seed=0,
            scores={"full": None},
            path=state.text(one),
            macs=1.0,
            params=1.0,
            AP=0.5 - 0.1 * one.path[0] + 1e-3 * (number % 5),
        )
        for number, one in enumerate(candidates[:40])
    )
    validation = Validation(seed=0, networks=networks, rankings={}, confidence=0.95, resamples=100)
    state = made_search(candidates, validation=validation)
    found = effects_by_origin(state)
    assert list(found) == ["with shared weights", "trained alone"]
    for one, step in zip(found.values(), (-0.02, -0.1), strict=True):
        assert one.effects[0].difference == pytest.approx(step, abs=1e-3)
        assert one.effects[1].difference == pytest.approx(2 * step, abs=1e-3)
        assert one.explained > 0.95
    page, text = render(state), format_search(state)
    assert 'id="effects"' in page and "Trained alone</h3>" in page
    assert "What a choice adds, trained alone, in points (40 networks, 95 % intervals" in text
    assert "&lt;b&gt;own&lt;/b&gt; for shufflenet_3x3" in page
    assert [*summarise(state)["effects"]] == [*found]


def test_the_largest_effect_is_drawn_whole() -> None:
    """One of ten times the others' would be cut off in a comparison, where it is an accident."""
    candidates = [
        replace(one, values=(0.3 - 0.08 * (one.path[0] == 1) + 1e-3 * (one.slot % 7),))
        for one in a_thousand()
    ]
    page = render(made_search(candidates))
    start = page.index('id="effects"')
    assert page[start : page.index("</tfoot>", start)].count("<circle") == 12


def test_a_search_that_has_begun_tells_none() -> None:
    state = made_search([candidate(0, 0, "000000", 0.2, 1e6)])
    assert effects_by_origin(state) == {} and 'id="effects"' not in render(state)
    assert summarise(state)["effects"] == {}


def test_an_effect_that_can_be_told_from_zero_shows_its_side() -> None:
    one = Effect("c2 depth", "b", "a", 9, -0.0004, (-0.0007, -0.0001))
    text = _effects("trained alone", Effects(20, 0.9, (one,)))
    assert text.splitlines()[1].split()[-4:] == ["-0.04", "-0.1", "to", "-0.01"]
