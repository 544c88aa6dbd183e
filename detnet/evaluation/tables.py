"""Scores as text: aligned tables for a terminal, in percent."""

from collections.abc import Iterable, Mapping
from typing import Any

from detnet.text import lay_out

_MEASURES = {"AP": "Average precision", "AR": "Average recall"}
_COCO_SIZES = ("all", "small", "medium", "large")
_POOLED = "class_agnostic_recall"


def format_scores(scores: Mapping[str, Any]) -> str:
    """Lays out the scores of `score` as tables, in percent; "-" where nothing was averaged.

    Where there are no annotations there is nothing to lay out, only a note that says so.
    """
    averages = [key for key in scores if key.startswith("AP")]
    recalls = [key for key in scores if key.startswith("AR")]
    kind = {"bbox": "boxes", "segm": "masks"}.get(scores["iou_type"], scores["iou_type"])
    title = f"COCO scores of {kind}, percent ({scores['engine']})"
    notes = [f"note: {note}" for note in scores.get("notes", ())]
    if not any(row["annotations"] for row in scores["per_class"].values()):
        return "\n\n".join([title, *notes])
    return "\n\n".join(
        [
            title,
            lay_out([averages, [_percent(scores[key]) for key in averages]]),
            lay_out([recalls, [_percent(scores[key]) for key in recalls]]),
            *_by_iou_and_size(scores),
            *_own_sizes(scores),
            *_per_class(scores["per_class"]),
            *_taken(scores),
            *notes,
        ]
    )


def _by_iou_and_size(scores: Mapping[str, Any]) -> Iterable[str]:
    """One table for each measure and number of results: sizes down, thresholds across."""
    by_size = scores["by_iou_and_size"]
    for measure in next(iter(by_size.values())):
        name, _, most = measure.partition("@")
        limit = f", {most} results per image and class" if most else ""
        rows = {size: row[measure] for size, row in by_size.items()}
        overlap = "OKS" if scores["iou_type"] == "keypoints" else "IoU"
        title = f"{_MEASURES[name]} by {overlap} threshold and object size{limit}"
        yield f"{title}\n{_of_rows('', rows)}"
    for key in scores:
        name, _, most = key.partition("@")
        if name == _POOLED:
            limit = f", {most} results per image" if most else ""
            yield f"Average recall, all classes as one{limit}\n{_of_rows('', scores[key])}"


def _own_sizes(scores: Mapping[str, Any]) -> Iterable[str]:
    areas = scores.get("parameters", {}).get("areas", {})
    own = {name: limits for name, limits in areas.items() if name not in _COCO_SIZES}
    if own:
        rows = [[name, *map(_edge, limits)] for name, limits in own.items()]
        head = ["", "lowest area", "highest area"]
        yield f"Own sizes, square pixels\n{lay_out([head, *rows], left=(0,))}"


def _edge(area: float) -> str:
    return "inf" if area >= 1e10 else f"{area:.10g}"


def _taken(scores: Mapping[str, Any]) -> Iterable[str]:
    if scores.get("ground_truth_taken"):  # older files do not tell
        yield f"ground truth: {scores['ground_truth_taken']}"


def _per_class(per_class: Mapping[str, Mapping[str, Any]]) -> Iterable[str]:
    if per_class:
        yield f"Per class\n{_of_rows('class', per_class)}"


def _of_rows(corner: str, rows: Mapping[str, Mapping[str, Any]]) -> str:
    head = list(next(iter(rows.values())))
    cells = [
        [name, *(str(row[key]) if key == "annotations" else _percent(row[key]) for key in head)]
        for name, row in rows.items()
    ]
    return lay_out([[corner, *head], *cells], left=(0,))


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
