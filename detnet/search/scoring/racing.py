"""Racing: a candidate that is clearly behind on some of the images is not scored on the others."""

from collections.abc import Callable, Mapping, Sequence

Prune = Callable[[Sequence[Mapping[int, float]], int, float], bool]


def racing(keep: int, *, margin: float = 0.1) -> Prune:
    """Gives a candidate up that is far behind the best ones of its generation so far.

    It is compared with what the others reported after the same images, so that easy and hard images
    cancel. Its score on those is what it keeps: too low to become a parent, but not of the same
    images as the others' scores, and with several workers it depends on chance which candidates
    are given up. A search that shall be repeated exactly does without.

    Args:
        keep: how many of a generation are never given up at any time, as many as there are parents.
        margin: how far behind the worst of those, as a share of its score.
    """
    if keep < 1 or not margin >= 0:
        raise ValueError(f"keep must be positive and margin not negative, got {keep}, {margin}")

    def prune(others: Sequence[Mapping[int, float]], step: int, value: float) -> bool:
        best = sorted((other[step] for other in others if step in other), reverse=True)
        return len(best) >= keep and value < best[keep - 1] * (1 - margin)

    return prune
