"""RESULTS.md from run folders: every number with its command, commit, seconds and hardware."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.engine.runs import read_run
from detnet.errors import InputError
from detnet.evaluation.classification import without_top5
from detnet.evaluation.metrics import Metric, metrics_of
from detnet.report.detector_table import detector_table
from detnet.report.results import Result, hardware
from detnet.report.search.text import search_section
from detnet.search.run import SearchRun
from detnet.training.published import Published

_HEAD = """# Results

Written by `detnet report RUN… --results-table RESULTS.md` from run folders; not edited by hand.
Percent, the best evaluation of each run on its `val` split, detectors by COCO's definitions; … in a
command stands for a path. Small data sets: they tell of the software, and little of the papers'
claims.
"""
# Rules that later runs have others for: by their option the mark and what it was.
_FORMER = {
    "anchor_strides": (
        "†",
        "anchors or points on levels beyond stride 32 lay the padded side over the cells apart, "
        "rounded down (`anchor_strides: torchvision`), in other places for each size of image",
    ),
    "threshold_on": (
        "‡",
        "the threshold lay on the square root of class score times centre-ness "
        "(`threshold_on: score`)",
    ),
}
_KINDS = {"segm": ", masks", "keypoints": ", keypoints"}


def results_page(
    results: Sequence[Result],
    *,
    published: Mapping[str, Sequence[Published]] | None = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
    curves: Mapping[tuple[str, bool], str] | None = None,
    searches: Sequence[SearchRun] = (),
    former: Mapping[str, Sequence[str]] | None = None,
) -> str:
    """Writes the page: a table for each data set, comparisons, then how to get each row again.

    Args:
        published: by a run's name, the paper's rows that its recipe stands for.
        comparisons: as `detnet compare --output` leaves them in comparison.json.
        curves: as `write_curves` gives the pictures, paths as the page is to name them.
        searches: each gets a section of its own.
        former: by a run's name, the options in which it kept a former rule; such runs are marked.
    """
    marks = {
        name: " " + "".join(_FORMER[option][0] for option in options)
        for name, options in (former or {}).items()
        if options
    }
    parts = [_HEAD, *_footnotes(former or {})]
    for data, kind in dict.fromkeys((result.data, result.classifier) for result in results):
        alike = [one for one in results if (one.data, one.classifier) == (data, kind)]
        parts.append(f"## {data}\n\n{_table(alike, published or {}, marks)}")
        if table := detector_table(alike, comparisons):
            parts.append(table)
        if curves and (data, kind) in curves:
            parts.append(f"![scores by epoch on {data}]({curves[data, kind]})")
    if comparisons:
        parts.append(_compared(comparisons, marks))
    parts += [search_section(search) for search in searches]
    origins = [(one.name, one.environment) for one in results]
    origins += [(one.name, read_run(one.folder).environment) for one in searches]
    parts.append(
        "## How\n\n| run | command | commit | versions | hardware |\n|---|---|---|---|---|\n"
        + "\n".join(_how(name, environment) for name, environment in origins)
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def read_comparison(path: Path) -> dict[str, Any]:
    """Reads what `detnet compare --output` wrote, the folder or its comparison.json.

    Raises:
        InputError: there is none, or it is damaged.
    """
    file = path / "comparison.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{file}: {error.strerror}; `detnet compare --output` writes it") from None
    except ValueError as error:
        raise InputError(f"{file}: is not JSON or was cut ({error})") from None
    if not isinstance(content, dict) or "differences" not in content:
        raise InputError(f"{file}: is no comparison; `detnet compare --output` writes them")
    return content


def _columns(kind: str) -> list[tuple[str, Metric]]:
    return [(name, metric) for name, metric in metrics_of(kind) if metric.in_results]


def _footnotes(former: Mapping[str, Sequence[str]]) -> list[str]:
    used = {option for options in former.values() for option in options}
    return [
        f"{mark} By a former rule: {text}."
        for option, (mark, text) in _FORMER.items()
        if option in used
    ]


def _table(
    results: Sequence[Result],
    published: Mapping[str, Sequence[Published]],
    marks: Mapping[str, str],
) -> str:
    columns = [
        metric.title or name
        for name, metric in _columns("classification" if results[0].classifier else "bbox")
    ]
    head = "| run | model | " + " | ".join(columns) + " | images seen | seconds | seed |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for result in results:
        if result.classifier:
            scores = without_top5(result.scores)
            rows.append(
                _line(result, [_percent(scores[key]) for key, _ in _columns("classification")])
            )
            continue
        theirs = {row.iou_type: row for row in published.get(result.name, ())}
        name = result.name + marks.get(result.name, "")
        rows += _detection_rows(result, result.scores, theirs.get("bbox"), result.model, name=name)
        if "segm" in result.scores:
            masks = result.scores["segm"]
            rows += _detection_rows(result, masks, theirs.get("segm"), "… its masks", name="")
        if "keypoints" in result.scores:
            points = result.scores["keypoints"]
            rows += _detection_rows(result, points, None, "… its keypoints", name="")
    return "\n".join(rows)


def _detection_rows(
    result: Result,
    scores: Mapping[str, Any],
    published: Published | None,
    model: str,
    *,
    name: str,
) -> list[str]:
    """The run's line and, where its recipe is a row of the paper, that row and the gap."""
    columns = [name for name, _ in _columns("bbox")]
    ours = [scores.get(column) for column in columns]
    rows = [_line(result, [_percent(value) for value in ours], model=model, name=name)]
    if published is None:
        return rows
    theirs = [published.score(column) for column in columns]
    gaps = [
        "–" if a is None or b is None else f"{100 * (a - b):+.1f}"
        for a, b in zip(ours, theirs, strict=True)
    ]
    where = f"… the paper: {published.name}, {published.where}"
    rows.append("| | " + " | ".join([where, *map(_percent, theirs), "", "", ""]) + " |")
    rows.append("| | " + " | ".join(["… gap", *gaps, "", "", ""]) + " |")
    return rows


def _line(
    result: Result, numbers: Sequence[str], *, model: str | None = None, name: str | None = None
) -> str:
    begin = [result.name if name is None else name, result.model if model is None else model]
    ending = [f"{result.images_seen:,}", f"{result.seconds:,.0f}", str(result.config["seed"])]
    return "| " + " | ".join([*begin, *numbers, *ending]) + " |"


def _compared(comparisons: Sequence[Mapping[str, Any]], marks: Mapping[str, str]) -> str:
    """Differences with their intervals, a line each."""
    shares = [f"{100 * comparison.get('confidence', 0.95):g} %" for comparison in comparisons]
    alike = len(set(shares)) == 1
    columns = [name for name, _ in _columns("bbox")]
    lines = [
        "## Compared",
        "",
        f"Differences in points with their {shares[0] + ' ' if alike else ''}intervals, by a "
        "paired bootstrap over the images "
        "(`detnet compare`); **bold** where they can be told from noise. They do not cover what "
        "another seed of the training would give.",
        "",
        "| | " + " | ".join(columns) + " |",
        "|" + "---|" * (len(columns) + 1),
    ]
    for comparison, share in zip(comparisons, shares, strict=True):
        for other in comparison["differences"]:
            kind = _KINDS.get(comparison.get("iou_type", "bbox"), "")
            names = [other["name"], comparison["names"][0]]
            title = " less ".join(name + marks.get(name, "") for name in names) + kind
            title += "" if alike else f", {share} intervals"
            cells = [_difference(other["headline"].get(column)) for column in columns]
            lines.append("| " + " | ".join([title, *cells]) + " |")
    return "\n".join(lines)


def _difference(found: Mapping[str, Any] | None) -> str:
    if not found or found.get("difference") is None:
        return "–"
    value = _points(found["difference"])
    if found["verdict"] in ("higher", "lower"):
        value = f"**{value}**"
    if found["low"] is None:
        return value
    return f"{value} ({_points(found['low'])} to {_points(found['high'])})"


def _points(difference: float) -> str:
    """In points of percent, with a second digit where the first would be 0."""
    points = 100 * difference
    return f"{points:+.1f}" if abs(points) >= 0.05 or points == 0 else f"{points:+.2f}"


def _how(name: str, environment: Mapping[str, Any]) -> str:
    words = ["detnet", *environment.get("command", ["", "?"])[1:]]  # not python -m's __main__.py
    command = " ".join(map(_without_place, words))
    packages = environment.get("packages", {})
    versions = f"torch {packages.get('torch', '?')}, torchvision {packages.get('torchvision', '?')}"
    commit = environment.get("commit") or "?"
    return f"| {name} | `{command}` | {commit} | {versions} | {hardware(environment)} |"


def _without_place(word: str) -> str:
    """Shortens a path to its last part: where someone keeps their data is not for a page."""
    return re.sub(r"(^|=)(?:~|\.{1,2})?/(?:[^/]+/)*", r"\1…/", word)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
