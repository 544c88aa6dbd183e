"""A comparison as text: tables of at most 120 columns for a terminal, in percent."""

import textwrap
from collections.abc import Iterable, Iterator, Sequence
from functools import partial

from detnet import text
from detnet.evaluation.comparison.compare import ComparedCost, Comparison, ImageObjects
from detnet.evaluation.metrics import overlap_name
from detnet.report.comparison_view import (
    Block,
    Pair,
    Row,
    found_by_one,
    letter,
    pair_views,
    size_tables,
)
from detnet.report.score_tables import KINDS, sigmas_in_words
from detnet.text import count, lay_out, shorten

WIDTH = 120

_LABEL = 26  # columns of the names
_CELL = 15  # columns of "-12.3 to +12.3" and the space before it
_MOST_FILES = 3

_percent = partial(text.percent, none="-")


def format_comparison(comparison: Comparison) -> str:
    """Lays out what `detnet compare` found: who, what the words mean, tables, cost, pictures."""
    blocks = [_heading(comparison), _legend(comparison)]
    pairs = pair_views(comparison)
    blocks += [_headline(comparison, pair) for pair in pairs]
    blocks += _by_iou_and_size(comparison)
    blocks += [_per_class(comparison, pair) for pair in pairs]
    if comparison.get("cost"):
        blocks.append(_cost(comparison))
    blocks.append(_pictures(comparison))
    blocks += [f"note: {note}" for note in comparison.get("notes", ())]
    return "\n\n".join(block for block in blocks if block)


def _heading(comparison: Comparison) -> str:
    kind = KINDS[comparison["iou_type"]].lower()
    lines = [f"Comparison of {kind} on {comparison['images']:,} images, percent"]
    weights = comparison.get("weights", [""] * len(comparison["names"]))
    for index, (name, source, of) in enumerate(
        zip(comparison["names"], comparison["sources"], weights, strict=True)
    ):
        lines.append(f"  {letter(index)}  {name}  ({source}{f' of {of}' if of else ''})")
    taken = f" ({comparison['ground_truth_taken']})" if "ground_truth_taken" in comparison else ""
    lines.append(f"  ground truth: {comparison['annotations']}{taken}")
    if how := how_scored(comparison):
        lines.append(f"  {how}")
    return "\n".join(lines)


def how_scored(comparison: Comparison) -> str:
    """By which sigmas keypoints were compared; "" for boxes and masks."""
    sigmas = comparison["scores"][0].get("sigmas")
    return f"OKS by {sigmas_in_words(sigmas)}" if sigmas else ""


def _legend(comparison: Comparison) -> str:
    sure = _sure(comparison)
    return textwrap.fill(
        f"B - A is B's score less A's. Its {sure} interval is from {comparison['resamples']:,} "
        "paired bootstrap resamples of the images. higher, lower: the difference can be told from "
        "noise. noise: it cannot; the interval holds 0, or there are too few images. Of many "
        f"differences about {100 * (1 - comparison['confidence']):.3g} in a hundred are told from "
        "noise by chance alone.",
        WIDTH,
    )


def _name(comparison: Comparison, index: int, width: int) -> str:
    return shorten(f"{letter(index)} {comparison['names'][index]}", width)


def _names(comparison: Comparison, pair: Pair) -> str:
    other = shorten(f"{pair.letter} {pair.name}", 45)
    return f"{_name(comparison, 0, 45)} and {other}"


def _sure(comparison: Comparison) -> str:
    return f"{100 * comparison['confidence']:g} %"


def _headline(comparison: Comparison, pair: Pair) -> str:
    rows = [["", "A", pair.letter, f"{pair.letter} - A", f"{_sure(comparison)} interval", ""]]
    for row in (row for some in pair.headline.values() for row in some):
        rows.append([row.label, *_numbers(row), row.interval, row.verdict])
    return f"COCO's numbers, {_names(comparison, pair)}\n{lay_out(rows, left=(0, 5))}"


def _numbers(row: Row) -> list[str]:
    return [_percent(row.first), _percent(row.other), row.points]


def _by_iou_and_size(comparison: Comparison) -> Iterator[str]:
    """Tables 3 and 4: a block for each size, models down, IoU thresholds across."""
    overlap = overlap_name(comparison["iou_type"])
    for table in size_tables(comparison):
        name, _, limit = table.title.partition(",")
        title = f"{name} by {overlap} threshold and object size{',' if limit else ''}{limit}"
        many = (WIDTH - _LABEL) // _CELL
        for begin in range(0, len(table.columns), many):
            some = slice(begin, begin + many)
            lines = [title + (", continued" if begin else "")]
            for block in table.blocks:
                lines += ["", *_block(comparison, block, table.columns, some)]
            yield "\n".join(lines)


def _block(
    comparison: Comparison, block: Block, columns: Sequence[str], some: slice
) -> Iterator[str]:
    if block.empty:
        yield f"{block.size}: no objects"
        return
    yield _line(block.size, columns[some])
    for index, (_, values) in enumerate(block.scores):
        yield _line("  " + _name(comparison, index, _LABEL - 2), map(_percent, values[some]))
    for name, cells in block.differences:
        yield _line(f"  {name}", map(_said, cells[some]))
        intervals = (cell.interval if cell else "-" for cell in cells[some])
        yield _line(f"    {_sure(comparison)} interval", intervals)


def _said(row: Row | None) -> str:
    return f"{row.word} {row.points:>5}" if row else "-"


def _line(label: str, cells: Iterable[str]) -> str:
    return (label.ljust(_LABEL) + "".join(cell.rjust(_CELL) for cell in cells)).rstrip()


def _per_class(comparison: Comparison, pair: Pair) -> str:
    counts = comparison["scores"][0]["per_class"]
    keys = ("AP", "AP50")
    group = ("A {}", f"{pair.letter} {{}}", f"{pair.letter} - A", _sure(comparison), "")
    rows = [["class", "objects", *(head.format(key) for key in keys for head in group)]]
    for name, measures in pair.per_class.items():
        cells = [cell for key in keys for cell in _class_cells(measures[key])]
        rows.append([name, f"{counts[name]['annotations']:,}", *cells])
    others = sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:])
    rows = [[shorten(row[0], max(8, WIDTH - others)), *row[1:]] for row in rows]
    return f"Per class, {_names(comparison, pair)}\n{lay_out(rows, left=(0, 6, 11))}"


def _class_cells(row: Row | None) -> list[str]:
    return [*_numbers(row), row.interval, row.word] if row else ["-"] * 4 + [""]


def _cost(comparison: Comparison) -> str:
    cost = comparison["cost"]
    rows = [["", "multiply-adds", "backbone+pyramid", "parameters", "input", "images/s"]]
    for index, one in enumerate(cost["models"]):
        if one is None:
            rows.append([_name(comparison, index, 50), *["-"] * 5])
            continue
        rows.append(
            [
                _name(comparison, index, 50),
                f"{one['macs'] / 1e9:,.1f} G",
                f"{one['body_macs'] / 1e9:,.1f} G",
                f"{one['params'] / 1e6:,.1f} M",
                "{}×{}".format(*one["input_size"]),
                f"{one['images_per_s']:,.2f}",
            ]
        )
    return f"Cost\n{lay_out(rows, left=(0,))}\n{textwrap.fill(how_measured(cost), WIDTH)}"


def how_measured(cost: ComparedCost) -> str:
    """A sentence on how images per second were measured."""
    threads = cost["threads"]
    where = f"cpu with {count(threads, 'thread')}" if cost["device"] == "cpu" else cost["device"]
    return (
        f"Measured here on {count(cost['images'], 'image')}, one at a time, in "
        f"{cost['precision']} on {where}; reading files is not counted. Multiply-adds, of "
        "which the heads' go by what is proposed, and input (height×width) are those of the first "
        "image."
    )


def _pictures(comparison: Comparison) -> str:
    lines = [one.in_words + _files(one.images) for one in found_by_one(comparison)]
    overlap = overlap_name(comparison["iou_type"])
    head = f"Objects found by one and missed by the other ({overlap} .50, score .50, right class)"
    wrapped = [
        textwrap.fill(
            line,
            WIDTH,
            initial_indent="  ",
            subsequent_indent=6 * " ",
            break_long_words=False,
            break_on_hyphens=False,
        )
        for line in lines
    ]
    return "\n".join([head, *wrapped])


def _files(images: Sequence[ImageObjects]) -> str:
    if not images:
        return ""
    shown = [
        f"{image['file_name'] or 'image ' + str(image['image_id'])} ({len(image['truths'])})"
        for image in images[:_MOST_FILES]
    ]
    return ": " + ", ".join(shown) + (" …" if len(images) > _MOST_FILES else "")
