"""Networks of a search that were trained alone: how well it ranks, and the baselines."""

from collections.abc import Sequence
from typing import Any

from detnet.report.search.charts import cost_name, cost_text, pairs_chart
from detnet.search.records import (
    COSTS,
    Baselines,
    ComparedNetwork,
    SpaceNetwork,
    ValidatedNetwork,
    Validation,
)
from detnet.search.standalone.statistics import Interval
from detnet.text import interval, percent, points


def validation_view(found: Validation | None, score_name: str) -> dict[str, Any] | None:
    """Kendall's tau with its interval, the pairs as a chart and a table; None where not measured.

    Args:
        score_name: what the supernet's score is.
    """
    if found is None:
        return None
    ordered = sorted(found.networks, key=lambda one: -1.0 if one.AP is None else one.AP)[::-1]
    return {
        "sure": _sure(found.confidence),
        "trained": sum(one.AP is not None for one in found.networks),
        "count": len(found.networks),
        "budgets": [_ranking(found, name, score_name) for name in found.rankings],
        "costs": _cost_heads(found.networks),
        "rows": [
            {
                "path": one.path,
                "real": percent(one.AP),
                "scores": [percent(one.scores[name], 2) for name in found.rankings],
                "costs": _costs(one),
                "notes": one.error or "",
            }
            for one in ordered
        ],
    }


def baselines_view(found: Baselines | None) -> dict[str, Any] | None:
    """The winner and the baselines, each trained alone; None where not measured."""
    if found is None:
        return None
    rows = [_compared(one) for one in found.networks]
    random = found.random_values
    if len(random) > 1:
        rows.append(
            {
                "name": "the random ones",
                "path": "",
                "real": percent(found.random_mean),
                "interval": _percentages(found.random_interval),
                "values": ", ".join(map(percent, random)),
                "costs": [],
                "notes": "",
                "together": True,
            }
        )
    return {
        "sure": _sure(found.confidence),
        "costs": _cost_heads(found.networks),
        "rows": rows,
        "differences": [
            {
                "name": one.name,
                "points": points(one.difference),
                "interval": _percentages(one.interval),
            }
            for one in found.differences
        ],
    }


def _ranking(found: Validation, name: str, score_name: str) -> dict[str, Any]:
    """How one scoring budget ranks."""
    ranking = found.rankings[name]
    pairs = [
        (score, one.AP, _tip(one, score, score_name))
        for one in found.networks
        if (score := one.scores[name]) is not None and one.AP is not None
    ]
    low, high = ranking.interval or (0.0, 0.0)
    return {
        "name": name,
        "tau": "–" if ranking.tau is None else f"{ranking.tau:.2f}",
        "interval": f"{low:.2f} to {high:.2f}".replace("-", "−") if ranking.interval else "",
        "compared": ranking.compared,
        "undefined": ranking.undefined or "",
        "drawing": pairs_chart(
            pairs, x_name=f"{score_name} with shared weights", label=f"trained alone against {name}"
        ),
    }


def _compared(one: ComparedNetwork) -> dict[str, Any]:
    return {
        "name": one.name,
        "path": one.path,
        "real": percent(one.AP),
        "interval": _percentages(one.interval),
        "values": ", ".join(map(percent, one.values)),
        "costs": _costs(one),
        "notes": "; ".join([*one.notes, *one.errors]),
        "together": False,
    }


def _tip(one: ValidatedNetwork, score: float, score_name: str) -> str:
    lines = [
        one.path,
        f"{score_name} with shared weights {percent(score, 2)}",
        f"AP trained alone {percent(one.AP)}",
    ]
    lines += [f"{cost_name(name)} {cost_text(name, value)}" for name, value in one.costs.items()]
    return "\n".join(lines)


def _cost_heads(networks: Sequence[SpaceNetwork]) -> list[str]:
    return [cost_name(name) for name in COSTS if name in networks[0].costs]


def _costs(one: SpaceNetwork) -> list[str]:
    return [cost_text(name, value) for name, value in one.costs.items()]


def _percentages(ends: Interval | None) -> str:
    return interval(ends, none="").replace("-", "−")


def _sure(confidence: float) -> str:
    return f"{100 * confidence:g} %"
