"""Registered metrics that the tables do not tell: they are of curves, for which this matches."""

from dataclasses import dataclass

import numpy as np

from detnet.coco.ground_truth import GroundTruth
from detnet.evaluation.detections import Detections
from detnet.evaluation.grid import Grid, Measure
from detnet.evaluation.matching import ClassRankings, Matches, class_rankings, match


@dataclass(frozen=True)
class CurveMeasure:
    """What a registered metric makes of all classes and of each; None for nothing to be found."""

    mean: float | None
    classes: list[float | None]


def curve_measures(
    truth: GroundTruth, detections: Detections, grid: Grid, matches: Matches | None
) -> dict[Measure, CurveMeasure]:
    """Measures the headline's registered metrics; nothing where there are none.

    Args:
        matches: where they are known already.
    """
    chosen = [each for each in grid.headline.values() if callable(each.of)]
    if not chosen:
        return {}
    matches = matches or match(truth, detections, grid)
    limits = sorted({(each.size, each.limit) for each in chosen})
    rankings = [class_rankings(matches, k, limits) for k in range(len(truth.names))]
    found = {}
    for each in chosen:
        classes = [_of_class(of_class, each) for of_class in rankings]
        there = [value for value in classes if value is not None]
        found[each] = CurveMeasure(sum(there) / len(there) if there else None, classes)
    return found


def _of_class(rankings: ClassRankings, measure: Measure) -> float | None:
    assert callable(measure.of)
    objects = np.array([float(len(rankings.objects[measure.size]))])
    values = []
    for threshold in measure.thresholds if objects[0] else ():
        hits = rankings.rankings[measure.size, threshold, measure.limit].hits[:, None]
        found = np.arange(1.0, len(hits) + 1)[:, None]
        values.append(float(measure.of(found, hits + 1.0, objects)[0]) if len(hits) else 0.0)
    return float(np.mean(values)) if values and not np.isnan(values).any() else None
