"""Pascal VOC's average precision, as its development kit measures it, of 2007 and of 2012.

Per class, all detections of all images in the order of their scores, earlier ones in the file
first where scores are equal. A detection belongs to the object of its class and image with which
its IoU is largest, the first of several. It is right if that is at least 0.5 and no better
detection belongs there; it is left out if the object is difficult; else it is false. All classes
count alike in the mean; one without objects that are not difficult does not count.

VOC's boxes begin and end on pixels, counted from 1, and its kit adds 1 to every difference. COCO's
box [x, y, width, height] is VOC's from x + 1 to x + width, so what the kit computes of that is the
plain IoU of COCO's box: of boxes as `detnet convert` and the loader make them nothing is added.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from detnet.errors import InputError
from detnet.evaluation.normalise import (
    Detections,
    Truth,
    TruthSource,
    fingerprint,
    read_detections,
    read_truth,
)
from detnet.files import no_collection
from detnet.tables import unknown_name

VOC_METRICS = ("voc07", "voc12")
_IOU = 0.5
_PAIRS = 2_000_000  # of a detection with an object, compared at once


def score_voc(
    annotations: TruthSource,
    results: Path | str | list[dict[str, Any]],
    *,
    metric: str = "voc07",
    add_pixel: bool = False,
) -> dict[str, Any]:
    """Scores boxes as Pascal VOC does.

    Objects marked "iscrowd", "difficult" or "ignore" are difficult.

    Args:
        annotations: COCO ground truth: a file, its content, or a `Truth` of boxes.
        results: COCO results, a file or its records.
        metric: "voc07", the mean of the best precision at recalls of at least 0, 0.1 … 1, or
            "voc12", the area under the best precision at each recall or a higher one.
        add_pixel: count one more pixel of every width and height, for files that hold
            xmax - xmin of VOC's boxes, which leaves the last pixel out.

    Returns:
        {"metric", "iou_threshold", "mAP", "per_class": {name: {"AP", "annotations", "difficult"}},
        "ground_truth", "ground_truth_taken"}; AP is None where a class has nothing to find,
        "annotations" counts what is to be found.

    Raises:
        InputError: a file, a record or an argument cannot be used.
    """
    if metric not in VOC_METRICS:
        raise InputError(unknown_name("metric", metric, VOC_METRICS))
    with no_collection():
        truth = read_truth(annotations)
        difficult = truth.crowd if truth.difficult is None else truth.crowd | truth.difficult
        found = read_detections(results, truth)
    right, false = _judge(truth, found, difficult, extra=float(add_pixel))
    order = np.argsort(-found.scores, kind="stable")
    per_class: dict[str, dict[str, Any]] = {}
    for number, name in enumerate(truth.names):
        own = truth.categories == number
        wanted = int((own & ~difficult).sum())
        mine = order[(found.categories[order] == number) & (right | false)[order]]
        per_class[name] = {
            "AP": average_precision(right[mine], wanted, metric) if wanted else None,
            "annotations": wanted,
            "difficult": int((own & difficult).sum()),
        }
    values = [row["AP"] for row in per_class.values() if row["AP"] is not None]
    return {
        "metric": metric,
        "iou_threshold": _IOU,
        "mAP": float(np.mean(values)) if values else None,
        "per_class": per_class,
        "ground_truth": fingerprint(truth),
        "ground_truth_taken": truth.taken,
    }


def average_precision(right: np.ndarray, wanted: int, metric: str) -> float:
    """One class's average precision.

    Recalls are compared as fractions: 3 of 10 is at least 0.3, which it is not to the kit, whose
    0.3 is 0.30000000000000004.

    Args:
        right: (D,) bool, best detection first, those without those that are left out.
        wanted: how many objects there are to find, at least 1.
    """
    hits = np.cumsum(right)
    precision = hits / np.arange(1, len(right) + 1)
    best = np.maximum.accumulate(precision[::-1])[::-1]  # at this recall or a higher one
    if metric == "voc12":
        return float(best[right].sum() / wanted)
    places = np.searchsorted(10 * hits, wanted * np.arange(11))
    return float(np.append(best, 0.0)[places].sum() / 11)


def format_voc_scores(scores: Mapping[str, Any]) -> str:
    """Lays out the scores of `score_voc` as a table, in percent."""
    year = scores["metric"].removeprefix("voc")
    title = f"Average precision of boxes as in VOC 20{year}, IoU {scores['iou_threshold']}, percent"
    rows = [("class", "AP", "annotations", "difficult")]
    rows += [
        (name, _percent(row["AP"]), str(row["annotations"]), str(row["difficult"]))
        for name, row in scores["per_class"].items()
    ]
    rows.append(("mean", _percent(scores["mAP"]), "", ""))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = [
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]).rstrip()
        for row in rows
    ]
    return "\n".join([title, "", *lines, "", f"ground truth: {scores['ground_truth_taken']}"])


def _judge(
    truth: Truth, found: Detections, difficult: np.ndarray, *, extra: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right and which false, (D,) each; what is neither is left out."""
    belongs = np.full(len(found.scores), -1)
    overlap = np.zeros(len(found.scores))
    for mine, theirs in _pairs(truth, found):
        iou = _ious(found.boxes[mine], truth.boxes[theirs], extra)
        starts = np.flatnonzero(np.diff(mine, prepend=-1))
        best = np.maximum.reduceat(iou, starts)
        first = np.full(len(starts), len(iou))
        which = np.repeat(np.arange(len(starts)), np.diff(np.append(starts, len(iou))))
        at_best = np.flatnonzero(iou == best[which])
        np.minimum.at(first, which[at_best], at_best)
        belongs[mine[starts]], overlap[mine[starts]] = theirs[first], best
    near = overlap >= _IOU
    left_out = near.copy()
    left_out[near] = difficult[belongs[near]]
    candidates = np.flatnonzero(near & ~left_out)
    ordered = candidates[np.argsort(-found.scores[candidates], kind="stable")]
    _, earliest = np.unique(belongs[ordered], return_index=True)
    right = np.zeros(len(near), bool)
    right[ordered[earliest]] = True
    return right, ~right & ~left_out


def _pairs(truth: Truth, found: Detections) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Detections with all objects of their image and class, some million pairs at a time.

    Yields:
        positions of detections and of objects, (P,) each, a detection's pairs one after the other
        and its objects in the file's order.
    """
    classes = len(truth.names)
    keys = truth.images * classes + truth.categories
    by_key = np.argsort(keys, kind="stable")
    wanted = found.images * classes + found.categories
    low = np.searchsorted(keys[by_key], wanted, side="left")
    counts = np.searchsorted(keys[by_key], wanted, side="right") - low
    some = np.flatnonzero(counts)
    ends = np.cumsum(counts[some])
    begin = 0
    while begin < len(some):
        done = ends[begin - 1] if begin else 0
        end = max(begin + 1, int(np.searchsorted(ends, done + _PAIRS, side="right")))
        part = some[begin:end]
        lengths = counts[part]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        yield np.repeat(part, lengths), by_key[np.repeat(low[part], lengths) + within]
        begin = end


def _ious(a: np.ndarray, b: np.ndarray, extra: float) -> np.ndarray:
    """IoU of pairs of boxes, xywh, (P, 4) each; `extra` is added to widths and heights."""
    size_a, size_b = a[:, 2:] + extra, b[:, 2:] + extra
    shared = np.minimum(a[:, :2] + size_a, b[:, :2] + size_b) - np.maximum(a[:, :2], b[:, :2])
    both = shared.clip(0).prod(axis=1)
    union = size_a.prod(axis=1) + size_b.prod(axis=1) - both
    return np.divide(both, union, out=np.zeros(len(a)), where=union > 0)


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"
