"""Scores as text: aligned tables for a terminal, in percent."""

from collections.abc import Mapping
from typing import Any

_AVERAGES = ("AP", "AP50", "AP75", "APs", "APm", "APl")


def format_scores(scores: Mapping[str, Any]) -> str:
    """Lays out the scores of `score` as tables, in percent; "-" where nothing was averaged."""
    recalls = [key for key in scores if key.startswith("AR")]
    kind = {"bbox": "boxes", "segm": "masks"}.get(scores["iou_type"], scores["iou_type"])
    parts = [
        f"COCO scores of {kind}, percent ({scores['engine']})",
        _lay_out([list(_AVERAGES), [_percent(scores[key]) for key in _AVERAGES]]),
        _lay_out([recalls, [_percent(scores[key]) for key in recalls]]),
    ]
    by_size = scores["by_iou_and_size"]
    for measure, title in (("AP", "Average precision"), ("AR", "Average recall")):
        head = list(next(iter(by_size.values()))[measure])
        rows = [
            [size, *(_percent(row[measure][key]) for key in head)] for size, row in by_size.items()
        ]
        parts.append(f"{title} by IoU threshold and object size\n{_lay_out([['', *head], *rows])}")
    if "class_agnostic_recall" in scores:
        pooled = scores["class_agnostic_recall"]
        head = list(next(iter(pooled.values())))
        rows = [[size, *(_percent(row[key]) for key in head)] for size, row in pooled.items()]
        parts.append(f"Average recall, all classes as one\n{_lay_out([['', *head], *rows])}")
    if scores["per_class"]:
        parts.append(f"Per class\n{_per_class(scores['per_class'])}")
    return "\n\n".join(parts)


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> str:
    head = list(next(iter(per_class.values())))
    rows = [
        [name, *(str(row[key]) if key == "annotations" else _percent(row[key]) for key in head)]
        for name, row in per_class.items()
    ]
    return _lay_out([["class", *head], *rows])


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _lay_out(rows: list[list[str]]) -> str:
    """Rows of equal length as lines: the first column to the left where it holds names."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    named = rows[0][0] in ("", "class")
    lines = []
    for row in rows:
        cells = [cell.rjust(width) for cell, width in zip(row, widths, strict=True)]
        if named:
            cells[0] = row[0].ljust(widths[0])
        lines.append("  ".join(cells).rstrip())
    return "\n".join(lines)
