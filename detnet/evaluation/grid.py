"""Where precision and recall are taken: COCO's grid, and what users and metrics add to it."""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from detnet.errors import InputError
from detnet.evaluation.metrics import METRICS, Curve, Metric, metrics_of
from detnet.kinds import LARGEST
from detnet.tables import unknown_name

IOU_TYPES = ("bbox", "segm", "keypoints")
IOU_THRESHOLDS = tuple(np.linspace(0.5, 0.95, 10).tolist())
RECALLS = np.linspace(0.0, 1.0, 101)  # at which precision is read off
AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
MAX_DETS = (1, 10, 100)
KEYPOINT_MAX_DETS = (20,)  # COCO's keypoints have one number of results, and no small objects

_TABLE_THRESHOLDS = (0.5, 0.6, 0.7, 0.8, 0.85)  # of the paper's Tables 3 and 4
_TOLERANCE = 1e-6  # linspace has no exact 0.9


class Measure(NamedTuple):
    """A number at one size and number of results, averaged over some thresholds, then classes.

    Args:
        of: "AP", "AR", or a function of what is found (see `Curve`).
        size, limit, thresholds: positions in the grid.
    """

    of: str | Curve
    size: int
    limit: int
    thresholds: tuple[int, ...]


@dataclass(frozen=True)
class Grid:
    """Where precision and recall are taken; what `make_grid` makes holds all of COCO's grid.

    Args:
        iou_type: "bbox", "segm" or "keypoints", where OKS stands for IoU everywhere.
        iou_thresholds: T of them, ascending.
        areas: A ranges by name, lowest and highest area in pixels, both included; COCO's first.
        max_dets: M of them, ascending: best-scored results per image and category.
        own_thresholds: those a user asked for by name, which may be COCO's, too.
        sigmas: how far off keypoints may be, one for all or one for each; empty for the defaults.
    """

    iou_type: str
    iou_thresholds: tuple[float, ...]
    areas: dict[str, tuple[float, float]]
    max_dets: tuple[int, ...]
    own_thresholds: tuple[float, ...] = ()
    sigmas: tuple[float, ...] = ()

    @property
    def is_coco(self) -> bool:
        """Whether a user has asked for nothing beyond COCO's grid."""
        return self == make_grid(self.iou_type)

    @property
    def coco_thresholds(self) -> list[int]:
        """Positions of COCO's ten thresholds, over which every mean is taken."""
        return [self.threshold(value) for value in IOU_THRESHOLDS]

    @property
    def shown_thresholds(self) -> dict[str, int]:
        """Positions of the thresholds that tables show, by name in percent: "50", "92.5"."""
        shown = {self.threshold(value) for value in (*_TABLE_THRESHOLDS, *self.own_thresholds)}
        return {f"{100 * self.iou_thresholds[t]:.6g}": t for t in sorted(shown)}

    @property
    def coco_most(self) -> int:
        """Position of 100 among `max_dets`, the number of results that every AP allows; of 20 for
        keypoints.
        """
        return self.max_dets.index(_max_dets(self.iou_type)[-1])

    @property
    def further_max_dets(self) -> dict[int, int]:
        """Positions of the numbers of results that are not COCO's, by number."""
        own = _max_dets(self.iou_type)
        return {m: i for i, m in enumerate(self.max_dets) if m not in own}

    @property
    def headline(self) -> dict[str, Measure]:
        """The numbers of `METRICS`, then AR at a user's own numbers of results, by name: "AR300";
        of keypoints, whose AR50 is at OKS 0.50, "AR@300".

        Raises:
            ValueError: a metric asks for a size or number of results that was not measured.
        """
        found = {name: self._measure(name, metric) for name, metric in metrics_of(self.iou_type)}
        ten, at = tuple(self.coco_thresholds), "@" if self.iou_type == "keypoints" else ""
        further = self.further_max_dets.items()
        return found | {f"AR{at}{most}": Measure("AR", 0, limit, ten) for most, limit in further}

    @property
    def per_class(self) -> dict[str, Measure]:
        """What is told of each class, by name.

        Raises:
            ValueError: a metric asks for a size or number of results that was not measured.
        """
        named = metrics_of(self.iou_type)
        return {name: self._measure(name, metric) for name, metric in named if metric.per_class}

    @property
    def by_iou_and_size(self) -> dict[str, dict[str, dict[str, Measure]]]:
        """AP and AR of every size, then AP@m and AR@m for a user's own numbers of results m, by
        size, row and threshold, that of the mean over COCO's ten first.
        """
        columns = {"mean": tuple(self.coco_thresholds)}
        columns |= {name: (position,) for name, position in self.shown_thresholds.items()}
        limits = {"": self.coco_most} | {f"@{m}": i for m, i in self.further_max_dets.items()}
        return {
            name: {
                f"{of}{suffix}": {
                    column: Measure(of, size, limit, thresholds)
                    for column, thresholds in columns.items()
                }
                for suffix, limit in limits.items()
                for of in ("AP", "AR")
            }
            for size, name in enumerate(self.areas)
        }

    def _measure(self, name: str, metric: Metric) -> Measure:
        if metric.max_dets is not None and metric.max_dets not in self.max_dets:
            raise ValueError(f"metric {name}: max_dets {metric.max_dets} is none of COCO's")
        if metric.size not in self.areas:
            raise ValueError(f"metric {name}: {self.iou_type} has no size {metric.size!r}")
        limit = self.coco_most if metric.max_dets is None else self.max_dets.index(metric.max_dets)
        thresholds = tuple(self.coco_thresholds)
        if metric.iou_threshold is not None:
            thresholds = (self.threshold(metric.iou_threshold),)
        return Measure(metric.of, list(self.areas).index(metric.size), limit, thresholds)

    def threshold(self, value: float) -> int:
        """Position of an IoU threshold.

        Raises:
            ValueError: it is not in the grid.
        """
        for position, own in enumerate(self.iou_thresholds):
            if abs(own - value) < _TOLERANCE:
                return position
        raise ValueError(f"no IoU threshold {value} among {self.iou_thresholds}")


def make_grid(
    iou_type: str = "bbox",
    *,
    iou_thresholds: Iterable[float] = (),
    areas: Mapping[str, tuple[float, float]] | None = None,
    max_dets: Iterable[int] = (),
    sigmas: Iterable[float] = (),
) -> Grid:
    """COCO's grid with a user's own thresholds, areas and numbers of results added.

    Raises:
        InputError: something is out of range, or an area has a name of COCO's.
    """
    if iou_type not in IOU_TYPES:
        raise InputError(unknown_name("iou_type", iou_type, IOU_TYPES))
    own = tuple(sorted({_snapped(value) for value in iou_thresholds}))
    of_metrics = {one.iou_threshold for one in METRICS.values()} - {None}
    numbers = list(max_dets)
    if not all(_is_number(m) and m == int(m) and 0 < m <= LARGEST for m in numbers):
        raise InputError(f"max_dets {numbers} must be whole numbers above 0 and below 2^63")
    offs = tuple(sigmas)
    if not all(_is_number(sigma) and sigma > 0 for sigma in offs):
        raise InputError(f"sigmas {list(offs)} must be numbers above 0")
    if offs and iou_type != "keypoints":
        raise InputError(f"sigmas are for iou_type keypoints, not {iou_type}")
    sizes = {name: AREAS[name] for name in AREAS if iou_type != "keypoints" or name != "small"}
    return Grid(
        iou_type,
        tuple(sorted({*IOU_THRESHOLDS, *own, *map(_snapped, of_metrics)})),
        sizes | {name: _area(name, limits) for name, limits in (areas or {}).items()},
        tuple(sorted({*_max_dets(iou_type), *(int(m) for m in numbers)})),
        own,
        tuple(float(sigma) for sigma in offs),
    )


def _max_dets(iou_type: str) -> tuple[int, ...]:
    return KEYPOINT_MAX_DETS if iou_type == "keypoints" else MAX_DETS


def _snapped(value: float) -> float:
    """An own threshold, as COCO writes it where COCO has it."""
    if not _is_number(value) or not 0 < value <= 1:
        raise InputError(f"iou_thresholds: {value} must be above 0 and at most 1")
    return next((coco for coco in IOU_THRESHOLDS if abs(coco - value) < _TOLERANCE), float(value))


def _area(name: str, limits: tuple[float, float]) -> tuple[float, float]:
    if name in AREAS:
        raise InputError(f"areas: {name!r} is one of COCO's ({', '.join(AREAS)}); take other names")
    pair = len(limits) == 2 and all(not math.isnan(edge) for edge in limits)
    if not pair or not 0 <= limits[0] <= limits[1]:
        raise InputError(
            f"areas: {name!r} has the edges {tuple(limits)}, which must be the lowest and the "
            "highest area in square pixels"
        )
    # The evaluators take no infinity; COCO's own "all" ends here.
    return float(limits[0]), min(float(limits[1]), AREAS["all"][1])


def _is_number(value: object) -> bool:
    return isinstance(value, int | float | np.number) and math.isfinite(value)
