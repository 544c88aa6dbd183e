"""A run's course as charts: every loss, the scores of each evaluation, the learning rate."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from detnet.evaluation.metrics import Metric, metrics_of, prefix
from detnet.report.charts import Line, line_chart, smoothed

STYLES = ("one", "two", "three", "four", "five", "six")


@dataclass(frozen=True)
class Chart:
    """A drawing with its title and legend.

    Args:
        title: of the card.
        legend: (name, style) of each line; empty where there is only one.
        drawing: HTML.
        note: a line under the title.
    """

    title: str
    legend: list[tuple[str, str]]
    drawing: str
    note: str = ""


def training_charts(events: Sequence[dict[str, Any]]) -> list[Chart]:
    """The charts that the events have anything for."""
    return list(_charts(events))


def chart(title: str, lines: Sequence[Line], *, note: str = "", **axes: Any) -> Chart | None:
    """A chart of the lines that have points; None where none has."""
    lines = [line for line in lines if line.points]
    drawing = line_chart(lines, **axes)
    legend = [(line.name, line.style) for line in lines] if len(lines) > 1 else []
    return Chart(title, legend, drawing, note) if drawing else None


def _charts(events: Sequence[dict[str, Any]]) -> Iterator[Chart]:
    steps = [event for event in events if event.get("event") == "step"]
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    loss, val_loss = _points(steps, "loss"), _points(evaluations, "val_loss")
    total = [
        Line("each step", loss, "raw"),
        Line("moving mean", smoothed(loss), "one"),
        Line("on val", val_loss, "two"),
    ]
    parts = [
        Line(name.removeprefix("loss_"), smoothed(_points(steps, name)), style)
        for name, style in zip(_parts_of(steps), STYLES * 4, strict=False)
    ]
    found = [
        chart("Loss", total, x_name="iteration"),
        chart("Its parts", parts, note="moving means", x_name="iteration"),
    ]
    for kind, words in (("bbox", ""), ("segm", " of masks"), ("keypoints", " of keypoints")):
        scores = [
            Line(name, _points(evaluations, prefix(kind) + name), style)
            for (name, _), style in zip(_brief(kind), STYLES, strict=False)
        ]
        found.append(
            chart(
                f"Average precision{words} on val",
                scores,
                note=_best(evaluations, prefix(kind)),
                x_name="iteration",
                percent=True,
            )
        )
    errors = [
        Line(metric.title.removesuffix(" error"), _points(evaluations, key), style)
        for (key, metric), style in zip(_brief("classification"), STYLES, strict=False)
    ]
    found.append(chart("Error on val", errors, x_name="iteration", percent=True))
    rate = [Line("learning rate", _points(steps, "lr"), "one")]
    found.append(chart("Learning rate", rate, x_name="iteration"))
    yield from (each for each in found if each is not None)


def _brief(kind: str) -> list[tuple[str, Metric]]:
    return [(name, metric) for name, metric in metrics_of(kind) if metric.brief]


def _parts_of(steps: Sequence[dict[str, Any]]) -> list[str]:
    """Names of the losses whose sum is the loss, in the order in which they were logged."""
    names = [name for event in steps for name in event if name.startswith("loss_")]
    return list(dict.fromkeys(names))


def _best(evaluations: Sequence[dict[str, Any]], before: str) -> str:
    points = _points(evaluations, f"{before}AP")
    if not points:
        return ""
    iteration, best = max(points, key=lambda point: point[1])
    return f"best AP {100 * best:.1f} at iteration {iteration:,}"


def _points(events: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [
        (event["iteration"], event[key])
        for event in events
        if isinstance(event.get(key), int | float) and "iteration" in event
    ]
