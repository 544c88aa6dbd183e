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

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from detnet.coco.ground_truth import GroundTruth, GroundTruthSource, fingerprint, read_ground_truth
from detnet.errors import InputError
from detnet.evaluation.detections import Detections, read_detections
from detnet.evaluation.matching import candidates
from detnet.evaluation.overlaps import box_ious
from detnet.evaluation.results import ResultsSource
from detnet.files import no_collection
from detnet.tables import unknown_name
from detnet.text import lay_out, percent

VOC_METRICS = ("voc07", "voc12")
_IOU = 0.5


@dataclass(frozen=True)
class VocClass:
    """One class.

    Args:
        AP: average precision, a fraction; None where there is nothing to find.
        annotations: objects that are to be found.
        difficult: objects that are left out.
    """

    AP: float | None
    annotations: int
    difficult: int


@dataclass(frozen=True)
class VocScores:
    """Pascal VOC's scores.

    Args:
        metric: "voc07" or "voc12".
        iou_threshold: from which on a detection is right.
        mAP: mean over the classes that have objects, a fraction; None where none has.
        per_class: by name.
        ground_truth: its fingerprint.
        ground_truth_taken: in words, as it is or repaired.
    """

    metric: str
    iou_threshold: float
    mAP: float | None
    per_class: dict[str, VocClass]
    ground_truth: str
    ground_truth_taken: str

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def score_voc(
    annotations: GroundTruthSource,
    results: ResultsSource,
    *,
    metric: str = "voc07",
    add_pixel: bool = False,
) -> VocScores:
    """Scores boxes as Pascal VOC does.

    Objects marked "iscrowd", "difficult" or "ignore" are difficult.

    Args:
        annotations: COCO ground truth: a file, its content, or a `GroundTruth` of boxes.
        results: COCO results, a file or its records.
        metric: "voc07", the mean of the best precision at recalls of at least 0, 0.1 … 1, or
            "voc12", the area under the best precision at each recall or a higher one.
        add_pixel: count one more pixel of every width and height, for files that hold
            xmax - xmin of VOC's boxes, which leaves the last pixel out.

    Raises:
        InputError: a file, a record or an argument cannot be used.
    """
    if metric not in VOC_METRICS:
        raise InputError(unknown_name("metric", metric, VOC_METRICS))
    with no_collection():
        truth = read_ground_truth(annotations)
        difficult = truth.crowd if truth.difficult is None else truth.crowd | truth.difficult
        found = read_detections(results, truth)
    right, false = _right_and_false(truth, found, difficult, extra=float(add_pixel))
    order = np.lexsort((-found.scores, found.categories))
    order = order[(right | false)[order]]
    ends = np.searchsorted(found.categories[order], np.arange(len(truth.names)), "right")
    easy = np.bincount(truth.categories[~difficult], minlength=len(ends)).tolist()
    hard = np.bincount(truth.categories[difficult], minlength=len(ends)).tolist()
    columns = zip(truth.names, np.split(order, ends)[:-1], easy, hard, strict=True)
    per_class = {
        name: VocClass(average_precision(right[mine], n, metric) if n else None, n, left_out)
        for name, mine, n, left_out in columns
    }
    values = [row.AP for row in per_class.values() if row.AP is not None]
    mean = float(np.mean(values)) if values else None
    return VocScores(metric, _IOU, mean, per_class, fingerprint(truth), truth.taken)


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


def format_voc_scores(scores: VocScores) -> str:
    """Lays out the scores of `score_voc` as a table, in percent."""
    year = scores.metric.removeprefix("voc")
    title = f"Average precision of boxes as in VOC 20{year}, IoU {scores.iou_threshold}, percent"
    rows = [("class", "AP", "annotations", "difficult")]
    rows += [
        (name, percent(row.AP, none="-"), str(row.annotations), str(row.difficult))
        for name, row in scores.per_class.items()
    ]
    rows.append(("mean", percent(scores.mAP, none="-"), "", ""))
    table = lay_out(rows, left=(0,))
    return f"{title}\n\n{table}\n\nground truth: {scores.ground_truth_taken}"


def _right_and_false(
    truth: GroundTruth, found: Detections, difficult: np.ndarray, *, extra: float
) -> tuple[np.ndarray, np.ndarray]:
    """Which detections are right and which false, (D,) each; what is neither is left out."""
    belongs = np.full(len(found.scores), -1)
    overlap = np.zeros(len(found.scores))
    classes = len(truth.names)
    groups = found.images * classes + found.categories
    for mine, theirs in candidates(groups, truth.images * classes + truth.categories):
        iou = box_ious(found.boxes[mine], truth.boxes[theirs], extra=extra)
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
    fitting = np.flatnonzero(near & ~left_out)
    ordered = fitting[np.argsort(-found.scores[fitting], kind="stable")]
    _, earliest = np.unique(belongs[ordered], return_index=True)
    right = np.zeros(len(near), bool)
    right[ordered[earliest]] = True
    return right, ~right & ~left_out
