"""COCO's average precision and recall, by IoU threshold and object size: all the paper's tables."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from detnet.coco.ground_truth import GroundTruth, GroundTruthSource, fingerprint, read_ground_truth
from detnet.errors import InputError
from detnet.evaluation.curves import CurveMeasure, curve_measures
from detnet.evaluation.detections import Detections, pick_rows, read_detections
from detnet.evaluation.engines import Tables, engine_version, run_engine
from detnet.evaluation.grid import Grid, Measure, make_grid
from detnet.evaluation.overlaps import sigmas_of
from detnet.evaluation.results import ResultsSource
from detnet.files import no_collection

if TYPE_CHECKING:
    from detnet.evaluation.matching import Matches

_FEW_IMAGES = 0.5  # share of annotated images, below which results may be of another data set
_POOLED = "class_agnostic_recall"

Value = float | None  # a fraction; None where there was nothing to average
Row = dict[str, Value]  # by threshold: "mean", "50", "60" …


@dataclass(frozen=True)
class Parameters:
    """The grid, where a user has added to COCO's; as `Grid` has them."""

    iou_thresholds: tuple[float, ...]
    areas: dict[str, tuple[float, float]]
    max_dets: tuple[int, ...]


@dataclass(frozen=True)
class Scores:
    """The scores of one kind, which docs/measures.md explains; fractions, None for no objects.

    Args:
        engine: name and version of what matched.
        headline: by the names of `METRICS`, and AR at own numbers of results.
        by_iou_and_size: by size, then "AP", "AR", "AP@300" …, then threshold.
        per_class: by class's name and metric, and "annotations", the number of its objects.
        ground_truth: its fingerprint.
        ground_truth_taken: in words, as it is or repaired.
        sigmas: of keypoints.
        notes: what makes the numbers say less than they seem to, a sentence each.
        class_agnostic_recall: by "class_agnostic_recall", and by that with "@300" for own numbers
            of results, then size and threshold: AR with all categories taken as one.
    """

    engine: str
    iou_type: str
    headline: dict[str, Value]
    by_iou_and_size: dict[str, dict[str, Row]]
    per_class: dict[str, dict[str, Any]]
    ground_truth: str
    ground_truth_taken: str
    sigmas: tuple[float, ...] = ()
    parameters: Parameters | None = None
    notes: tuple[str, ...] = ()
    class_agnostic_recall: dict[str, dict[str, Row]] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The object that scores.json holds; the headline's names stand at its top."""
        content: dict[str, Any] = {
            "engine": self.engine,
            "iou_type": self.iou_type,
            **self.headline,
            "by_iou_and_size": self.by_iou_and_size,
            "per_class": self.per_class,
            "ground_truth": self.ground_truth,
            "ground_truth_taken": self.ground_truth_taken,
        }
        if self.sigmas:
            content["sigmas"] = list(self.sigmas)
        if self.parameters:
            content["parameters"] = {
                "iou_thresholds": list(self.parameters.iou_thresholds),
                "areas": {name: list(limits) for name, limits in self.parameters.areas.items()},
                "max_dets": list(self.parameters.max_dets),
            }
        if self.notes:
            content["notes"] = list(self.notes)
        return content | self.class_agnostic_recall

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> "Scores":
        """What an evaluation has written, registered metrics of then included.

        Raises:
            InputError: it is of another version.
        """
        try:
            given = {one.name: content[one.name] for one in fields(cls) if one.name in content}
            given.pop(_POOLED, None)
            numbers = {name: value for name, value in content.items() if name not in given}
            if "parameters" in given:
                given["parameters"] = Parameters(**given["parameters"])
            return cls(
                **given,
                headline={k: v for k, v in numbers.items() if isinstance(v, float | int | None)},
                class_agnostic_recall={k: v for k, v in numbers.items() if k.startswith(_POOLED)},
            )
        except (AttributeError, TypeError) as error:
            raise InputError(f"scores of another version ({error}); evaluate again") from None


@dataclass(frozen=True)
class Evaluation:
    """One matching of detections to ground truth, from which every number is read.

    Args:
        tables: precision and recall over the grid.
        engine: name and version of the evaluator.
        matches: which detection found which object, where our own matching has made the tables.
    """

    truth: GroundTruth
    detections: Detections
    grid: Grid
    tables: Tables
    engine: str
    matches: "Matches | None" = None

    @property
    def notes(self) -> tuple[str, ...]:
        """What makes the numbers say less than they seem to, a sentence each."""
        images = len(self.truth.image_ids)
        annotated = np.bincount(self.truth.images, minlength=images) > 0
        if not annotated.any():
            return ("the ground truth has no annotations: nothing can be scored",)
        answered = (annotated & (np.bincount(self.detections.images, minlength=images) > 0)).sum()
        if answered >= _FEW_IMAGES * annotated.sum():
            return ()
        return (
            f"there are results for only {answered} of the {annotated.sum()} images with "
            "annotations; on the others everything counts as missed",
        )

    def scores(self, *, class_agnostic_recall: bool = False) -> Scores:
        """The scores of scores.json, which docs/measures.md explains.

        Args:
            class_agnostic_recall: AR with all categories taken as one, too. That matches once more.
        """
        grid = self.grid
        of_curves = curve_measures(self.truth, self.detections, grid, self.matches)
        own = Parameters(grid.iou_thresholds, grid.areas, grid.max_dets)
        return Scores(
            engine=self.engine,
            iou_type=grid.iou_type,
            headline={
                name: of_curves[measure].mean if measure in of_curves else self._mean(measure)
                for name, measure in grid.headline.items()
            },
            by_iou_and_size=self._by_iou_and_size(("AP", "AR")),
            per_class=self._per_class(of_curves),
            ground_truth=fingerprint(self.truth),
            ground_truth_taken=self.truth.taken,
            sigmas=sigmas_of(grid, self.truth) if grid.iou_type == "keypoints" else (),
            parameters=None if grid.is_coco else own,
            notes=self.notes,
            class_agnostic_recall=self._as_one_class() if class_agnostic_recall else {},
        )

    def _mean(self, measure: Measure, category: int | slice = slice(None)) -> Value:
        """Of all categories that have objects, or of one."""
        table = self.tables.recall if measure.of == "AR" else self.tables.precision
        values = table[..., category, measure.size, measure.limit][list(measure.thresholds)]
        there = values[values > -1]
        return float(there.mean()) if there.size else None

    def _by_iou_and_size(self, kinds: tuple[str, ...]) -> dict[str, dict[str, Row]]:
        return {
            size: {
                row: {column: self._mean(measure) for column, measure in cells.items()}
                for row, cells in rows.items()
                if row.startswith(kinds)
            }
            for size, rows in self.grid.by_iou_and_size.items()
        }

    def _per_class(self, of_curves: Mapping[Measure, CurveMeasure]) -> dict[str, dict[str, Any]]:
        truth, measures = self.truth, self.grid.per_class
        counts = np.bincount(truth.categories, minlength=len(truth.names)).tolist()
        return {
            name: {
                **{
                    key: of_curves[each].classes[k] if each in of_curves else self._mean(each, k)
                    for key, each in measures.items()
                },
                "annotations": counts[k],
            }
            for k, name in enumerate(truth.names)
        }

    def _as_one_class(self) -> dict[str, dict[str, Row]]:
        pooled = _as_one_category(self.truth, self.detections)
        tables = run_engine(self.engine.split()[0], *pooled, self.grid)
        by_size = replace(self, tables=tables)._by_iou_and_size(("AR",))
        return {
            row.replace("AR", _POOLED): {size: rows[row] for size, rows in by_size.items()}
            for row in next(iter(by_size.values()))
        }


def evaluate(
    annotations: GroundTruthSource,
    results: ResultsSource,
    *,
    iou_type: str = "bbox",
    engine: str = "hotcoco",
    iou_thresholds: Iterable[float] = (),
    areas: Mapping[str, tuple[float, float]] | None = None,
    max_dets: Iterable[int] = (),
    sigmas: Iterable[float] = (),
) -> Evaluation:
    """Matches detections to ground truth as the COCO benchmark does.

    Args:
        annotations: COCO ground truth: a file, its content, or a `GroundTruth` of the same kind.
        results: COCO results, a file, its records or columns; all are left as they are.
        iou_type: "bbox", "segm" or "keypoints"; for keypoints OKS stands for IoU.
        engine: "hotcoco", or "pycocotools", the slow original; both give the same numbers.
        iou_thresholds: added to COCO's 0.50, 0.55 … 0.95, over which alone means are taken.
        areas: ranges of area in pixels by name, both ends included, added to COCO's four.
        max_dets: numbers of best-scored results per image and category, added to 1, 10, 100, or to
            keypoints' 20.
        sigmas: for keypoints, how far off each may be in OKS, relative to the object's size: one
            for all, or one for each; by default COCO's for 17 keypoints, else 0.05.

    Raises:
        InputError: a file, a record or an argument cannot be used.
    """
    grid = make_grid(
        iou_type, iou_thresholds=iou_thresholds, areas=areas, max_dets=max_dets, sigmas=sigmas
    )
    version = engine_version(engine)
    with no_collection():
        truth = read_ground_truth(annotations, iou_type=iou_type)
        detections = read_detections(results, truth, iou_type=iou_type)
    return Evaluation(truth, detections, grid, run_engine(engine, truth, detections, grid), version)


def score(
    annotations: GroundTruthSource,
    results: ResultsSource,
    *,
    class_agnostic_recall: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """Scores detections against ground truth as the COCO benchmark does.

    Precision is averaged over 101 recalls, then over categories that have ground truth; every AP
    allows 100 results per image and category unless its key tells another number.

    Args:
        annotations, results, options: as `evaluate`.
        class_agnostic_recall: adds "class_agnostic_recall", AR with all categories taken as one.

    Returns:
        `Scores` as scores.json has them, fractions, None where there is no ground truth to be
        averaged. Own thresholds are further keys of "by_iou_and_size", own areas further rows, own
        numbers of results, say 300, "AR300" at the top and "AP@300" and "AR@300" in every row; they
        are told under "parameters". "annotations" counts crowds, too.

    Raises:
        InputError: a file, a record or an argument cannot be used.

    Paper: Li et al. 2018, arXiv:1804.06215, Tables 3 and 4, for `by_iou_and_size`.
    """
    evaluation = evaluate(annotations, results, **options)
    return evaluation.scores(class_agnostic_recall=class_agnostic_recall).to_json()


def _as_one_category(truth: GroundTruth, detections: Detections) -> tuple[GroundTruth, Detections]:
    """All categories as one, in the order in which pycocotools pools them: by category id."""
    points = truth.keypoints
    one_truth = replace(
        pick_rows(truth, np.argsort(truth.categories, kind="stable")),
        names=("any",) if truth.names else (),
        category_ids=truth.category_ids[:1],
        categories=np.zeros_like(truth.categories),
        keypoint_counts=None if points is None else np.array([points.shape[1]]),
    )
    found = pick_rows(detections, np.argsort(detections.categories, kind="stable"))
    return one_truth, replace(found, categories=np.zeros_like(found.categories))
