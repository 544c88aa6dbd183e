"""What a diagnosis tells, as it is written to JSON; docs/diagnosis.md explains the numbers."""

from typing import TypedDict


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
