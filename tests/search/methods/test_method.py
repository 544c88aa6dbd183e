"""What every search method promises, and the random one and evolution."""

import subprocess
import sys
import time

import numpy as np
import pytest

from detnet.backbones.detnas import SMALL
from detnet.backbones.spaces.space import Space
from detnet.errors import InputError
from detnet.search.costs.constraints import Constraints, Costs, Limits
from detnet.search.methods.method import (
    METHODS,
    Evolution,
    Method,
    RandomSearch,
    Scored,
    make_method,
)
from tests.search.landscape import additive, run
from tests.search.spaces import TINY, DepthSpace, everything


@pytest.fixture(scope="module")
def small() -> Constraints:
    return Constraints(SMALL, Costs(SMALL), Limits(macs=300e6))


SETTINGS = {"population": 12, "generations": 4, "parents": 3, "mutations": 5, "crossovers": 5}


def method(name: str, constraints: Constraints, **changes: object) -> Method:
    options = {"objectives": ["macs"], "mutation_rate": 0.1, **SETTINGS, **changes}
    return make_method(name, constraints, **options)


@pytest.mark.parametrize("name", METHODS)
def test_paths_are_new_and_legal(name: str, small: Constraints) -> None:
    history = run(method(name, small, seed=1), additive(SMALL, 0))
    paths = [one.path for one in history]
    assert len(paths) == len(set(paths)) == 12 * 4
    assert all(small.costs.macs(path) <= 300e6 for path in paths)
    assert all(SMALL.check(path) == path for path in paths)


@pytest.mark.parametrize("name", METHODS)
def test_a_generation_depends_on_seed_index_and_history_alone(
    name: str, small: Constraints
) -> None:
    score = additive(SMALL, 0)
    history = run(method(name, small, seed=1), score)
    first = method(name, small, seed=1)
    again = method(name, Constraints(SMALL, Costs(SMALL), small.limits), seed=1)
    np.random.default_rng(7).random(3)
    for index in (3, 0, 2, 1):  # in any order, on an object that has seen nothing or all
        expected = [one.path for one in history[12 * index : 12 * (index + 1)]]
        assert first.generation(index, history[: 12 * index]) == expected
        assert again.generation(index, history[: 12 * index]) == expected
    other = method(name, small, seed=2).generation(0, [])
    assert not set(other) & {one.path for one in history[:12]}


def test_the_same_numbers_as_ever(small: Constraints) -> None:
    paths = method("evolution", small, seed=0).generation(0, [])
    written = [SMALL.format_path(path) for path in paths[:2]]
    assert written == ["1211 0202 01103132 3330", "2201 2121 30001032 1310"]


@pytest.mark.parametrize("name", METHODS)
def test_all_begin_with_the_same_random_generation(name: str, small: Constraints) -> None:
    found = method(name, small, seed=5).generation(0, [])
    assert found == method("random", small, seed=5).generation(0, [])


@pytest.mark.parametrize("name", METHODS)
@pytest.mark.parametrize("space", [TINY, DepthSpace()], ids=["tiny", "depth"])
def test_a_small_space_is_exhausted(name: str, space: Space) -> None:
    costs = Costs(space, image_size=(64, 96))
    limits = Limits(macs=costs.macs((2, 1, 0)))
    constraints = Constraints(space, costs, limits)
    shape = [range(len(gene.choices)) for gene in space.genes]
    every = {space.check((a, b, c)) for a in shape[0] for b in shape[1] for c in shape[2]}
    legal = {path for path in every if constraints.allows(path)}
    assert 3 <= len(legal) < len(every)
    history = run(method(name, constraints, generations=20), additive(space, 0))
    paths = [one.path for one in history]
    assert len(paths) == len(set(paths))
    assert set(paths) == legal
    assert method(name, constraints, generations=20).generation(19, history) == []


@pytest.mark.parametrize("name", METHODS)
def test_a_limit_that_hardly_any_path_meets(name: str) -> None:
    costs = Costs(SMALL)
    limit = 1.005 * costs.macs(costs.smallest())
    constraints = Constraints(SMALL, costs, Limits(macs=limit))
    found = method(name, constraints).generation(0, [])
    assert len(found) == len(set(found)) == 12
    assert all(costs.macs(path) <= limit for path in found)
    impossible = Constraints(SMALL, costs, Limits(macs=1e6))
    assert method(name, impossible).generation(0, []) == []


@pytest.mark.parametrize("name", METHODS)
def test_failed_candidates_are_neither_parents_nor_tried_again(name: str) -> None:
    constraints = everything(TINY)
    chosen = method(name, constraints).generation(0, [])
    costs = [constraints.costs_of(path) for path in chosen]
    values: list[tuple[float, ...] | None] = [None, (float("nan"),)] * 6
    failed = [Scored(*one) for one in zip(chosen, values, costs, strict=True)]
    following = method(name, constraints).generation(1, failed)
    assert len(following) == 12
    assert not set(following) & set(chosen)
    assert following == method("random", constraints).generation(1, failed)  # there are no parents


@pytest.mark.parametrize("name", METHODS)
def test_after_the_last_generation_nothing_comes(name: str, small: Constraints) -> None:
    assert method(name, small).generation(4, []) == []


def test_uniform_draws(small: Constraints) -> None:
    free = everything(SMALL)
    found = np.array(method("random", free, population=4000).generation(0, []))
    shares = np.stack([(found == choice).mean(0) for choice in range(4)])
    assert abs(shares - 0.25).max() < 0.035  # five deviations


@pytest.mark.parametrize("name", METHODS)
def test_a_generation_of_50_takes_under_0_2_s(name: str, small: Constraints) -> None:
    sizes = {"population": 50, "generations": 20, "parents": 10}
    full = method(name, small, **sizes, mutations=20, crossovers=20)
    history = run(method(name, small, **{**sizes, "generations": 8}), additive(SMALL, 0))
    began = time.process_time()
    assert len(full.generation(8, history)) == 50
    assert time.process_time() - began < 0.2


@pytest.mark.parametrize(
    ("name", "changes", "message"),
    [
        ("random", {"population": 0}, "population must be at least 1, got 0"),
        ("random", {"generations": 0}, "generations must be at least 1, got 0"),
        ("evolution", {"parents": 0}, "parents must be at least 1, got 0"),
        ("evolution", {"mutations": -1}, "mutations must not be negative, got -1"),
        ("nsga2", {"crossovers": 9}, "5 mutations and 9 crossovers do not fit a population of 12"),
        ("nsga2", {"mutation_rate": 1.5}, r"mutation_rate must lie in \[0, 1\], got 1.5"),
        ("nsga2", {"objectives": ["flops"]}, "one or more of macs, params, latency_ms, each once"),
        ("nsga2", {"objectives": ["score"]}, "got score"),
        ("nsga2", {"objectives": ["macs", "latency_ms"]}, "latency_ms needs a way to measure it"),
        ("evolutoin", {}, "unknown search method 'evolutoin'; did you mean 'evolution'"),
    ],
)
def test_settings_that_do_not_fit(
    name: str, changes: dict[str, object], message: str, small: Constraints
) -> None:
    with pytest.raises(InputError, match=message):
        method(name, small, **changes)


def test_an_option_that_no_method_has(small: Constraints) -> None:
    with pytest.raises(TypeError, match="no search method has an option sise"):
        make_method("random", small, sise=3)


def test_naming_a_method_costs_no_torch() -> None:
    code = "import sys, detnet.search.methods.method; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_the_best_of_all_history_are_parents() -> None:
    scores = {(0, 0, 0): 0.3, (1, 0, 0): 0.5, (2, 0, 0): 0.1, (3, 0, 0): 0.5, (0, 1, 0): 0.4}
    history = [Scored(path, (score,)) for path, score in scores.items()]
    history.insert(1, Scored((3, 3, 3), None))
    history.insert(2, Scored((2, 2, 2), (float("nan"),)))
    method = Evolution(everything(TINY), parents=3)
    assert method.best(history) == [(1, 0, 0), (3, 0, 0), (0, 1, 0)]  # of equal ones the earlier
    assert method.best(history[::-1])[:2] == [(3, 0, 0), (1, 0, 0)]
    assert method.best([]) == []


def generation(small: Constraints, rate: float, **sizes: int) -> tuple[np.ndarray, np.ndarray]:
    """Two parents that share no gene, and their children."""
    parents = np.array([[0] * 20, [1] * 20])
    history = [Scored(tuple(row), (1.0,)) for row in parents.tolist()]
    history += [Scored((2,) * 20, (0.5,))]
    sizes = {"mutations": 0, "crossovers": 0, **sizes}
    method = Evolution(small, population=400, parents=2, mutation_rate=rate, **sizes)
    return parents, np.array(method.generation(1, history))


def test_crossovers_take_each_gene_from_one_of_two_parents() -> None:
    _, children = generation(everything(SMALL), 0.1, crossovers=400)
    assert set(np.unique(children)) == {0, 1}
    ones = children.sum(1)
    assert abs(ones.mean() - 10) < 0.6  # five deviations of the mean
    assert 1.8 < ones.std() < 2.7  # √5 for a fair coin a gene
    assert abs(children.mean(0) - 0.5).max() < 0.13


def test_mutants_differ_from_a_parent_in_few_genes() -> None:
    parents, children = generation(everything(SMALL), 0.1, mutations=400)
    changes = (children[:, None] != parents).sum(2).min(1)
    assert changes.min() == 1  # a parent itself is not new
    # 0.1 × 3/4 for each of 20 genes, given that at least one changes and none comes twice.
    assert 1.7 < changes.mean() < 2.6
    fully = generation(everything(SMALL), 1.0, mutations=400)[1]
    assert abs(np.stack([(fully == c).mean(0) for c in range(4)]) - 0.25).max() < 0.12


def test_a_generation_is_mutants_then_crossovers_then_random(small: Constraints) -> None:
    parent = (0,) * 20
    history = [Scored(parent, (1.0,)), Scored((0,) * 19 + (1,), (0.9,))]
    method = Evolution(small, population=50, parents=2, mutation_rate=0.05)
    paths = np.array(method.generation(1, history))
    changed = (paths[:, :19] != 0).sum(1)
    assert len(paths) == 50
    assert changed[:20].max() <= 5
    assert changed[20:].min() >= 6  # two such parents have no new crossover: random ones instead


def test_equal_networks_are_one_path() -> None:
    space = DepthSpace()
    method = Evolution(everything(space), population=4, parents=2, mutations=2, crossovers=1)
    paths = [one.path for one in run(method, additive(space, 0))]
    assert sorted(paths) == sorted(
        {space.check((a, b, c)) for a in (0, 1, 2) for b in (0, 1) for c in (0, 1)}
    )


def test_evolution_beats_random_search(small: Constraints) -> None:
    gaps = []
    for seed in range(5):
        score = additive(SMALL, seed)
        best = []
        for kind in (Evolution, RandomSearch):
            history = run(kind(small, seed=seed), score)
            assert len(history) == 1000
            best.append(max(one.score for one in history))
        spread = np.std([score(path) for path in RandomSearch(small).generation(0, [])])
        gaps.append((best[0] - best[1]) / spread)
    # In deviations of a random network's score; measured about 2 on each of the five.
    assert min(gaps) > 0.5
    assert np.mean(gaps) > 1
