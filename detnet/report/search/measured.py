"""Networks of a search that were trained alone: how well it ranks, and the baselines."""

from collections.abc import Mapping, Sequence
from typing import Any

from detnet.report.rendering import points
from detnet.report.search.charts import cost_name, cost_text, pairs_chart

_COSTS = ("macs", "params", "latency_ms")


def validation_view(found: Mapping[str, Any], score_name: str) -> dict[str, Any] | None:
    """Kendall's tau with its interval, the pairs as a chart and a table; None where not measured.

    Args:
        found: validation.json: "networks" with "path", "AP" (trained alone) and "scores" (of the
            supernet, by the way of scoring), and "rankings" by the way.
        score_name: what the supernet's score is.
    """
    networks = _rows(found)
    if not networks:
        return None
    ways = list(found.get("rankings") or {})
    return {
        "sure": _sure(found),
        "trained": sum(_number(one.get("AP")) for one in networks),
        "count": len(networks),
        "ways": [_ranking(found["rankings"][way], way, networks, score_name) for way in ways],
        "costs": _costs(networks),
        "rows": sorted((_row(one, ways) for one in networks), key=lambda row: -row["order"]),
    }


def _ranking(
    ranking: Mapping[str, Any], way: str, networks: Sequence[Mapping[str, Any]], score_name: str
) -> dict[str, Any]:
    """How one way of scoring ranks."""
    pairs = []
    for one in networks:
        score, real = _score(one, way), one.get("AP")
        if isinstance(score, int | float) and isinstance(real, int | float):
            pairs.append((float(score), float(real), _tip(one, score, score_name)))
    drawing = pairs_chart(
        pairs, x_name=f"{score_name} with shared weights", label=f"trained alone against {way}"
    )
    return {
        "way": way,
        "tau": _decimal(ranking.get("tau")),
        "interval": _interval(ranking.get("interval"), 1.0, 2),
        "compared": ranking.get("compared", len(pairs)),
        "undefined": ranking.get("undefined") or "",
        "drawing": drawing,
    }


def baselines_view(found: Mapping[str, Any], score_name: str) -> dict[str, Any] | None:
    """The winner and the baselines, each trained alone; None where not measured.

    Args:
        found: baselines.json: "networks" with "name", "path", costs, "AP" (the mean over seeds),
            "values" and "interval"; "random" for the random ones together; "differences".
        score_name: what the supernet's score is.
    """
    networks = _rows(found)
    if not networks:
        return None
    together = found.get("random") or {}
    rows = [_row(one) for one in networks]
    if len(together.get("values") or ()) > 1:
        rows.append({**_row({**together, "AP": together.get("mean")}), "together": True})
    return {
        "sure": _sure(found),
        "costs": _costs(networks),
        "rows": rows,
        "differences": [
            {
                "name": one.get("name"),
                "points": points(one.get("difference")),
                "interval": _interval(one.get("interval"), 100.0, 1),
            }
            for one in found.get("differences") or ()
        ],
    }


def _rows(found: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    networks = found.get("networks") or []
    return [one for one in networks if isinstance(one, Mapping)]


def _score(one: Mapping[str, Any], way: str) -> Any:
    return (one.get("scores") or {}).get(way)


def _row(one: Mapping[str, Any], ways: Sequence[str] = ()) -> dict[str, Any]:
    real = one.get("AP")
    return {
        "name": one.get("name") or one.get("kind") or "",
        "path": _path(one.get("path")),
        "scores": [_percent(_score(one, way), 2) for way in ways],
        "real": _percent(real, 1),
        "order": float(real) if isinstance(real, int | float) else -1.0,
        "interval": _interval(one.get("interval"), 100.0, 1),
        "values": ", ".join(_percent(value, 1) for value in one.get("values") or ()),
        "costs": [cost_text(name, one.get(name)) for name in _COSTS if name in one],
        "notes": "; ".join(filter(None, [*(one.get("notes") or ()), one.get("error")])),
        "together": False,
    }


def _costs(networks: Sequence[Mapping[str, Any]]) -> list[str]:
    return [cost_name(name) for name in _COSTS if name in networks[0]]


def _tip(one: Mapping[str, Any], score: float, score_name: str) -> str:
    lines = [
        _path(one.get("path")),
        f"{score_name} with shared weights {_percent(score, 2)}",
        f"AP trained alone {_percent(one['AP'], 1)}",
    ]
    lines += [f"{cost_name(name)} {cost_text(name, one[name])}" for name in _COSTS if name in one]
    return "\n".join(lines)


def _path(value: Any) -> str:
    return value if isinstance(value, str) else "".join(map(str, value or ()))


def _number(value: Any) -> bool:
    return isinstance(value, int | float)


def _percent(value: Any, digits: int) -> str:
    return f"{100 * value:.{digits}f}" if isinstance(value, int | float) else "–"


def _decimal(value: Any) -> str:
    return f"{value:.2f}" if isinstance(value, int | float) else "–"


def _interval(value: Any, factor: float, digits: int) -> str:
    """From what to what; empty where there is none."""
    if isinstance(value, Sequence) and len(value) == 2 and all(map(_number, value)):
        low, high = (f"{factor * end:.{digits}f}".replace("-", "−") for end in value)
        return f"{low} to {high}"
    return ""


def _sure(found: Mapping[str, Any]) -> str:
    return f"{100 * float(found.get('confidence') or 0.95):g} %"
