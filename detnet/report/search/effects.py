"""What each choice is worth: how scores differ by one answer in the place of another."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from detnet.report.search.networks import DrawnGene
from detnet.report.search.state import SearchState
from detnet.search.records import CONFIDENCE
from detnet.search.standalone.statistics import t_quantile

_FEWEST = 3  # degrees of freedom: with fewer an interval says nothing


@dataclass(frozen=True)
class Effect:
    """By how much networks with a choice score differently than those with the gene's first.

    Args:
        gene: stage and name.
        choice, first: what is compared with what.
        networks: that have the choice.
        difference: of the scores, a fraction.
        interval: of the difference.
    """

    gene: str
    choice: str
    first: str
    networks: int
    difference: float
    interval: tuple[float, float]


@dataclass(frozen=True)
class Effects:
    """Every choice's effect, all others being as they are.

    Args:
        networks: that they were found from.
        explained: share of the scores' variance that lies in the sum of the effects; what is left
            is chance, and choices that mean more or less beside others.
        effects: in the order of the genes, without choices that cannot be told from others.
        confidence: of the intervals.
    """

    networks: int
    explained: float
    effects: tuple[Effect, ...]
    confidence: float = CONFIDENCE


def effects_by_origin(state: SearchState) -> Mapping[str, Effects]:
    """The effects on scores with shared weights, and on what networks reach alone, by these words.

    Those are missing that there are too few networks for.
    """
    trained = state.validation.networks if state.validation else ()
    alone = [(state.run.read_path(one.path, state.run.folder), one.AP) for one in trained]
    found = {
        "with shared weights": effects_of(
            state.space.genes, [(one.path, one.score) for one in state.scored]
        ),
        "trained alone": effects_of(state.space.genes, alone),
    }
    return {name: one for name, one in found.items() if one is not None}


def effects_of(
    genes: Sequence[DrawnGene], scored: Sequence[tuple[Sequence[int], float | None]]
) -> Effects | None:
    """Finds what each choice adds to the score, by least squares.

    Intervals are Student's, of the scatter about the sum of the effects: as another draw of
    networks would move them, with the same supernet or seeds, and the same images.

    Args:
        genes: of the space.
        scored: paths with their scores; those without one are left out.

    Returns:
        None where networks are too few for the genes that differ among them, or score alike.
    """
    known = [(path, score) for path, score in scored if score is not None]
    if len(known) < _FEWEST:
        return None
    paths, scores = np.array([path for path, _ in known]), np.array([score for _, score in known])
    kept: list[tuple[int, int, int]] = []  # gene, choice, and the gene's first that was taken
    for gene in range(len(genes)):
        first, *others = np.unique(paths[:, gene]).tolist()
        kept += [(gene, choice, first) for choice in others]
    design = np.stack(
        [np.ones(len(known)), *(paths[:, gene] == choice for gene, choice, _ in kept)], axis=1
    )
    rank = int(np.linalg.matrix_rank(design))
    freedom = len(known) - rank
    spread = float(((scores - scores.mean()) ** 2).sum())
    if freedom < _FEWEST or not kept or not spread:
        return None
    inverse = np.linalg.pinv(design)
    values = inverse @ scores
    rest = float(((scores - design @ values) ** 2).sum())
    errors = np.sqrt(rest / freedom * np.diag(inverse @ inverse.T))
    told = np.abs(inverse @ design - np.eye(len(values))).max(axis=1) < 1e-6
    reach = t_quantile((1 + CONFIDENCE) / 2, freedom) * errors
    effects = tuple(
        Effect(
            gene=f"{genes[gene].stage} {genes[gene].name}".strip(),
            choice=genes[gene].choices[choice],
            first=genes[gene].choices[first],
            networks=int((paths[:, gene] == choice).sum()),
            difference=float(values[place]),
            interval=(float(values[place] - reach[place]), float(values[place] + reach[place])),
        )
        for place, (gene, choice, first) in enumerate(kept, 1)
        if told[place]
    )
    return Effects(len(known), 1 - rest / spread, effects)
