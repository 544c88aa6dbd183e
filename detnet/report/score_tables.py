"""Scores as tables for pages, with the paper's numbers beside them."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.coco.keypoints import COCO_SIGMAS
from detnet.evaluation.metrics import (
    ALL_SIZES,
    MEASURES,
    METRICS,
    metrics_of,
    names_of,
    overlap_name,
)
from detnet.training.catalogue import FROM_SCRATCH, PUBLISHED, Published
from detnet.training.detection.config import TrainConfig
from detnet.training.settings import presets, read_source

KINDS = {"bbox": "Boxes", "segm": "Masks", "keypoints": "Keypoints"}

# What a run is free to choose without leaving the recipe.
_FREE = {
    "train_split",
    "val_split",
    "backbone",  # has numbers of its own
    "weights",
    "precision",
    "workers",
    "device",
    "seed",
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "val_loss",
    "best_metric",
    "tensorboard",
}


@dataclass(frozen=True)
class PaperRow:
    """A model of the paper that a run can be held against, and how alike the two are.

    Args:
        published: the paper's numbers.
        recipe: in words: the preset and what the run changed of it.
    """

    published: Published
    recipe: str


@dataclass(frozen=True)
class HeadlineNumber:
    """One of the numbers above everything, the paper's beside it; None where there is none."""

    name: str
    in_words: str
    value: float | None
    paper: float | None = None


@dataclass(frozen=True)
class SizeRow:
    """Scores of one size of objects by overlap, and the paper's, if it tells any."""

    size: str
    values: Sequence[float | None]
    paper: Sequence[float | None]


@dataclass(frozen=True)
class SizeTable:
    """A table in the form of the paper's Table 3 or 4: sizes down, overlaps across.

    Args:
        metric: AP or AR.
        columns: heads of the overlaps.
        source: the paper's table; None where it has none.
    """

    metric: str
    title: str
    columns: Sequence[str]
    rows: Sequence[SizeRow]
    source: str | None


@dataclass(frozen=True)
class ClassTable:
    """Scores by class: name and scores, in the order of the names.

    Args:
        columns: the scores' names.
        counted: name of the number in the last column, and `unit` what it counts.
    """

    rows: Sequence[tuple[str, Mapping[str, Any]]]
    columns: Sequence[str]
    counted: str
    unit: str


@dataclass(frozen=True)
class ScoreView:
    """One set of scores as a page shows it.

    Args:
        overlap: what stands for it, IoU or OKS; None of a classifier.
        note: what the headline's numbers are.
        paper: the paper's model that they are held against.
    """

    kind: str
    note: str
    headline: Sequence[HeadlineNumber]
    classes: ClassTable
    overlap: str | None = None
    paper: PaperRow | None = None
    tables: Sequence[SizeTable] = ()


def score_view(scores: Mapping[str, Any], paper_rows: Sequence[PaperRow]) -> ScoreView:
    """Lays one set of scores out for a page.

    Args:
        scores: as scores.json has them.
        paper_rows: the first of the same kind stands beside them.
    """
    if "top1" in scores:
        return _classifier_view(scores)
    iou_type = scores.get("iou_type", "bbox")
    paper = next((one for one in paper_rows if one.published.iou_type == iou_type), None)
    published = paper.published if paper else None
    headline = [
        HeadlineNumber(
            key, _long(key, iou_type), scores[key], published.score(key) if published else None
        )
        for key in _headline(scores, iou_type)
    ]
    return ScoreView(
        KINDS.get(iou_type, "Boxes"),
        _note(scores, iou_type),
        headline,
        _by_class(scores, "annotations", "objects"),
        overlap_name(iou_type),
        paper,
        [table for metric in ("AP", "AR") if (table := _table(scores, metric, published)).rows],
    )


def _classifier_view(scores: Mapping[str, Any]) -> ScoreView:
    """The same of a classifier, which has no overlaps and no sizes."""
    absent = ("top5", "top5_error") if scores.get("top5") is None else ()
    headline = [
        HeadlineNumber(metric.title, metric.title, scores.get(key))
        for key, metric in metrics_of("classification")
        if key not in absent
    ]
    classes = _by_class(scores, "images", "images", absent=absent)
    return ScoreView("Classification", "Percent, of the validation images.", headline, classes)


def _by_class(
    scores: Mapping[str, Any], counted: str, unit: str, *, absent: Sequence[str] = ()
) -> ClassTable:
    """The table by class, whatever was asked for."""
    rows = sorted((scores.get("per_class") or {}).items())
    keys = dict.fromkeys(key for _, row in rows for key in row if key not in absent)
    columns = [key for key in keys if key != counted and not key.endswith("_error")]
    return ClassTable(rows, columns, counted, unit)


def _table(scores: Mapping[str, Any], metric: str, published: Published | None) -> SizeTable:
    by_size = scores.get("by_iou_and_size") or {}
    sizes = [size for size in ALL_SIZES if size in by_size] + [
        s for s in by_size if s not in ALL_SIZES
    ]
    sizes = [size for size in sizes if metric in by_size[size]]
    columns = list(by_size[sizes[0]][metric]) if sizes else []
    there = published.by_iou_and_size.get(metric) if published else None
    rows = [
        SizeRow(
            size,
            [by_size[size][metric].get(column) for column in columns],
            [published.cell(metric, size, column) for column in columns]
            if published and there and size in ALL_SIZES
            else (),
        )
        for size in sizes
    ]
    title = "Average precision" if metric == "AP" else "Average recall"
    heads = [column_title(column) for column in columns]
    return SizeTable(metric, title, heads, rows, there[0] if there else None)


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


def _note(scores: Mapping[str, Any], iou_type: str) -> str:
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


def _headline(scores: Mapping[str, Any], iou_type: str) -> list[str]:
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


def paper_rows(config: TrainConfig) -> list[PaperRow]:
    """The paper's models that the run may be held against: those of its detector and backbone,
    where it was begun from a preset that follows the paper.
    """
    published = _of_recipe(config.preset, (config.detector, config.backbone))
    if not published:
        return []
    recipe = _words(config, read_source(config.preset, presets()))
    return [PaperRow(one, recipe) for one in published]


def _of_recipe(preset: str, place: tuple[str, str]) -> Sequence[Published]:
    """What the paper reports of a detector and backbone trained as the preset does it."""
    if preset.endswith("_scratch"):
        return (FROM_SCRATCH[place],) if place in FROM_SCRATCH else ()
    return PUBLISHED.get(place, ()) if "_2x" in preset else ()


def _words(config: TrainConfig, preset: Mapping[str, Any]) -> str:
    backbone = f" with {config.backbone}" if config.backbone != preset["backbone"] else ""
    parts = [f"This run: preset {config.preset}{backbone}"]
    changes = {name: new for name, new in config.departures.items() if name not in _FREE}
    if changes:
        told = [f"{name} {_beside(preset, name, new)}" for name, new in changes.items()]
        parts.append(f"changed: {', '.join(told)}")
    parts.append("begun from weights" if config.weights else "begun without trained weights")
    data = config.data or config.val_annotations or ""
    parts.append(f"measured on {Path(data).name} {config.val_split}")
    return "; ".join(parts) + "."


def _beside(preset: Mapping[str, Any], name: str, new: Any) -> str:
    """A run's value and what stands in its place in the preset, or by default."""
    old = preset.get(name, getattr(TrainConfig(), name))
    if isinstance(new, Mapping):
        old = {key: value for key, value in (old or {}).items() if key in new}
    return f"{new} instead of {old}"


def by_measure(names: Iterable[str]) -> dict[str, list[str]]:
    """Names of "Average precision", of "Average recall" and of "Further metrics", in that order;
    without what none is of.

    Args:
        names: of METRICS, or AR at other numbers of results.
    """
    found: dict[str, list[str]] = {title: [] for title in (*MEASURES.values(), "Further metrics")}
    for name in names:
        of = METRICS[name].of if name in METRICS else name[:2]
        found[MEASURES.get(str(of), "Further metrics")].append(name)
    return {title: group for title, group in found.items() if group}
