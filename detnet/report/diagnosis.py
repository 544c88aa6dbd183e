"""Why a detector errs, for the page: the diagnosis JSON as bars, curves and a heat map."""

from collections.abc import Mapping, Sequence
from typing import Any

from detnet.evaluation.diagnosis.records import (
    Calibration,
    Confusion,
    Curves,
    Diagnosis,
    ErrorKind,
)
from detnet.report.charts import Frame, Line, line_chart, path

NUMBERS_UP_TO = 16  # classes whose confusion matrix is a table of numbers; beyond, a map of squares
_PAIRS = 10
_FRAME = Frame(0, 1, 0, 1)
_MEANINGS = {
    "classification": "right place, wrong class",
    "localisation": "right class, too far off",
    "both": "wrong class and too far off",
    "duplicate": "an object that a surer one has found",
    "background": "where there is nothing",
    "missed": "objects that nothing covers",
}


def diagnosis_view(diagnosis: Diagnosis) -> dict[str, Any]:
    """Everything that the template draws of what `detnet.evaluation.diagnosis` found."""
    return {
        "iou_threshold": diagnosis["iou_threshold"],
        "score_threshold": diagnosis["score_threshold"],
        "AP50": diagnosis["AP50"],
        "errors": _errors(diagnosis["errors"]),
        "confusion": _confusion(diagnosis["confusion"]),
        "curves": _curves(diagnosis["curves"]),
        "calibration": _calibration(diagnosis["calibration"]),
    }


def _errors(errors: Mapping[str, ErrorKind]) -> list[dict[str, Any]]:
    """One bar per kind of error, the length its cost on a scale that they share."""
    most = max((kind["cost"] or 0 for kind in errors.values()), default=0)
    return [
        {
            "name": name,
            "meaning": _MEANINGS.get(name, ""),
            **kind,
            "share": max(0.0, (kind["cost"] or 0) / most) if most > 0 else 0.0,
        }
        for name, kind in errors.items()
    ]


def _confusion(confusion: Confusion) -> dict[str, Any]:
    """Rows with the share of each cell in its row, and the commonest mistakes in words."""
    names, matrix = confusion["names"], confusion["matrix"]
    rows = []
    for name, counts in zip(names, matrix, strict=True):
        total = sum(counts)
        shares = [count / total if total else 0.0 for count in counts]
        rows.append({"name": name, "cells": list(zip(counts, shares, names, strict=True))})
    pairs = [
        (counts[found], names[truth], names[found])
        for truth, counts in enumerate(matrix)
        for found in range(len(names))
        if truth != found and counts[found]
    ]
    pairs.sort(key=lambda pair: -pair[0])
    confused = [pair for pair in pairs if names[-1] not in pair]
    most = confused[0][0] if confused else 0
    return {
        "names": names,
        "rows": rows,
        "numbers": len(names) - 1 <= NUMBERS_UP_TO,
        "confused": [
            (count, count / most, truth, found) for count, truth, found in confused[:_PAIRS]
        ],
    }


def _curves(curves: Curves) -> dict[str, Any]:
    """The mean's chart, and for each class the two lines that take the place of the mean's.

    The classes' lines are given as SVG attributes, which the page's script puts in.
    """
    recalls, thresholds = curves["recalls"], [str(t) for t in curves["thresholds"]]
    styles = ("one", "two", "three", "four")
    lines = [
        Line(f"IoU .{threshold}", _pairs(recalls, curves["mean"].get(threshold)), style)
        for threshold, style in zip(thresholds, styles, strict=False)
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
    every = {"": curves["mean"], **curves["classes"]}
    return {
        "drawing": drawing,
        "legend": [(line.name, line.style) for line in lines],
        "names": [name for name, curve in curves["classes"].items() if curve],
        "lines": [
            [_drawn(recalls, (curve or {}).get(threshold)) for threshold in thresholds]
            for name, curve in every.items()
            if curve or not name
        ],
    }


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


def _calibration(calibration: Calibration) -> dict[str, Any]:
    """Bars of how often a score was right, over the scores, and how many detections had it."""
    bins = calibration["bins"]
    most = max((each["count"] for each in bins), default=0)
    worst = sorted(
        ((name, ece) for name, ece in calibration["per_class"].items() if ece is not None),
        key=lambda pair: -pair[1],
    )
    return {
        "ece": calibration["ece"],
        "mce": calibration["mce"],
        "bars": [{**each, "share": each["count"] / most if most else 0.0} for each in bins],
        "classes": worst[:5] if len(worst) > 1 else [],
    }
