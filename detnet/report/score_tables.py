"""Scores as the page's tables, with the paper's numbers where there are any to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detnet.evaluation.coco import HEADLINE
from detnet.report.published import SIZES, Published

LONG_NAMES = {"s": "small", "m": "medium", "l": "large"}


@dataclass(frozen=True)
class Comparison:
    """Which of the paper's models a run can be held against, and how alike the two are.

    Args:
        published: the paper's numbers.
        recipe: in words: the preset and what the run changed of it.
    """

    published: Published
    recipe: str


def score_view(scores: dict[str, Any], comparisons: Sequence[Comparison]) -> dict[str, Any]:
    """One set of scores for the template: headline, tables by overlap and size, rows by class."""
    iou_type = scores.get("iou_type", "bbox")
    fitting = [one for one in comparisons if one.published.iou_type == iou_type]
    paper = fitting[0] if fitting else None
    return {
        "kind": "Masks" if iou_type == "segm" else "Boxes",
        "iou_type": iou_type,
        "engine": scores.get("engine"),
        "headline": [
            (key, _long(key), scores[key], paper.published.score(key) if paper else None)
            for key in [*HEADLINE, *_own_recalls(scores)]
            if key in scores
        ],
        "paper": paper,
        "tables": [
            _table(scores, metric, paper.published if paper else None) for metric in ("AP", "AR")
        ],
        "per_class": sorted((scores.get("per_class") or {}).items()),
    }


def _table(scores: dict[str, Any], metric: str, published: Published | None) -> dict[str, Any]:
    """A table in the form of the paper's Table 3 or 4: sizes down, overlaps across."""
    by_size = scores.get("by_iou_and_size") or {}
    sizes = [size for size in SIZES if size in by_size] + [s for s in by_size if s not in SIZES]
    sizes = [size for size in sizes if metric in by_size[size]]
    columns = list(by_size[sizes[0]][metric]) if sizes else []
    rows = [
        {
            "size": size,
            "values": [by_size[size][metric].get(column) for column in columns],
            "paper": [published.cell(metric, size, column) for column in columns]
            if published and size in SIZES
            else [],
        }
        for size in sizes
    ]
    there = published.by_iou_and_size.get(metric) if published else None
    for row in rows:
        row["paper"] = row["paper"] if there else []
    return {
        "metric": metric,
        "title": "Average precision" if metric == "AP" else "Average recall",
        "columns": [(column, column_title(column)) for column in columns],
        "rows": rows,
        "source": there[0] if there else None,
    }


def column_title(column: str) -> str:
    """The head of an IoU column: "mean", or ".50" for "50"."""
    try:
        return f"{float(column) / 100:.4g}".removeprefix("0").ljust(3, "0")
    except ValueError:
        return column


def _long(key: str) -> str:
    """What a score's short name stands for."""
    metric, which = key[:2], key[2:]
    kind = {"AP": "average precision", "AR": "average recall"}.get(metric, key)
    if which in LONG_NAMES:
        return f"{kind}, {LONG_NAMES[which]} objects"
    if which and metric == "AP":
        return f"{kind} at IoU .{which}"
    return f"{kind}, {which} results an image" if which else f"{kind}, mean over IoU .50 to .95"


def _own_recalls(scores: dict[str, Any]) -> list[str]:
    """AR at numbers of results that are not COCO's."""
    return [key for key in scores if key[:2] == "AR" and key[2:].isdigit() and key not in HEADLINE]
