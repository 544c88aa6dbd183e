"""How well scores rank networks that were trained standalone: Kendall's τ, in records and words."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations, takewhile
from pathlib import Path

from detnet.search.records import (
    CONFIDENCE,
    NetworkSpread,
    Ranking,
    RankingDifference,
    StandaloneResult,
    ValidatedNetwork,
    Validation,
    ValidationPlan,
)
from detnet.search.standalone.spread import measure_spread, spread_lines
from detnet.search.standalone.statistics import (
    kendall_tau,
    tau_difference_interval,
    tau_interval,
)
from detnet.search.standalone.training import mean_scores

RESAMPLES = 2000
MACS = "macs"  # ranks networks without any training; a supernet must do better


def summarise(
    plan: ValidationPlan,
    trainings: Sequence[Sequence[StandaloneResult | None]],
    scores: Mapping[str, Sequence[float | None]],
    others: Mapping[str, Sequence[float | None]] | None = None,
) -> Validation | None:
    """What a validation has found, also before all is done; None before the first training is.

    Networks are ranked by the means over those first seeds that all of them are done with, since a
    seed may give all of them more or less; as long as not even the first is, by that one.

    Args:
        trainings: of all networks by the first seed, then by the second, …; None for what is not
            done.
        scores: of all networks by scoring budget.
        others: the same by the supernet of the search for which they were trained, by some of
            these budgets.
    """
    of_other = f" of {Path(plan.taken).name}" if plan.taken else ""
    pairs = [*combinations([*scores, MACS], 2), *((name, name + of_other) for name in others or {})]
    scores = {**scores, **{name + of_other: values for name, values in (others or {}).items()}}
    rounds = max(1, len([*takewhile(all, trainings)]))
    networks = []
    for place, planned in enumerate(plan.networks):
        results = [by_seed[place] for by_seed in trainings]
        found = [one for one in results if one is not None]
        ranked = [one for one in results[:rounds] if one is not None]
        if ranked:
            own = {name: values[place] for name, values in scores.items()}
            networks.append(_validated(planned.name, found, ranked, own))
    if not networks:
        return None
    return Validation(
        seed=plan.seed,
        confidence=CONFIDENCE,
        resamples=RESAMPLES,
        rankings={name: rank(networks, name) for name in scores},
        by_macs=rank(networks, MACS),
        differences=compare_rankings(networks, pairs),
        networks=tuple(networks),
        spread=_widest_spread(trainings),
        taken=plan.taken,
        done=sum(one is not None for by_seed in trainings for one in by_seed),
        planned=sum(map(len, trainings)),
    )


def _validated(
    name: str,
    results: Sequence[StandaloneResult],
    ranked: Sequence[StandaloneResult],
    scores: dict[str, float | None],
) -> ValidatedNetwork:
    """A network with the means over those of its trainings that it is ranked by."""
    errors = [one.error for one in results if one.error]
    means = mean_scores(ranked)
    first = {**vars(results[0]), **means, "name": name, "error": errors[0] if errors else None}
    values = tuple(one.AP for one in results if one.AP is not None)
    return ValidatedNetwork(**first, scores=scores, values=values)


def _widest_spread(
    trainings: Sequence[Sequence[StandaloneResult | None]],
) -> NetworkSpread | None:
    """The spread over as many first seeds as leave most to go by, of the networks with all."""
    tables: list[list[list[float]]] = [[]]
    for seeds in range(2, len(trainings) + 1):
        rows = [
            [one.AP for one in network if one is not None and one.AP is not None]
            for network in zip(*trainings[:seeds], strict=True)
        ]
        tables.append([row for row in rows if len(row) == seeds])
    return measure_spread(max(tables, key=_freedom), confidence=CONFIDENCE)


def _freedom(table: Sequence[Sequence[float]]) -> int:
    return (len(table) - 1) * (len(table[0]) - 1) if table else 0


def rank(networks: Sequence[ValidatedNetwork], name: str) -> Ranking:
    """τ over the networks that have both scores; None where it is not defined.

    Args:
        name: of the scoring budget, or "macs" for multiply-adds alone.
    """
    (scores,), real = _together(networks, [name])
    try:
        tau = kendall_tau(scores, real)
        interval = tau_interval(scores, real, resamples=RESAMPLES, confidence=CONFIDENCE)
    except ValueError as error:
        return Ranking(tau=None, interval=None, compared=len(real), undefined=str(error))
    return Ranking(tau=tau, interval=interval, compared=len(real))


def compare_rankings(
    networks: Sequence[ValidatedNetwork], pairs: Iterable[tuple[str, str]]
) -> tuple[RankingDifference, ...]:
    """How much better the first score of each pair ranks than the second does, where both do.

    Args:
        pairs: of scoring budgets, or "macs".
    """
    found = []
    for name, other in pairs:
        (first, second), real = _together(networks, [name, other])
        try:
            difference = kendall_tau(first, real) - kendall_tau(second, real)
            interval = tau_difference_interval(
                first, second, real, resamples=RESAMPLES, confidence=CONFIDENCE
            )
        except ValueError:  # which the ranking of one of them tells
            continue
        found.append(
            RankingDifference(name=name, other=other, difference=difference, interval=interval)
        )
    return tuple(found)


def _together(
    networks: Sequence[ValidatedNetwork], names: Sequence[str]
) -> tuple[list[list[float]], list[float]]:
    """The scores by name, and AP, of the networks that have all of them."""
    rows = [
        (*scores, one.AP)
        for one in networks
        if None not in (scores := [_score(one, name) for name in names]) and one.AP is not None
    ]
    columns = [[float(row[place] or 0.0) for row in rows] for place in range(len(names) + 1)]
    return columns[:-1], columns[-1]


def _score(one: ValidatedNetwork, name: str) -> float | None:
    return one.macs if name == MACS else one.scores[name]


def validation_lines(found: Validation) -> list[str]:
    """How well each score ranks, and how well any could, a sentence each."""
    return [ranking_line(found, name) for name in found.rankings] + bound_lines(found)


def bound_lines(found: Validation) -> list[str]:
    """What a ranking must be held against: multiply-adds, one another, the ceiling of τ."""
    lines, sure = [], f"{100 * found.confidence:g} % interval"
    if found.done < found.planned:
        lines.append(f"So far: {found.done} of {found.planned} trainings are done")
    if found.taken:
        lines.append(f"The networks were drawn and trained for {found.taken}")
    if found.by_macs is not None and found.by_macs.interval is not None:
        low, high = found.by_macs.interval
        lines.append(
            f"Multiply-adds alone, without any training, rank them with tau "
            f"{found.by_macs.tau:.2f} ({low:.2f} to {high:.2f}, {sure})"
        )
    for one in found.differences:
        low, high = one.interval
        lines.append(
            f"tau of {_named(one.name)} less that of {_named(one.other)}: {one.difference:+.2f} "
            f"({low:+.2f} to {high:+.2f}, {sure})"
        )
    return lines + (spread_lines(found.spread, found.confidence) if found.spread else [])


def _named(name: str) -> str:
    budget, of, whose = name.partition(" of ")
    return "multiply-adds" if name == MACS else f"{budget} scoring{of}{whose}"


def ranking_line(found: Validation, name: str) -> str:
    """Kendall's τ of one scoring budget, in a sentence."""
    one = found.rankings[name]
    if one.tau is None or one.interval is None:
        return f"Kendall's tau ({_named(name)}) is not defined: {one.undefined}"
    low, high = one.interval
    return (
        f"Kendall's tau between the supernet's score ({_named(name)}) and AP trained alone: "
        f"{one.tau:.2f} ({low:.2f} to {high:.2f}, {100 * found.confidence:g} % interval, "
        f"{one.compared} networks)"
    )
