"""Top-1 and top-5 error of a classifier.

Paper: the single-crop evaluation of Li et al. 2018, arXiv:1804.06215, Section 4.2.
"""

from collections.abc import Sequence
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


def summarise(found: np.ndarray, labels: np.ndarray, classes: Sequence[str]) -> dict[str, Any]:
    """Turns places into the scores JSON.

    Args:
        found: (N,) places from `ranks`.
        labels: (N,) of the same images.
        classes: names, in the order of the labels.

    Returns:
        `top1`, `top5`, the shares of images whose class came first and among the first five,
        `top1_error` and `top5_error`, which are 1 minus these, `images`, and the same of each
        class in `per_class`; None where there are no images, and of the first five where there are
        no more than five classes. Fractions in 0 … 1.

    Raises:
        ValueError: a label is none of the classes.
    """
    if len(found) and not (labels.min() >= 0 and labels.max() < len(classes)):
        raise ValueError(f"labels must lie in 0 … {len(classes) - 1}")
    counts = np.bincount(labels, minlength=len(classes))
    first = np.bincount(labels[found < 1], minlength=len(classes))
    five = np.bincount(labels[found < FIVE], minlength=len(classes))
    per_class = {
        name: _shares(int(first[at]), int(five[at]), int(counts[at]))
        for at, name in enumerate(classes)
    }
    scores = _shares(int(first.sum()), int(five.sum()), int(counts.sum()))
    if not has_top5(len(classes)):
        for each in (scores, *per_class.values()):
            each |= {"top5": None, "top5_error": None}
    return {**scores, "per_class": per_class}


def has_top5(classes: int) -> bool:
    """Whether a class can fail to be among the first five."""
    return classes > FIVE


def _shares(first: int, among_five: int, count: int) -> dict[str, Any]:
    shares = [hit / count if count else None for hit in (first, among_five)]
    errors = [None if share is None else 1 - share for share in shares]
    return {
        "top1_error": errors[0],
        "top5_error": errors[1],
        "top1": shares[0],
        "top5": shares[1],
        "images": count,
    }


def _top5(error: float | None) -> list[str]:
    return [] if error is None else [f"top-5 error {100 * error:.2f} %"]


def format_errors(scores: dict[str, Any], *, worst: int = 5) -> str:
    """Shows the scores JSON for a terminal: the errors in percent and the hardest classes.

    Args:
        worst: how many of the classes with the highest top-1 error.
    """
    if not scores["images"]:
        return "no images to evaluate on"
    lines = [
        f"top-1 error {100 * scores['top1_error']:.2f} %",
        *_top5(scores["top5_error"]),
        f"{scores['images']} images of {len(scores['per_class'])} classes",
    ]
    errors = [
        (entry["top1_error"], name)
        for name, entry in scores["per_class"].items()
        if entry["top1_error"] is not None
    ]
    hardest = sorted(errors, key=lambda entry: (-entry[0], entry[1]))[:worst]
    width = max(len(name) for _, name in hardest)
    lines += ["", "hardest classes, top-1 error"]
    lines += [f"  {name:<{width}}  {100 * error:6.2f} %" for error, name in hardest]
    return "\n".join(lines)
