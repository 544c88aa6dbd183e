"""What a campaign asks: "detnet59 over resnet50: AP85 large", read and looked up in COCO's grid."""

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from detnet.errors import InputError
from detnet.evaluation.grid import Grid, Measure, make_grid
from detnet.kinds import of_kind
from detnet.tables import unknown_name

KINDS = {"": "bbox", "masks": "segm", "keypoints": "keypoints"}  # as a question names them
_FORM = '"VARIANT over VARIANT: MEASURE", as "detnet59 over resnet50: AP85 large"'
_KEYS = ("ask", "effect", "data")


@dataclass(frozen=True)
class AskedMeasure:
    """A number of an evaluation.

    Args:
        text: as asked: "AP", "AP85 large", "masks AR small".
        kind: "bbox", "segm" or "keypoints".
        measure: where it lies in the grid of this kind.
    """

    text: str
    kind: str
    measure: Measure


@dataclass(frozen=True)
class Question:
    """Whether one variant is better than another.

    Args:
        text: without the data sets.
        first: the variant that is supposed to be better.
        other: than this one.
        measure: by this number.
        less: less this number, where the question is how a lead grows; None else.
        data: names of the data sets that it is asked on.
        effect: the smallest difference that matters, a fraction; None where none was stated.
    """

    text: str
    first: str
    other: str
    measure: AskedMeasure
    less: AskedMeasure | None
    data: tuple[str, ...]
    effect: float | None = None

    @property
    def measures(self) -> list[AskedMeasure]:
        """One, or two where the question is how a lead grows."""
        return [self.measure, *([self.less] if self.less else [])]


def read_question(
    asked: Any,
    *,
    variants: Collection[str],
    data: Mapping[str, Collection[str]],
    effect: float | None,
    where: str,
) -> Question:
    """Reads a question.

    Args:
        asked: a text, or a mapping with the text as "ask", and "effect" in points or "data".
        variants: names that there are.
        data: names that there are, with the kinds of scores that the detectors have there.
        effect: in points, where the question states none.
        where: the file and the question's place in it, for messages.

    Raises:
        InputError: it is no question, or of a variant, a measure or data that are not there.
    """
    entry: Mapping[str, Any] = asked if isinstance(asked, Mapping) else {"ask": asked}
    for name in entry:
        if name not in _KEYS:
            raise InputError(f"{where}: {unknown_name('key', name, _KEYS)}")
    text = entry.get("ask")
    if not isinstance(text, str):
        raise InputError(f"{where}: a question is {_FORM}, got {text!r}")
    text = " ".join(text.split())
    parts = re.fullmatch(r"(\S+) over (\S+): (.+)", text)
    if parts is None:
        raise InputError(f"{where}: {text!r}: a question is {_FORM}")
    first, other, rest = parts.groups()
    for name in (first, other):
        if name not in variants:
            raise InputError(f"{where}: {unknown_name('variant', name, variants)}")
    if first == other:
        raise InputError(f"{where}: {text!r}: compares {first} with itself")
    one, _, less = rest.partition(" less ")
    measure = read_measure(one, where=where)
    beside = read_measure(less, where=where) if less else None
    if beside is not None and beside.kind != measure.kind:
        raise InputError(f"{where}: {text!r}: takes one kind of scores from another")
    if beside is not None and beside.measure == measure.measure:
        raise InputError(f"{where}: {text!r}: takes {one} from itself")
    points = entry.get("effect", effect)
    if points is not None and not (of_kind(points, float) and points > 0):
        raise InputError(f"{where}: effect must be a number of points above 0, got {points!r}")
    return Question(
        text,
        first,
        other,
        measure,
        beside,
        _data(entry.get("data"), data, measure.kind, f"{where}: {text!r}"),
        points / 100 if points is not None else None,
    )


def read_measure(text: str, *, where: str) -> AskedMeasure:
    """Looks a measure up: one of the headline, "AP75"; or AP or AR at a threshold and a size.

    Raises:
        InputError: there is none, naming the nearest.
    """
    words = text.split()
    group = words.pop(0) if len(words) > 1 and words[0] in KINDS else ""
    kind = KINDS[group]
    known = _known(make_grid(kind))
    name = " ".join(words)
    if name not in known:
        raise InputError(f"{where}: {unknown_name('measure', name, known)}")
    return AskedMeasure(text, kind, known[name])


def _known(grid: Grid) -> dict[str, Measure]:
    """Every measure by its name: "AP", "AP85", "AP85 large", "AR small"."""
    found = dict(grid.headline)
    for size, rows in grid.by_iou_and_size.items():
        for row, cells in rows.items():
            for threshold, measure in cells.items():
                name = row + ("" if threshold == "mean" else threshold)
                found.setdefault(name if size == "all" else f"{name} {size}", measure)
    return found


def _data(
    asked: Any, known: Mapping[str, Collection[str]], kind: str, where: str
) -> tuple[str, ...]:
    """The data sets named, or all whose detectors have such scores."""
    fitting = [name for name, kinds in known.items() if kind in kinds]
    names = [asked] if isinstance(asked, str) else fitting if asked is None else asked
    if not of_kind(names, list[str]) or asked is not None and not names:
        raise InputError(f"{where}: data must be names of data sets, got {asked!r}")
    for name in names:
        if name not in known:
            raise InputError(f"{where}: {unknown_name('data set', name, known)}")
    lacking = [name for name in names or known if name not in fitting]
    if lacking:
        words = next(group for group, each in KINDS.items() if each == kind)
        raise InputError(f"{where}: the detectors on {lacking[0]} find no {words or 'boxes'}")
    return tuple(dict.fromkeys(names))
