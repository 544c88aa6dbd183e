"""Top-1 and top-5 error of a classifier.

Paper: the single-crop evaluation of Li et al. 2018, arXiv:1804.06215, Section 4.2.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:  # pages that only show scores do without torch
    from torch import Tensor

FIVE = 5  # classes, among which everything is found where there are no more


def ranks(logits: "Tensor", labels: "Tensor") -> "Tensor":
    """Says at which place each image's true class came, 0 for the first.

    Other classes with the same score come before it, and a score that is no number is the last:
    a network that tells nothing gets nothing right.

    Args:
        logits: (N, K).
        labels: (N,) int64 in [0, K).

    Returns:
        (N,) int64 in [0, K).
    """
    own = logits.gather(1, labels[:, None])
    before = ~(logits < own)  # also where one of the two is no number
    return before.sum(1) - 1


@dataclass(frozen=True)
class Accuracy:
    """Shares of images whose class came first, or among the first five, and 1 minus these.

    Fractions in 0 … 1; None where there are no images, and of the first five where there are no
    more than five classes.
    """

    top1_error: float | None
    top5_error: float | None
    top1: float | None
    top5: float | None
    images: int

    @staticmethod
    def of(first: int, among_five: int | None, images: int) -> "Accuracy":
        """From counts of images; `among_five` is None where that says nothing."""
        top1 = first / images if images else None
        top5 = among_five / images if images and among_five is not None else None
        top1_error, top5_error = (None if share is None else 1 - share for share in (top1, top5))
        return Accuracy(top1_error, top5_error, top1, top5, images)


@dataclass(frozen=True)
class ClassifierScores(Accuracy):
    """What one evaluation found, of all images and of each class.

    Args:
        val_loss: mean cross-entropy; None without images, or where it is not finite.
        unreadable: reasons, naming the images that were left out.
        per_class: by name, in the order of the labels.
    """

    val_loss: float | None
    unreadable: list[str]
    per_class: dict[str, Accuracy]

    @property
    def headline(self) -> dict[str, float | None]:
        names = ("top1_error", "top5_error", "top1", "top5", "val_loss")
        return {name: getattr(self, name) for name in names}

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def summarise(
    found: np.ndarray,
    labels: np.ndarray,
    classes: Sequence[str],
    *,
    loss: float | None = None,
    unreadable: Sequence[str] = (),
) -> ClassifierScores:
    """Turns places into scores.

    Args:
        found: (N,) places from `ranks`.
        labels: (N,) of the same images.
        classes: names, in the order of the labels.
        loss, unreadable: see `ClassifierScores`.

    Raises:
        ValueError: a label is none of the classes.
    """
    strange = labels[(labels < 0) | (labels >= len(classes))]
    if len(strange):
        raise ValueError(f"labels must lie in 0 … {len(classes) - 1}, got {strange[0]}")
    five: list[int] | list[None] = [None] * len(classes)
    counts = np.bincount(labels, minlength=len(classes)).tolist()
    first = np.bincount(labels[found < 1], minlength=len(classes)).tolist()
    if several := has_top5(len(classes)):
        five = np.bincount(labels[found < FIVE], minlength=len(classes)).tolist()
    rows = zip(classes, first, five, counts, strict=True)
    per_class = {name: Accuracy.of(*numbers) for name, *numbers in rows}
    among_five = int((found < FIVE).sum()) if several else None
    whole = Accuracy.of(int((found < 1).sum()), among_five, len(found))
    return ClassifierScores(
        **vars(whole), val_loss=loss, unreadable=list(unreadable), per_class=per_class
    )


def has_top5(classes: int) -> bool:
    """Whether a class can fail to be among the first five."""
    return classes > FIVE


def _top5(error: float | None) -> list[str]:
    return [] if error is None else [f"top-5 error {100 * error:.2f} %"]


def format_errors(scores: ClassifierScores, *, worst: int = 5) -> str:
    """Shows the scores for a terminal: the errors in percent and the hardest classes.

    Args:
        worst: how many of the classes with the highest top-1 error.
    """
    if scores.top1_error is None:
        return "no images to evaluate on"
    lines = [
        f"top-1 error {100 * scores.top1_error:.2f} %",
        *_top5(scores.top5_error),
        f"{scores.images} images of {len(scores.per_class)} classes",
    ]
    errors = [
        (entry.top1_error, name)
        for name, entry in scores.per_class.items()
        if entry.top1_error is not None
    ]
    hardest = sorted(errors, key=lambda entry: (-entry[0], entry[1]))[:worst]
    width = max(len(name) for _, name in hardest)
    lines += ["", "hardest classes, top-1 error"]
    lines += [f"  {name:<{width}}  {100 * error:6.2f} %" for error, name in hardest]
    return "\n".join(lines)
