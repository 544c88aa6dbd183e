"""Scores as text: tables for a terminal, in percent."""

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from detnet import text
from detnet.evaluation.coco import Scores
from detnet.evaluation.metrics import ALL_SIZES, MEASURES, overlap_name
from detnet.report.score_tables import by_measure
from detnet.text import lay_out

_percent = partial(text.percent, none="-")


def format_scores(scores: Scores) -> str:
    """Lays out scores as tables, in percent; "-" where nothing was averaged.

    Where there are no annotations there is nothing to lay out, only a note that says so.
    """
    kind = {"bbox": "boxes", "segm": "masks"}.get(scores.iou_type, scores.iou_type)
    title = f"COCO scores of {kind}, percent ({scores.engine})"
    notes = [f"note: {note}" for note in scores.notes]
    if not any(row["annotations"] for row in scores.per_class.values()):
        return "\n\n".join([title, *notes])
    return "\n\n".join(
        [
            title,
            *_headline_text(scores),
            *_by_iou_and_size(scores),
            *_own_sizes(scores),
            *_per_class(scores.per_class),
            f"ground truth: {scores.ground_truth_taken}",
            *notes,
        ]
    )


def _headline_text(scores: Scores) -> Iterable[str]:
    """Precisions, recalls and what else is registered, a table each."""
    for names in by_measure(scores.headline).values():
        yield lay_out([names, [_percent(scores.headline[name]) for name in names]])


def _by_iou_and_size(scores: Scores) -> Iterable[str]:
    """One table for each measure and number of results: sizes down, thresholds across."""
    by_size = scores.by_iou_and_size
    for measure in next(iter(by_size.values())):
        name, _, most = measure.partition("@")
        limit = f", {most} results per image and class" if most else ""
        rows = {size: row[measure] for size, row in by_size.items()}
        overlap = overlap_name(scores.iou_type)
        title = f"{MEASURES[name]} by {overlap} threshold and object size{limit}"
        yield f"{title}\n{_of_rows('', rows)}"
    for key, rows in scores.class_agnostic_recall.items():
        _, _, most = key.partition("@")
        limit = f", {most} results per image" if most else ""
        yield f"Average recall, all classes as one{limit}\n{_of_rows('', rows)}"


def _own_sizes(scores: Scores) -> Iterable[str]:
    areas = scores.parameters.areas if scores.parameters else {}
    own = {name: limits for name, limits in areas.items() if name not in ALL_SIZES}
    if own:
        rows = [[name, *map(_edge, limits)] for name, limits in own.items()]
        head = ["", "lowest area", "highest area"]
        yield f"Own sizes, square pixels\n{lay_out([head, *rows], left=(0,))}"


def _edge(area: float) -> str:
    return "inf" if area >= 1e10 else f"{area:.10g}"


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
