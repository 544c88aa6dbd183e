"""What a page shows of a diagnosis: precision over recall, drawn, and what is taken for what."""

from collections.abc import Sequence
from dataclasses import dataclass

from detnet.evaluation.coco import Evaluation
from detnet.evaluation.diagnosis.diagnose import confusion_from
from detnet.evaluation.diagnosis.records import Curves, Diagnosis
from detnet.report.charts import STYLES, Frame, Line, line_chart, path

_FRAME = Frame(0, 1, 0, 1)


@dataclass(frozen=True)
class DrawnCurves:
    """The mean's chart, and for each class the lines that take the place of the mean's.

    Args:
        legend: name and style of each line.
        names: of the classes that have curves.
        lines: of the mean, then of those classes, as SVG attributes which the page's script puts
            in, one for each IoU threshold.
    """

    drawing: str
    legend: Sequence[tuple[str, str]]
    names: Sequence[str]
    lines: Sequence[Sequence[str]]


def draw_curves(curves: Curves) -> DrawnCurves:
    """Draws the curves of a diagnosis."""
    recalls, thresholds = curves["recalls"], [str(t) for t in curves["thresholds"]]
    lines = [
        Line(f"IoU .{threshold}", _pairs(recalls, curves["mean"].get(threshold)), style)
        for threshold, style in zip(thresholds, STYLES, strict=False)
    ]
    drawing = line_chart(
        [Line(line.name, line.points or [(0.0, 0.0)], line.style) for line in lines],
        x_name="recall",
        percent=True,
        x_percent=True,
        x_range=(0, 1),
        y_range=(0, 1),
        dots=False,
    )
    classes = {name: each for name, each in curves["classes"].items() if any(each.values())}
    every = [curves["mean"], *classes.values()]
    return DrawnCurves(
        drawing,
        [(line.name, line.style) for line in lines],
        [*classes],
        [[_drawn(recalls, curve.get(threshold)) for threshold in thresholds] for curve in every],
    )


def from_score(threshold: float, evaluation: Evaluation, diagnosis: Diagnosis) -> Diagnosis:
    """Counts what is taken for what from the score at which a page's pictures begin.

    From 0.5 on an unsure model's table would call missed what the pictures above it show as found.
    """
    if diagnosis["score_threshold"] == threshold:
        return diagnosis
    confusion = confusion_from(evaluation, threshold)
    return {**diagnosis, "score_threshold": threshold, "confusion": confusion}


def _pairs(
    recalls: Sequence[float], precisions: Sequence[float] | None
) -> list[tuple[float, float]]:
    return list(zip(recalls, precisions, strict=True)) if precisions else []


def _drawn(recalls: Sequence[float], precisions: Sequence[float] | None) -> str:
    """A curve as the points of an SVG line; runs of equal precision keep their ends only."""
    pairs = _pairs(recalls, precisions)
    kept = [
        pair
        for index, pair in enumerate(pairs)
        if index in (0, len(pairs) - 1) or not pairs[index - 1][1] == pair[1] == pairs[index + 1][1]
    ]
    return path([_FRAME.place(*pair) for pair in kept])
