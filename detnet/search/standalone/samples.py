"""Networks of a space to hold others against: drawn at random, and the largest that is allowed."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import combinations, islice

import numpy as np
from numpy.typing import NDArray

from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.backbones.spaces.space import Space
from detnet.errors import InputError
from detnet.search.costs.counting import SpacePath

Allows = Callable[[SpacePath], bool]

_TRIES = 200_000  # draws, of which all but a few would have to be refused
_STARTS, _FEW_TRIES, _LARGEST = 20, 2000, 33  # random networks to enlarge, and their purpose


def draw_paths(
    space: Space, allows: Allows, count: int, *, seed: int, purpose: int, tries: int = _TRIES
) -> list[SpacePath]:
    """Draws different allowed paths, every gene uniformly.

    They are one sequence: with a larger count the first ones stay as they are. Where a space spells
    one network in several ways, it is drawn as often as it has spellings.

    Args:
        seed: of the draws.
        purpose: a number that keeps them apart from others of the same seed.
        tries: draws before giving up.

    Raises:
        InputError: so many draws do not hold as many different allowed paths.
    """
    found = list(islice(_draws(space, allows, seed, purpose, tries), count))
    if len(found) < count:
        raise InputError(
            f"{tries:,} random networks of the space hold only {len(found)} different ones that "
            f"are allowed, {count} are needed; widen the limits"
        )
    return found


def _draws(
    space: Space, allows: Allows, seed: int, purpose: int, tries: int
) -> Iterator[SpacePath]:
    """Different allowed paths, as they come."""
    rng = np.random.default_rng(np.random.SeedSequence((seed, purpose)))
    choices = [len(gene.choices) for gene in space.genes]
    seen: set[SpacePath] = set()
    for _ in range(tries):
        path = space.check(rng.integers(choices).tolist())
        if path not in seen:
            seen.add(path)
            if allows(path):
                yield path


def largest_within(
    space: Space, macs: Callable[[SpacePath], int], limit: float, allows: Allows, *, seed: int = 0
) -> tuple[SpacePath, bool]:
    """Finds the allowed network with the most multiply-adds.

    In a shuffle space, whose blocks' costs add up, the network nearest below the limit is found
    exactly, among all. Where other limits forbid that one, and in other spaces, several random
    allowed networks are enlarged, by the change of one or two genes that adds most, as long as
    there is one; the largest of these is returned.

    Args:
        macs: multiply-adds of a path.
        limit: on them.
        allows: whether a path keeps to all limits.
        seed: of the random networks.

    Returns:
        The path, and whether it is certainly the largest.

    Raises:
        InputError: no allowed network was found.
    """
    if isinstance(space, ShuffleSpace):
        path = _nearest_sum(space, macs, limit)
        if path is not None and allows(path):
            return path, True

    def fits(path: SpacePath) -> bool:
        return macs(path) <= limit and allows(path)

    starts = draw_paths(space, fits, 1, seed=seed, purpose=_LARGEST)
    starts += islice(_draws(space, fits, seed, _LARGEST, _FEW_TRIES), 1, _STARTS)
    return max((_enlarged(space, macs, fits, start) for start in starts), key=macs), False


def _enlarged(
    space: Space, macs: Callable[[SpacePath], int], fits: Allows, path: SpacePath
) -> SpacePath:
    """Changes one gene or, where none is left to change, two, each time to the most added."""
    while True:
        for many in (1, 2):
            larger = [
                other
                for other in _neighbours(space, path, many)
                if macs(other) > macs(path) and fits(other)
            ]
            if larger:
                path = max(larger, key=macs)
                break
        else:
            return path


def _neighbours(space: Space, path: SpacePath, many: int) -> list[SpacePath]:
    found: list[SpacePath] = []
    genes = space.genes
    for places in combinations(range(len(genes)), many):
        changed = [path]
        for place in places:
            changed = [
                (*one[:place], choice, *one[place + 1 :])
                for one in changed
                for choice in range(len(genes[place].choices))
                if choice != one[place]
            ]
        found += changed
    return [space.check(one) for one in found]


def _nearest_sum(
    space: ShuffleSpace, macs: Callable[[SpacePath], int], limit: float
) -> SpacePath | None:
    """The path of most multiply-adds up to the limit, None if all have more.

    The different sums of each half of the genes are few, since a stage's blocks are alike; the
    best pair of a sum of one half and one of the other is looked up in order.
    """
    genes = len(space.genes)
    zero = (0,) * genes
    base = macs(zero)
    adds = [
        [macs((*zero[:place], choice, *zero[place + 1 :])) - base for choice in range(count)]
        for place, count in enumerate(len(gene.choices) for gene in space.genes)
    ]
    half = genes // 2
    first, second = _sums(adds[:half]), _sums(adds[half:])
    left, right = first[-1], second[-1]
    index = np.searchsorted(right, math.floor(limit - base) - left, side="right") - 1
    if (index < 0).all():
        return None
    totals = np.where(index >= 0, left + right[index], np.iinfo(np.int64).min)
    best = int(totals.argmax())
    return (
        *_unfold(adds[:half], first, int(left[best])),
        *_unfold(adds[half:], second, int(right[index[best]])),
    )


def _sums(adds: Sequence[Sequence[int]]) -> list[NDArray[np.int64]]:
    """The different sums over the first 0, 1, … genes, ascending."""
    found = [np.zeros(1, dtype=np.int64)]
    for row in adds:
        found.append(np.unique(found[-1][:, None] + np.asarray(row, dtype=np.int64)))
    return found


def _unfold(
    adds: Sequence[Sequence[int]], sums: Sequence[NDArray[np.int64]], total: int
) -> list[int]:
    """The choices that make a sum, from the last gene back."""
    path: list[int] = []
    for row, before in zip(reversed(adds), reversed(sums[:-1]), strict=True):
        choice = next(
            index
            for index, value in enumerate(row)
            if (at := int(np.searchsorted(before, total - value))) < len(before)
            and before[at] == total - value
        )
        path.append(choice)
        total -= row[choice]
    return path[::-1]
