"""A comparison's differences as charts, tables and classes for the page."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from detnet.evaluation.metrics import MEASURES, by_measure, overlap_name
from detnet.report.charts import nice_ticks
from detnet.report.comparison_text import WORDS, interval, letter, percent
from detnet.report.score_tables import column_title

_ROOM = 3.0  # times the middle interval, beyond which a chart cuts intervals off


def pair_view(comparison: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, Any]:
    """The charts and the classes of one detector beside the first."""
    charts = []
    for title, names in by_measure(pair["headline"]).items():
        rows = [_row(name, one) for name in names if (one := pair["headline"][name])]
        coco = ", COCO's numbers" if title in MEASURES.values() else ""
        charts.append((f"{title}{coco}", _scaled(rows)))
    by_size, overlap = pair["by_iou_and_size"], overlap_name(comparison["iou_type"])
    told: list[bool] = []
    for measure in next(iter(by_size.values())):
        rows = [
            _row(column_title(column), one, group=size if place == 0 else "")
            for size, measures in by_size.items()
            for place, (column, one) in enumerate(measures[measure].items())
            if one
        ]
        told += [row["word"] != "noise" for row in rows]
        charts.append((f"{_title(measure)}, by size and {overlap}", _scaled(rows)))
    counts = comparison["scores"][0]["per_class"]
    classes = [
        {**_row(name, one["AP"]), "objects": counts[name]["annotations"]}
        for name, one in pair["per_class"].items()
        if one["AP"]
    ]
    classes.sort(key=lambda row: row["difference"])
    return {
        "other": letter(comparison["names"].index(pair["name"])),
        "name": pair["name"],
        "charts": [(title, chart) for title, chart in charts if chart["rows"]],
        "classes": _scaled(classes) if classes else None,
        "told": sum(told),
        "all": len(told),
    }


def size_tables(comparison: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Tables 3 and 4 of the paper, the detectors below each other, then their differences."""
    by_size = comparison["scores"][0]["by_iou_and_size"]
    tables = []
    for measure, cells in next(iter(by_size.values())).items():
        tables.append(
            {
                "title": _title(measure),
                "columns": [column_title(column) for column in cells],
                "blocks": [
                    _block(comparison, size, measure)
                    for size, row in by_size.items()
                    if any(value is not None for value in row[measure].values())
                ],
            }
        )
    return tables


def minus(text: str) -> str:
    """Numbers as they are printed, a long dash for none."""
    return "–" if text == "-" else text.replace("-", "−")


def _title(measure: str) -> str:
    name, _, most = measure.partition("@")
    return MEASURES[name] + (f", {most} results per image and class" if most else "")


def _block(comparison: Mapping[str, Any], size: str, measure: str) -> dict[str, Any]:
    scores = [score["by_iou_and_size"][size][measure] for score in comparison["scores"]]
    return {
        "size": size,
        "scores": [(letter(index), list(row.values())) for index, row in enumerate(scores)],
        "differences": [
            (
                f"{letter(comparison['names'].index(pair['name']))} − A",
                [
                    _row(column, one) if one else None
                    for column, one in pair["by_iou_and_size"][size][measure].items()
                ],
            )
            for pair in comparison["differences"]
        ],
    }


def _row(label: str, one: Mapping[str, Any], *, group: str = "") -> dict[str, Any]:
    return {
        **one,
        "label": label,
        "group": group,
        "points": minus(percent(one["difference"], sign=True)),
        "word": WORDS[one["verdict"]],
        "interval": minus(interval(one)),
    }


def _scaled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows with the places of their dots and lines, percent of a common axis around 0.

    One wide interval would press all others together; those far beyond the middle one are cut off.
    Rows where nothing was found by either, all 0, have no say in what is far.
    """
    values = [
        [row[key] for key in ("low", "high", "difference") if row[key] is not None] for row in rows
    ]
    reach = [far for three in values if (far := max(map(abs, three)))]
    most = max(1e-3, min(max(reach), _ROOM * float(np.median(reach)))) if reach else 1e-3
    low = 1.1 * min(-0.05 * most, max(-most, min(map(min, values), default=0)))
    high = 1.1 * max(0.05 * most, min(most, max(map(max, values), default=0)))

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    for row in rows:
        edges = [] if row["low"] is None else [row["low"], row["high"]]
        row["at"] = place(row["difference"]) if low <= row["difference"] <= high else None
        row["span"] = [place(edge) for edge in edges]
        row["ends"] = [place(edge) for edge in edges if low <= edge <= high]
    return {"rows": rows, "zero": place(0.0), "ticks": _ticks(low, high, place)}


def _ticks(low: float, high: float, place: Callable[[float], float]) -> list[tuple[Any, ...]]:
    """Of an axis: places, numbers, and whether narrow screens have no room for the number."""
    ticks = [tick for tick in nice_ticks(low, high, about=4) if low <= tick <= high]
    kept = (ticks[0], 0.0, ticks[-1])
    return [
        (place(tick), minus(f"{100 * tick:+g}") if tick else "0", tick not in kept)
        for tick in ticks
    ]
