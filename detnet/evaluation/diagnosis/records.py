"""What a diagnosis tells, as JSON (docs/diagnosis.md explains the numbers) and as text."""

from collections.abc import Mapping
from functools import partial
from typing import Any, TypedDict

from detnet import text
from detnet.text import lay_out, shorten

_MOST_CLASSES = 12  # whose confusion matrix fits a terminal
_MOST_LINES = 20
_NAME_WIDTH = 24

_percent = partial(text.percent, none="-")


class ErrorKind(TypedDict):
    """How many errors are of a kind, and the AP they cost; None without any object."""

    count: int
    cost: float | None


class Confusion(TypedDict):
    """Rows of the matrix are the objects' classes, columns what was detected, background last."""

    names: list[str]
    matrix: list[list[int]]


class Curves(TypedDict):
    """Precision at 101 recalls by class and IoU threshold in percent; None without any object."""

    recalls: list[float]
    thresholds: list[int]
    classes: dict[str, dict[str, list[float] | None]]
    mean: dict[str, list[float] | None]


class CalibrationBin(TypedDict):
    """Detections that score from `low` to `high`, their mean score and the share that is right."""

    low: float
    high: float
    score: float | None
    precision: float | None
    count: int


class Calibration(TypedDict):
    """The mean distance of score and share that is right, the largest, and that of each class."""

    ece: float | None
    mce: float | None
    bins: list[CalibrationBin]
    per_class: dict[str, float | None]


class SuspectLabel(TypedDict):
    """A false detection so sure that the label may be wrong; `box` is xywh, in pixels.

    `kind` is "wrong class" or "unlabelled", where `labelled` is None.
    """

    image_id: int
    kind: str
    score: float
    detected: str
    labelled: str | None
    box: list[float]
    iou: float


class ImageTally(TypedDict):
    """Objects found and missed on an image, false detections, and its AP; None without objects."""

    found: int
    missed: int
    false: int
    AP50: float | None


class Diagnosis(TypedDict):
    """Everything; `AP50` is the AP at `iou_threshold`, `images` is by id."""

    iou_type: str
    iou_threshold: float
    score_threshold: float
    AP50: float | None
    errors: dict[str, ErrorKind]
    confusion: Confusion
    curves: Curves
    calibration: Calibration
    label_errors: list[SuspectLabel]
    images: dict[str, ImageTally]


def confused_pairs(confusion: Confusion) -> list[tuple[int, str, str]]:
    """Counts of objects taken for another class: label and detection, the most frequent first."""
    names = confusion["names"]
    pairs = [
        (count, names[row], names[column])
        for row, counts in enumerate(confusion["matrix"][:-1])
        for column, count in enumerate(counts[:-1])
        if count and row != column
    ]
    return sorted(pairs, key=lambda pair: -pair[0])


def format_diagnosis(diagnosis: Diagnosis, *, image_names: Mapping[int, str] | None = None) -> str:
    """Lays out what `diagnose` tells as tables; "-" where there is nothing to average.

    Args:
        image_names: names by image id, to be shown in place of the ids.
    """
    parts = [
        _errors(diagnosis),
        _confusion(diagnosis),
        _calibration(diagnosis["calibration"]),
        _label_errors(diagnosis["label_errors"], image_names or {}),
    ]
    return "\n\n".join(parts)


def _errors(diagnosis: Diagnosis) -> str:
    kind = {"bbox": "boxes", "segm": "masks"}[diagnosis["iou_type"]]
    threshold = diagnosis["iou_threshold"]
    ap = f"AP{100 * threshold:.6g} {_percent(diagnosis['AP50'])}"
    title = f"Errors of {kind} at IoU {threshold:.6g} ({ap}), and the points of AP they cost"
    rows = [["error", "count", "cost"]]
    for name, error in diagnosis["errors"].items():
        rows.append([name, str(error["count"]), _percent(error["cost"])])
    return f"{title}\n{lay_out(rows, left=(0,))}"


def _confusion(diagnosis: Diagnosis) -> str:
    names, matrix = diagnosis["confusion"]["names"], diagnosis["confusion"]["matrix"]
    where = f"at scores from {diagnosis['score_threshold']:g} on"
    where += f": {_totals(matrix)}\n"
    if len(names) - 1 <= _MOST_CLASSES:
        short = [shorten(name, _NAME_WIDTH) for name in names]
        rows = [["", *short]] + [
            [name, *map(str, counts)] for name, counts in zip(short, matrix, strict=True)
        ]
        return f"Confusion {where}Rows are labels, columns detections\n{lay_out(rows, left=(0,))}"
    pairs = confused_pairs(diagnosis["confusion"])
    if not pairs:
        return f"Confusion {where}No class is taken for another"
    rows = [["labelled", "detected", "count"]] + [
        [shorten(label, _NAME_WIDTH), shorten(found, _NAME_WIDTH), str(count)]
        for count, label, found in pairs[:_MOST_LINES]
    ]
    return f"Confusion {where}Most frequent{_of(pairs)}\n{lay_out(rows, left=(0, 1))}"


def _totals(matrix: list[list[int]]) -> str:
    objects, nothing = matrix[:-1], sum(matrix[-1])
    found = sum(counts[row] for row, counts in enumerate(objects))
    missed = sum(counts[-1] for counts in objects)
    total = sum(map(sum, objects))
    return (
        f"of {total} objects {found} found, {total - found - missed} taken for another class, "
        f"{missed} missed; {nothing} detections of nothing"
    )


def _calibration(calibration: Calibration) -> str:
    if calibration["ece"] is None:
        return "Calibration: - (no detections, or scores that are not between 0 and 1)"
    ece, mce = _percent(calibration["ece"]), _percent(calibration["mce"])
    rows = [["scores", "mean score", "right", "count"]] + [
        [
            f"{one['low']:.1f} to {one['high']:.1f}",
            _percent(one["score"]),
            _percent(one["precision"]),
            str(one["count"]),
        ]
        for one in calibration["bins"]
    ]
    title = f"Calibration: scores are off by {ece} on average (ECE), {mce} at most, percent"
    return f"{title}\n{lay_out(rows, left=(0,))}"


def _label_errors(errors: list[SuspectLabel], image_names: Mapping[int, str]) -> str:
    if not errors:
        return "Likely label errors: none"
    rows = [["image", "kind", "score", "labelled", "detected", "x", "y", "width", "height"]]
    for error in errors[:_MOST_LINES]:
        rows.append(
            [
                image_names.get(error["image_id"], str(error["image_id"])),
                error["kind"],
                f"{error['score']:.3f}",
                shorten(error["labelled"] or "-", _NAME_WIDTH),
                shorten(error["detected"], _NAME_WIDTH),
                *(f"{number:.0f}" for number in error["box"]),
            ]
        )
    title = f"Likely label errors, for a person to look at{_of(errors)}"
    return f"{title}\n{lay_out(rows, left=(0, 1))}"


def _of(listed: list[Any]) -> str:
    return f" ({_MOST_LINES} of {len(listed)})" if len(listed) > _MOST_LINES else ""
