import numpy as np
import pytest

from detnet.backbones.detnas import SMALL
from detnet.search.costs.constraints import Constraints, Costs, Limits
from detnet.search.methods.method import Evolution, RandomSearch, Scored
from tests.search.landscape import additive, run
from tests.search.spaces import TINY, DepthSpace, everything


@pytest.fixture(scope="module")
def small() -> Constraints:
    return Constraints(SMALL, Costs(SMALL), Limits(macs=300e6))


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
