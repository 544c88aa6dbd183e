"""The one list of metrics: what each name means, of which kinds of scores, and where it is shown.

Everything that shows scores goes by it: scores.json, tables, pages, comparisons, RESULTS.md and the
setting `best_metric`. A module of one's own adds to it with `METRICS.register(name, Metric(…))` and
is named by `--plugin MODULE`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial

import numpy as np

from detnet.tables import NameTable

BOXES, OKS, CLASSES = ("bbox", "segm"), ("keypoints",), ("classification",)
ALL_SIZES = ("all", "small", "medium", "large")
MEASURES = {"AP": "Average precision", "AR": "Average recall"}

# What a detector finds of one class as its score threshold falls, at P points where it finds an
# object more, in R samples of the images: objects found (P, R), detections made so far (P, R), both
# ascending, and the objects that there are (R,), at least 1. Gives the metric, (R,).
Curve = Callable[[np.ndarray, np.ndarray, np.ndarray], np.ndarray]


@dataclass(frozen=True)
class Metric:
    """One of a detector's or a classifier's scores, a fraction.

    Args:
        of: "AP", "AR", or a function of what is found as the score threshold falls; it is averaged
            over the classes that have objects. Of a classifier the key in its scores.
        kinds: of scores that have it: "bbox", "segm", "keypoints", "classification".
        size: of the objects, one of COCO's four.
        iou_threshold: from which IoU, or OKS, on an object is found; None for the mean over
            COCO's ten. In the name AP75 it is 0.75.
        max_dets: best-scored results of an image and class, one of COCO's numbers; None for 100,
            of keypoints 20.
        title: in words; by default from the above.
        brief: is shown also where there is room for few.
        per_class: is told of each class as well.
        in_results: is a column of RESULTS.md.
        larger_is_better: else it is no choice for `best_metric`.
    """

    of: str | Curve
    kinds: tuple[str, ...] = (*BOXES, *OKS)
    size: str = "all"
    iou_threshold: float | None = None
    max_dets: int | None = None
    title: str = ""
    brief: bool = False
    per_class: bool = False
    in_results: bool = True
    larger_is_better: bool = True

    def in_words(self, kind: str) -> str:
        """What the name stands for in scores of this kind."""
        if self.title:
            return self.title
        what, overlap = MEASURES.get(str(self.of), "Value").lower(), overlap_name(kind)
        if self.size != "all":
            return f"{what}, {self.size} objects"
        if self.max_dets is not None:
            return f"{what}, {self.max_dets} results an image"
        if self.iou_threshold is None:
            return f"{what}, mean over {overlap} .50 to .95"
        return f"{what} at {overlap} {f'{self.iou_threshold:.2f}'.removeprefix('0')}"


METRICS = NameTable("metric", {})
_error = partial(Metric, kinds=CLASSES, brief=True, larger_is_better=False)
for _name, _metric in {
    "AP": Metric("AP", brief=True, per_class=True),
    "AP50": Metric("AP", iou_threshold=0.5, brief=True, per_class=True),
    "AP75": Metric("AP", iou_threshold=0.75, brief=True),
    "APs": Metric("AP", BOXES, size="small"),
    "APm": Metric("AP", size="medium"),
    "APl": Metric("AP", size="large"),
    "AR": Metric("AR", OKS, per_class=True, in_results=False),
    "AR50": Metric("AR", OKS, iou_threshold=0.5, in_results=False),
    "AR75": Metric("AR", OKS, iou_threshold=0.75, in_results=False),
    "AR1": Metric("AR", BOXES, max_dets=1, in_results=False),
    "AR10": Metric("AR", BOXES, max_dets=10, in_results=False),
    "AR100": Metric("AR", BOXES, max_dets=100, per_class=True, in_results=False),
    "ARs": Metric("AR", BOXES, size="small", in_results=False),
    "ARm": Metric("AR", size="medium", in_results=False),
    "ARl": Metric("AR", size="large", in_results=False),
    "top1": Metric("top1", CLASSES, title="top-1 accuracy", in_results=False),
    "top5": Metric("top5", CLASSES, title="top-5 accuracy", in_results=False),
    "top1_error": _error("top1_error", title="top-1 error"),
    "top5_error": _error("top5_error", title="top-5 error"),
}.items():
    METRICS.register(_name, _metric)


def metrics_of(kind: str) -> Iterator[tuple[str, Metric]]:
    """Names and metrics of one kind of scores, in the order in which they are shown."""
    return ((name, metric) for name, metric in METRICS.items() if kind in metric.kinds)


def names_of(kind: str) -> list[str]:
    """Names of one kind of scores; of boxes the benchmark's twelve, then registered ones."""
    return [name for name, _ in metrics_of(kind)]


def column_names(kinds: Iterable[str]) -> list[str]:
    """What `best_metric` may be and metrics.jsonl holds of each evaluation: "AP", "segm_AP" …

    Args:
        kinds: of scores that a model has.
    """
    return [
        f"{prefix(kind)}{name}"
        for kind in kinds
        for name, metric in metrics_of(kind)
        if metric.larger_is_better
    ]


def prefix(kind: str) -> str:
    """What the names of one kind of scores have before them where all stand together."""
    return "" if kind in ("bbox", "classification") else f"{kind}_"


def overlap_name(kind: str) -> str:
    """What tells how near a detection is to an object: OKS of keypoints, IoU else."""
    return "OKS" if kind == "keypoints" else "IoU"
