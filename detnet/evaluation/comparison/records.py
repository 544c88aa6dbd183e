"""What a comparison tells, as it is written to JSON; docs/comparison.md explains the numbers."""

from typing import Any, NotRequired, TypedDict


class Difference(TypedDict):
    """Two scores, the other's less the first's, and the interval that it lies in."""

    first: float
    other: float
    difference: float
    low: float | None
    high: float | None
    verdict: str


Cell = Difference | None  # None where there is no ground truth


class PairDifferences(TypedDict):
    """Of one detector from the first, by the keys of the scores."""

    name: str
    headline: dict[str, Cell]
    by_iou_and_size: dict[str, dict[str, dict[str, Cell]]]
    per_class: dict[str, dict[str, Cell]]


class ImageObjects(TypedDict):
    """Objects of an image, as positions among the annotations."""

    image_id: int
    file_name: NotRequired[str | None]
    truths: list[int]


class PairPictures(TypedDict):
    """Images with objects that only one of two detectors finds, most objects first."""

    name: str
    only_first: list[ImageObjects]
    only_other: list[ImageObjects]


class Comparison(TypedDict):
    """Detectors beside the first of them.

    `scores` are each detector's as `score` gives them. Of files and runs there are `annotations`
    and `sources`, where they were measured `cost`, as `detnet.report.comparison_cost` has it.
    """

    names: list[str]
    iou_type: str
    images: int
    resamples: int
    seed: int
    confidence: float
    ground_truth: str
    ground_truth_taken: str
    scores: list[dict[str, Any]]
    differences: list[PairDifferences]
    pictures: list[PairPictures]
    notes: NotRequired[list[str]]
    annotations: NotRequired[str]
    sources: NotRequired[list[str]]
    cost: NotRequired[Any]
