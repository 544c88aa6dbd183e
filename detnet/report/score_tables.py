"""Scores as the page's tables, with the paper's numbers where there are any to compare with."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from detnet.coco.keypoints import COCO_SIGMAS
from detnet.evaluation.classification import without_top5
from detnet.evaluation.metrics import ALL_SIZES, METRICS, metrics_of, names_of, overlap_name
from detnet.training.published import Published

KINDS = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}


@dataclass(frozen=True)
class PaperRow:
    """A model of the paper that a run can be held against, and how alike the two are.

    Args:
        published: the paper's numbers.
        recipe: in words: the preset and what the run changed of it.
    """

    published: Published
    recipe: str


def score_view(scores: dict[str, Any], paper_rows: Sequence[PaperRow]) -> dict[str, Any]:
    """One set of scores for the template: headline, tables by overlap and size, rows by class."""
    if "top1" in scores:
        return _classifier_view(scores)
    iou_type = scores.get("iou_type", "bbox")
    fitting = [one for one in paper_rows if one.published.iou_type == iou_type]
    paper = fitting[0] if fitting else None
    return {
        "kind": KINDS.get(iou_type, "Boxes"),
        "overlap": overlap_name(iou_type),
        "note": _note(scores, iou_type),
        "headline": [
            (key, _long(key, iou_type), scores[key], paper.published.score(key) if paper else None)
            for key in _headline(scores, iou_type)
        ],
        "paper": paper,
        "tables": [
            _table(scores, metric, paper.published if paper else None) for metric in ("AP", "AR")
        ],
        **_by_class(scores, counted="annotations", unit="objects"),
    }


def _classifier_view(scores: dict[str, Any]) -> dict[str, Any]:
    """The same of a classifier, which has no overlaps and no sizes."""
    scores = without_top5(scores)
    absent = ("top5", "top5_error") if scores.get("top5") is None else ()
    return {
        "kind": "Classification",
        "overlap": None,
        "note": "Percent, of the validation images.",
        "headline": [
            (metric.title, metric.title, scores.get(key), None)
            for key, metric in metrics_of("classification")
            if key not in absent
        ],
        "paper": None,
        "tables": [],
        **_by_class(scores, counted="images", unit="images", absent=absent),
    }


def _by_class(
    scores: dict[str, Any], *, counted: str, unit: str, absent: Sequence[str] = ()
) -> dict[str, Any]:
    """The table by class: its columns, whatever was asked for, and its rows, by name."""
    rows = sorted((scores.get("per_class") or {}).items())
    keys = dict.fromkeys(key for _, row in rows for key in row if key not in absent)
    return {
        "per_class": rows,
        "class_columns": [key for key in keys if key != counted and not key.endswith("_error")],
        "counted": counted,
        "unit": unit,
    }


def _table(scores: dict[str, Any], metric: str, published: Published | None) -> dict[str, Any]:
    """A table in the form of the paper's Table 3 or 4: sizes down, overlaps across."""
    by_size = scores.get("by_iou_and_size") or {}
    sizes = [size for size in ALL_SIZES if size in by_size] + [
        s for s in by_size if s not in ALL_SIZES
    ]
    sizes = [size for size in sizes if metric in by_size[size]]
    columns = list(by_size[sizes[0]][metric]) if sizes else []
    rows = [
        {
            "size": size,
            "values": [by_size[size][metric].get(column) for column in columns],
            "paper": [published.cell(metric, size, column) for column in columns]
            if published and size in ALL_SIZES
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
        overlap = float(column) / 100
    except ValueError:
        return column
    longer = f"{overlap:.4g}"
    return (longer if len(longer) > 4 else f"{overlap:.2f}").removeprefix("0")


def sigmas_in_words(sigmas: Sequence[float]) -> str:
    """By which sigmas keypoints were scored; numbers under different ones are not comparable."""
    if tuple(sigmas) == COCO_SIGMAS:
        return "COCO's sigmas"
    different = list(dict.fromkeys(f"{sigma:g}" for sigma in sigmas))
    if len(different) == 1:
        return f"sigma {different[0]}"
    return "sigmas " + ", ".join(f"{sigma:g}" for sigma in sigmas)


def _note(scores: dict[str, Any], iou_type: str) -> str:
    """What the headline's numbers are, in a line."""
    percent = f"Percent, by {scores['engine']}." if scores.get("engine") else "Percent."
    if scores.get("ground_truth_taken"):
        percent += f" Ground truth: {scores['ground_truth_taken']}."
    edges = "(edges at 32² and 96² pixels)"
    if iou_type != "keypoints":
        return (
            f"{percent} s, m, l: small, medium and large objects {edges}; AR1, 10, 100: recall "
            "with so many results an image."
        )
    sigmas = f" by {sigmas_in_words(scores['sigmas'])}" if scores.get("sigmas") else ""
    return (
        f"{percent} OKS, the similarity of keypoints{sigmas}, stands for IoU. m, l: medium and "
        f"large objects {edges}; with 20 results an image."
    )


def _headline(scores: dict[str, Any], iou_type: str) -> list[str]:
    """COCO's and registered numbers that there are, then AR at others' numbers of results."""
    own = [name for name in names_of(iou_type) if name in scores]
    sign = "AR@" if iou_type == "keypoints" else "AR"
    recalls = [k for k in scores if k.startswith(sign) and k.removeprefix(sign).isdigit()]
    return [*own, *(key for key in recalls if key not in own)]


def _long(key: str, iou_type: str) -> str:
    """What a score's short name stands for."""
    if key in METRICS:
        return METRICS[key].in_words(iou_type)
    return f"average recall, {key.lstrip('AR@')} results an image"
