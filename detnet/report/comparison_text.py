"""A comparison as text: tables of at most 120 columns for a terminal, in percent."""

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from detnet.evaluation.metrics import MEASURES, overlap_name
from detnet.report.score_tables import KINDS, column_title, sigmas_in_words
from detnet.text import lay_out

WIDTH = 120
WORDS = {"higher": "higher", "lower": "lower", "cannot be told from noise": "noise"}

_LABEL = 26  # columns of the names
_CELL = 15  # columns of "-12.3 to +12.3" and the space before it
_MOST_FILES = 3


def format_comparison(comparison: Mapping[str, Any]) -> str:
    """Lays out what `detnet compare` found: who, what the words mean, tables, cost, pictures."""
    blocks = [_heading(comparison), _legend(comparison)]
    blocks += [_headline(comparison, pair) for pair in comparison["differences"]]
    blocks += _by_iou_and_size(comparison)
    blocks += [_per_class(comparison, pair) for pair in comparison["differences"]]
    if comparison.get("cost"):
        blocks.append(_cost(comparison))
    blocks.append(_pictures(comparison))
    blocks += [f"note: {note}" for note in comparison.get("notes", ())]
    return "\n\n".join(block for block in blocks if block)


def letter(index: int) -> str:
    """A for the first detector, B for the second …, "27" after Z."""
    return chr(ord("A") + index) if index < 26 else str(index + 1)


def percent(value: float | None, *, sign: bool = False) -> str:
    """A fraction as percent with one decimal; a difference keeps its sign, but for +0.0."""
    if value is None:
        return "-"
    text = f"{100 * value:+.1f}" if sign else f"{100 * value:.1f}"
    if sign and abs(value) >= 0.9995:
        return f"{100 * value:+.0f}"  # no wider than the others
    return "0.0" if text in ("+0.0", "-0.0") else text


def interval(difference: Mapping[str, Any] | None) -> str:
    """From what to what a difference may be."""
    if difference is None or difference["low"] is None:
        return "-"
    return f"{percent(difference['low'], sign=True)} to {percent(difference['high'], sign=True)}"


def _heading(comparison: Mapping[str, Any]) -> str:
    kind = KINDS[comparison["iou_type"]].lower()
    lines = [f"Comparison of {kind} on {comparison['images']:,} images, percent"]
    for index, (name, source) in enumerate(
        zip(comparison["names"], comparison["sources"], strict=True)
    ):
        lines.append(f"  {letter(index)}  {name}  ({source})")
    taken = f" ({comparison['ground_truth_taken']})" if "ground_truth_taken" in comparison else ""
    lines.append(f"  ground truth: {comparison['annotations']}{taken}")
    if how := how_scored(comparison):
        lines.append(f"  {how}")
    return "\n".join(lines)


def how_scored(comparison: Mapping[str, Any]) -> str:
    """By which sigmas keypoints were compared; "" for boxes and masks."""
    sigmas = comparison["scores"][0].get("sigmas")
    return f"OKS by {sigmas_in_words(sigmas)}" if sigmas else ""


def _legend(comparison: Mapping[str, Any]) -> str:
    sure = f"{100 * comparison['confidence']:g} %"
    return textwrap.fill(
        f"B - A is B's score less A's. Its {sure} interval is from {comparison['resamples']:,} "
        "paired bootstrap resamples of the images. higher, lower: the difference can be told from "
        "noise. noise: it cannot; the interval holds 0, or there are too few images. Of many "
        f"differences about {100 * (1 - comparison['confidence']):.3g} in a hundred are told from "
        "noise by chance alone.",
        WIDTH,
    )


def _name(comparison: Mapping[str, Any], index: int, width: int) -> str:
    return _short(f"{letter(index)} {comparison['names'][index]}", width)


def _short(text: str, width: int) -> str:
    return text if len(text) <= width else text[: width - 1] + "…"


def _pair(comparison: Mapping[str, Any], pair: Mapping[str, Any]) -> tuple[int, str]:
    """Position of the other detector, and the name of its difference."""
    index = comparison["names"].index(pair["name"])
    return index, f"{letter(index)} - A"


def _headline(comparison: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    index, minus = _pair(comparison, pair)
    sure = f"{100 * comparison['confidence']:g} % interval"
    rows = [["", "A", letter(index), minus, sure, ""]]
    for key, one in pair["headline"].items():
        if one is not None:
            rows.append([key, *_numbers(one), interval(one), one["verdict"]])
    title = f"COCO's numbers, {_name(comparison, 0, 45)} and {_name(comparison, index, 45)}"
    return f"{title}\n{lay_out(rows, left=(0, 5))}"


def _numbers(one: Mapping[str, Any]) -> list[str]:
    numbers = [percent(one["first"]), percent(one["other"])]
    return [*numbers, percent(one["difference"], sign=True)]


def _by_iou_and_size(comparison: Mapping[str, Any]) -> Iterator[str]:
    """Tables 3 and 4: a block for each size, models down, IoU thresholds across."""
    by_size = comparison["scores"][0]["by_iou_and_size"]
    overlap = overlap_name(comparison["iou_type"])
    for measure in next(iter(by_size.values())):
        name, _, most = measure.partition("@")
        limit = f", {most} results per image and class" if most else ""
        columns = list(next(iter(by_size.values()))[measure])
        title = f"{MEASURES[name]} by {overlap} threshold and object size{limit}"
        many = (WIDTH - _LABEL) // _CELL
        for begin in range(0, len(columns), many):
            some = columns[begin : begin + many]
            lines = [title + (", continued" if begin else "")]
            for size in by_size:
                lines += ["", *_block(comparison, size, measure, some)]
            yield "\n".join(lines)


def _block(
    comparison: Mapping[str, Any], size: str, measure: str, columns: Sequence[str]
) -> Iterator[str]:
    rows = [score["by_iou_and_size"][size][measure] for score in comparison["scores"]]
    if all(row[column] is None for row in rows for column in columns):
        yield f"{size}: no objects"
        return
    yield _row(size, map(column_title, columns))
    for index, row in enumerate(rows):
        name = "  " + _name(comparison, index, _LABEL - 2)
        yield _row(name, (percent(row[column]) for column in columns))
    for pair in comparison["differences"]:
        _, minus = _pair(comparison, pair)
        cells = [pair["by_iou_and_size"][size][measure][column] for column in columns]
        yield _row(f"  {minus}", map(_said, cells))
        yield _row(f"    {100 * comparison['confidence']:g} % interval", map(interval, cells))


def _said(one: Mapping[str, Any] | None) -> str:
    if one is None:
        return "-"
    return f"{WORDS[one['verdict']]} {percent(one['difference'], sign=True):>5}"


def _row(label: str, cells: Any) -> str:
    return (label.ljust(_LABEL) + "".join(cell.rjust(_CELL) for cell in cells)).rstrip()


def _per_class(comparison: Mapping[str, Any], pair: Mapping[str, Any]) -> str:
    index, minus = _pair(comparison, pair)
    counts = comparison["scores"][0]["per_class"]
    sure = f"{100 * comparison['confidence']:g} %"
    keys = ("AP", "AP50")
    group = ("A {}", f"{letter(index)} {{}}", minus, sure, "")
    rows = [["class", "objects", *(head.format(key) for key in keys for head in group)]]
    for name, measures in pair["per_class"].items():
        cells = [cell for key in keys for cell in _class_cells(measures[key])]
        rows.append([name, f"{counts[name]['annotations']:,}", *cells])
    title = f"Per class, {_name(comparison, 0, 45)} and {_name(comparison, index, 45)}"
    others = sum(2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:])
    rows = [[_short(row[0], max(8, WIDTH - others)), *row[1:]] for row in rows]
    return f"{title}\n{lay_out(rows, left=(0, 6, 11))}"


def _class_cells(one: Mapping[str, Any] | None) -> list[str]:
    if one is None:
        return ["-"] * 4 + [""]
    return [*_numbers(one), interval(one), WORDS[one["verdict"]]]


def _cost(comparison: Mapping[str, Any]) -> str:
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


def how_measured(cost: Mapping[str, Any]) -> str:
    """A sentence on how images per second were measured."""
    threads = cost["threads"]
    where = cost["device"]
    if where == "cpu":
        where = f"cpu with {threads} thread{'s' if threads != 1 else ''}"
    count = cost["images"]
    return (
        f"Measured here on {count} image{'s' if count != 1 else ''}, one at a time, in "
        f"{cost['precision']} on {where}; reading files is not counted. Multiply-adds, of "
        "which the heads' go by what is proposed, and input (height×width) are those of the first "
        "image."
    )


def _pictures(comparison: Mapping[str, Any]) -> str:
    lines = []
    for pair in comparison["pictures"]:
        index = comparison["names"].index(pair["name"])
        for kind, finds, misses in (
            ("only_first", "A", letter(index)),
            ("only_other", letter(index), "A"),
        ):
            lines.append(found_and_missed(pair[kind], finds, misses) + _files(pair[kind]))
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


def found_and_missed(images: Sequence[Mapping[str, Any]], finds: str, misses: str) -> str:
    """How many objects one finds that the other misses, and on how many images."""
    objects = sum(len(image["truths"]) for image in images)
    if not objects:
        return f"{finds} finds none that {misses} misses"
    plural = "s" if len(images) != 1 else ""
    return f"{finds} finds {objects:,} that {misses} misses, on {len(images):,} image{plural}"


def _files(images: Sequence[Mapping[str, Any]]) -> str:
    if not images:
        return ""
    shown = [
        f"{image['file_name'] or 'image ' + str(image['image_id'])} ({len(image['truths'])})"
        for image in images[:_MOST_FILES]
    ]
    return ": " + ", ".join(shown) + (" …" if len(images) > _MOST_FILES else "")
