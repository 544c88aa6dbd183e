"""A comparison as it is shown, on a terminal and on the page alike: rows, tables, common axes."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from detnet import text
from detnet.evaluation.comparison.bootstrap import Difference
from detnet.evaluation.comparison.compare import Comparison, ImageObjects, PairDifferences
from detnet.evaluation.metrics import MEASURES, overlap_name
from detnet.report.charts import nice_ticks
from detnet.report.rendering import minus
from detnet.report.score_tables import by_measure, column_title

WORDS = {"higher": "higher", "lower": "lower", "cannot be told from noise": "noise"}
_ROOM = 3.0  # times the middle interval, beyond which a chart cuts intervals off


@dataclass(frozen=True)
class Row:
    """A difference of two scores, all fractions.

    Args:
        low, high: ends of its interval, None where there is none.
        group: under which it stands with those that follow.
        objects: of a class.
        at, span, ends: places on a common axis, percent of it: of the difference, None beyond it;
            of the line's begin and end; of those ends that the axis reaches.
    """

    label: str
    first: float
    other: float
    difference: float
    low: float | None
    high: float | None
    verdict: str
    group: str = ""
    objects: int = 0
    at: float | None = None
    span: Sequence[float] = ()
    ends: Sequence[float] = ()

    @property
    def word(self) -> str:
        """The verdict, short."""
        return WORDS[self.verdict]

    @property
    def points(self) -> str:
        """The difference in points of percent; on which side of 0 where that can be told."""
        return points(self.difference, side=self.word != "noise")

    @property
    def interval(self) -> str:
        """From what to what it may be; "-" for nothing."""
        if self.low is None or self.high is None:
            return "-"
        return f"{points(self.low, side=True)} to {points(self.high, side=True)}"


@dataclass(frozen=True)
class Axis:
    """Rows on a common axis; places are percent of it.

    Args:
        zero: where a difference of 0 stands.
        ticks: places, numbers, and whether narrow screens have no room for the number.
    """

    rows: Sequence[Row]
    zero: float
    ticks: Sequence[tuple[float, str, bool]]


@dataclass(frozen=True)
class Block:
    """One size of objects: the detectors below each other, then their differences.

    Args:
        scores: letter and values, in the table's columns.
        differences: "B - A" and its cells.
    """

    size: str
    scores: Sequence[tuple[str, Sequence[float | None]]]
    differences: Sequence[tuple[str, Sequence[Row | None]]]

    @property
    def empty(self) -> bool:
        """Whether there are no objects of the size."""
        return all(value is None for _, values in self.scores for value in values)


@dataclass(frozen=True)
class Table:
    """Table 3 or 4 of DetNet's paper.

    Args:
        columns: IoU thresholds as they are shown.
    """

    title: str
    columns: Sequence[str]
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Pair:
    """One detector beside the first.

    Args:
        letter: of the detector; the first is A.
        headline: rows by the title of their chart.
        by_size: likewise.
        per_class: by class, then metric.
    """

    letter: str
    name: str
    headline: Mapping[str, Sequence[Row]]
    by_size: Mapping[str, Sequence[Row]]
    per_class: Mapping[str, Mapping[str, Row | None]]

    @property
    def charts(self) -> list[tuple[str, Axis]]:
        """The charts that have anything to show."""
        return [(title, on_axis(rows)) for title, rows in self._titled() if rows]

    @property
    def classes(self) -> Axis | None:
        """The classes' AP, what falls most first; None without any."""
        rows = [row for measures in self.per_class.values() if (row := measures["AP"])]
        return on_axis(sorted(rows, key=lambda row: row.difference)) if rows else None

    @property
    def told(self) -> tuple[int, int]:
        """How many differences by size can be told from noise, and of how many."""
        rows = [row for each in self.by_size.values() for row in each]
        return sum(row.word != "noise" for row in rows), len(rows)

    def _titled(self) -> Iterator[tuple[str, Sequence[Row]]]:
        yield from self.headline.items()
        yield from self.by_size.items()


def pair_views(comparison: Comparison) -> list[Pair]:
    """Each detector after the first beside that."""
    return [_pair(comparison, pair) for pair in comparison["differences"]]


def size_tables(comparison: Comparison) -> list[Table]:
    """Tables 3 and 4 of the paper, of all detectors."""
    by_size = comparison["scores"][0]["by_iou_and_size"]
    return [
        Table(
            _title(measure),
            [column_title(column) for column in cells],
            [_block(comparison, size, measure) for size in by_size],
        )
        for measure, cells in next(iter(by_size.values())).items()
    ]


class FoundByOne(NamedTuple):
    """Objects that one detector finds and another one misses, as the letters of the two."""

    finds: str
    misses: str
    images: Sequence[ImageObjects]

    @property
    def kind(self) -> str:
        """Such as "A-B": A finds what B misses."""
        return f"{self.finds}-{self.misses}"

    @property
    def in_words(self) -> str:
        """How many objects, and on how many images."""
        objects = sum(len(image["truths"]) for image in self.images)
        if not objects:
            return f"{self.finds} finds none that {self.misses} misses"
        images = text.count(len(self.images), "image")
        return f"{self.finds} finds {objects:,} that {self.misses} misses, on {images}"


def found_by_one(comparison: Comparison) -> list[FoundByOne]:
    """What the first finds beyond each other detector, and what that finds beyond it."""
    found = []
    for pair in comparison["pictures"]:
        other = letter_of(comparison, pair["name"])
        found.append(FoundByOne("A", other, pair["only_first"]))
        found.append(FoundByOne(other, "A", pair["only_other"]))
    return found


def letter(index: int) -> str:
    """A for the first detector, B for the second …, "27" after Z."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def letter_of(comparison: Comparison, name: str) -> str:
    """That of a detector by its name."""
    return letter(comparison["names"].index(name))


def points(difference: float, *, side: bool = False) -> str:
    """A difference in points of percent as `text.points` has it, never wider than "-12.3"."""
    return text.points(difference, 0 if abs(difference) >= 0.9995 else 1, side=side)


def on_axis(rows: Sequence[Row], *, room: float = _ROOM) -> Axis:
    """Rows with the places of their dots and lines on a common axis around 0.

    One wide interval would press all others together; those far beyond the middle one are cut off.
    Rows where nothing was found by either, all 0, have no say in what is far.

    Args:
        room: how far the axis reaches at most, in middle intervals; inf cuts nothing off.
    """
    values = [
        [value for value in (row.low, row.high, row.difference) if value is not None]
        for row in rows
    ]
    reach = [far for three in values if (far := max(map(abs, three)))]
    most = max(1e-3, min(max(reach), room * float(np.median(reach)))) if reach else 1e-3
    low = 1.1 * min(-0.05 * most, max(-most, min(map(min, values), default=0)))
    high = 1.1 * max(0.05 * most, min(most, max(map(max, values), default=0)))

    def place(value: float) -> float:
        return round(100 * (min(max(value, low), high) - low) / (high - low), 2)

    def placed(row: Row) -> Row:
        edges = [edge for edge in (row.low, row.high) if edge is not None]
        return replace(
            row,
            at=place(row.difference) if low <= row.difference <= high else None,
            span=[place(edge) for edge in edges],
            ends=[place(edge) for edge in edges if low <= edge <= high],
        )

    return Axis([placed(row) for row in rows], place(0.0), _ticks(low, high, place))


def _ticks(
    low: float, high: float, place: Callable[[float], float]
) -> list[tuple[float, str, bool]]:
    ticks = [tick for tick in nice_ticks(low, high, about=4) if low <= tick <= high]
    kept = (ticks[0], 0.0, ticks[-1])
    return [
        (place(tick), minus(f"{100 * tick:+g}") if tick else "0", tick not in kept)
        for tick in ticks
    ]


def _pair(comparison: Comparison, pair: PairDifferences) -> Pair:
    headline = {}
    for title, names in by_measure(pair["headline"]).items():
        coco = ", COCO's numbers" if title in MEASURES.values() else ""
        rows = [_row(name, pair["headline"][name]) for name in names]
        headline[f"{title}{coco}"] = [row for row in rows if row]
    sizes, overlap = pair["by_iou_and_size"], overlap_name(comparison["iou_type"])
    by_size = {}
    for measure in next(iter(sizes.values())):
        found = [
            _row(column_title(column), one, group=size if place == 0 else "")
            for size, measures in sizes.items()
            for place, (column, one) in enumerate(measures[measure].items())
        ]
        by_size[f"{_title(measure)}, by size and {overlap}"] = [row for row in found if row]
    counts = comparison["scores"][0]["per_class"]
    per_class = {
        name: {
            key: _row(name, one, objects=counts[name]["annotations"]) for key, one in cells.items()
        }
        for name, cells in pair["per_class"].items()
    }
    name = pair["name"]
    return Pair(letter_of(comparison, name), name, headline, by_size, per_class)


def _row(label: str, one: Difference | None, **more: Any) -> Row | None:
    return Row(label, **one, **more) if one else None


def _title(measure: str) -> str:
    name, _, most = measure.partition("@")
    return MEASURES[name] + (f", {most} results per image and class" if most else "")


def _block(comparison: Comparison, size: str, measure: str) -> Block:
    scores = [score["by_iou_and_size"][size][measure] for score in comparison["scores"]]
    return Block(
        size,
        [(letter(index), list(row.values())) for index, row in enumerate(scores)],
        [
            (
                f"{letter_of(comparison, pair['name'])} - A",
                [
                    _row(column, one)
                    for column, one in pair["by_iou_and_size"][size][measure].items()
                ],
            )
            for pair in comparison["differences"]
        ],
    )
