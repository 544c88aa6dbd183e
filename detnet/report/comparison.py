"""The page of a comparison, complete in itself: differences with intervals, tables, pictures."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from detnet.evaluation.results import write_whole
from detnet.report.charts import nice_ticks
from detnet.report.comparison_text import WORDS, found_and_missed, how_measured, letter
from detnet.report.pictures import Colour, Mark
from detnet.report.rendering import points, render_template
from detnet.report.score_tables import column_title

# Of the detectors in pictures, in turn; comparison.css.j2 has the same.
COLOURS: tuple[Colour, ...] = ((86, 180, 233), (245, 130, 32), (62, 207, 159), (240, 228, 66))

_TITLES = {"AP": "Average precision", "AR": "Average recall"}
_KINDS = {"bbox": "Boxes", "segm": "Masks"}
_ROOM = 3.0  # times the middle interval, beyond which a chart cuts intervals off


@dataclass(frozen=True)
class ComparisonPicture:
    """An image on which one detector finds what another one misses.

    Args:
        name: of the file.
        uri: the image itself.
        size: width and height in pixels, as embedded.
        kinds: of the selections it belongs to (`kinds_of`), how many objects are found and missed.
        truths: what is there, but for those objects.
        sought: those objects.
        found: of each detector what it found, the surest last.
    """

    name: str
    uri: str
    size: tuple[int, int]
    kinds: Mapping[str, int]
    truths: Sequence[Mark]
    sought: Sequence[Mark]
    found: Sequence[Sequence[Mark]]

    @property
    def note(self) -> str:
        """Who finds how many that who misses."""
        parts = []
        for kind, count in self.kinds.items():
            finds, misses = kind.split("-")
            parts.append(f"{finds} finds {count} that {misses} misses")
        return "; ".join(parts)


def kinds_of(index: int) -> dict[str, str]:
    """The two selections of pictures of a detector beside the first, by their key."""
    return {"only_first": f"A-{letter(index)}", "only_other": f"{letter(index)}-A"}


def write_page(
    path: Path, comparison: Mapping[str, Any], pictures: Sequence[ComparisonPicture]
) -> Path:
    """Writes the page of what `detnet compare` found."""
    write_whole(path, render(comparison, pictures))
    return path


def render(comparison: Mapping[str, Any], pictures: Sequence[ComparisonPicture]) -> str:
    """Makes the page's HTML."""
    names = comparison["names"]
    letters = [letter(index) for index in range(len(names))]
    pairs = [_pair_view(comparison, pair) for pair in comparison["differences"]]
    classes = {
        m.name for p in pictures for m in [*p.truths, *p.sought, *sum(map(list, p.found), [])]
    }
    cost = comparison.get("cost")
    sections = [
        ("models", "Models", True),
        ("differences", "Differences", True),
        ("tables", "Overlap and size", True),
        ("pictures", "Pictures", pictures),
        ("classes", "Classes", any(pair["classes"] for pair in pairs)),
    ]
    return render_template(
        "comparison.html.j2",
        title=" and ".join(names) if len(names) == 2 else ", ".join(names),
        kind=_KINDS.get(comparison["iou_type"], comparison["iou_type"]),
        comparison=comparison,
        sure=f"{100 * comparison['confidence']:g} %",
        letters=letters,
        colours=["rgb({} {} {})".format(*COLOURS[i % len(COLOURS)]) for i in range(len(names))],
        models=_models(comparison, letters),
        cost_note=how_measured(cost) if cost else "",
        has_cost=bool(cost),
        pairs=pairs,
        tables=_tables(comparison, letters),
        pictures=pictures,
        selections=_selections(comparison, pictures),
        several_classes=len(classes) > 1,
        has_masks=any(m.mask for p in pictures for one in p.found for m in one),
        notes=comparison.get("notes", []),
        sections=[(anchor, text) for anchor, text, there in sections if there],
    )


def _models(comparison: Mapping[str, Any], letters: Sequence[str]) -> list[dict[str, Any]]:
    cost = comparison.get("cost") or {"models": [None] * len(letters)}
    rows = zip(
        letters,
        comparison["names"],
        comparison["sources"],
        comparison["scores"],
        cost["models"],
        strict=True,
    )
    return [
        {"letter": letter, "name": name, "source": source, "scores": scores, "cost": one}
        for letter, name, source, scores, one in rows
    ]


def _pair_view(comparison: Mapping[str, Any], pair: Mapping[str, Any]) -> dict[str, Any]:
    """The charts and the classes of one detector beside the first."""
    other = letter(comparison["names"].index(pair["name"]))
    headline = [_row(key, "", one) for key, one in pair["headline"].items() if one]
    by_size = pair["by_iou_and_size"]
    charts = [("COCO's numbers", _scaled(headline))]
    for measure in next(iter(by_size.values())):
        name, _, most = measure.partition("@")
        rows = [
            _row(column_title(column), size if place == 0 else "", one)
            for size, measures in by_size.items()
            for place, (column, one) in enumerate(measures[measure].items())
            if one
        ]
        limit = f", {most} results" if most else ""
        charts.append((f"{_TITLES[name]} by size and IoU{limit}", _scaled(rows)))
    counts = comparison["scores"][0]["per_class"]
    classes = [
        {**_row(name, "", one["AP"]), "objects": counts[name]["annotations"], "more": one}
        for name, one in pair["per_class"].items()
        if one["AP"]
    ]
    told = [row["word"] != "noise" for _, chart in charts[1:] for row in chart["rows"]]
    return {
        "other": other,
        "name": pair["name"],
        "charts": [(title, chart) for title, chart in charts if chart["rows"]],
        "classes": _scaled(classes) if len(classes) > 1 else None,
        "told": sum(told),
        "all": len(told),
    }


def _row(label: str, group: str, one: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "label": label,
        "group": group,
        "first": one["first"],
        "other": one["other"],
        "difference": one["difference"],
        "low": one["low"],
        "high": one["high"],
        "word": WORDS[one["verdict"]],
        "interval": "" if one["low"] is None else f"{points(one['low'])} to {points(one['high'])}",
    }


def _scaled(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows with the places of their dots and lines, percent of a common axis around 0.

    One wide interval would press all others together; those far beyond the middle one are cut off.
    """
    reach = [max(abs(row[k] or 0) for k in ("low", "high", "difference")) for row in rows]
    most = min(max(reach, default=0), _ROOM * float(np.median(reach))) if reach else 0
    least = -min([most, max((-(row["low"] or 0) for row in rows), default=0)])
    high = min([most, max((row["high"] or 0 for row in rows), default=0)])
    ticks = nice_ticks(min(least, 0), max(high, 1e-3), about=4)
    low, high = ticks[0], ticks[-1]

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    for row in rows:
        row["at"] = place(row["difference"])
        row["span"] = None if row["low"] is None else (place(row["low"]), place(row["high"]))
        row["ends"] = [
            row["low"] is not None and row["low"] >= low,
            row["high"] is not None and row["high"] <= high,
        ]
        row["inside"] = low <= row["difference"] <= high
    return {
        "rows": rows,
        "zero": place(0.0),
        "ticks": [(place(tick), _tick(tick)) for tick in ticks],
    }


def _tick(value: float) -> str:
    return f"{100 * value:+g}".replace("-", "−") if value else "0"


def _tables(comparison: Mapping[str, Any], letters: Sequence[str]) -> list[dict[str, Any]]:
    """Tables 3 and 4 of the paper, the detectors below each other, then their differences."""
    by_size = comparison["scores"][0]["by_iou_and_size"]
    tables = []
    for measure in next(iter(by_size.values())):
        name, _, most = measure.partition("@")
        columns = list(next(iter(by_size.values()))[measure])
        blocks = []
        for size in by_size:
            scores = [score["by_iou_and_size"][size][measure] for score in comparison["scores"]]
            if all(value is None for value in scores[0].values()):
                continue
            differences = [
                (
                    f"{letter(comparison['names'].index(pair['name']))} − A",
                    [
                        _row(column, "", one)
                        if (one := pair["by_iou_and_size"][size][measure][column])
                        else None
                        for column in columns
                    ],
                )
                for pair in comparison["differences"]
            ]
            blocks.append(
                {
                    "size": size,
                    "scores": list(zip(letters, [list(s.values()) for s in scores], strict=True)),
                    "differences": differences,
                }
            )
        limit = f", {most} results per image and class" if most else ""
        tables.append(
            {
                "title": _TITLES[name] + limit,
                "columns": [column_title(column) for column in columns],
                "blocks": blocks,
            }
        )
    return tables


def _selections(
    comparison: Mapping[str, Any], pictures: Sequence[ComparisonPicture]
) -> list[dict[str, Any]]:
    """The gallery's buttons, and in words what there is in all."""
    found = []
    for pair in comparison["pictures"]:
        for key, kind in kinds_of(comparison["names"].index(pair["name"])).items():
            finds, misses = kind.split("-")
            found.append(
                {
                    "value": kind,
                    "title": f"{finds} finds, {misses} misses",
                    "count": sum(kind in picture.kinds for picture in pictures),
                    "words": found_and_missed(pair[key], finds, misses),
                }
            )
    return found
