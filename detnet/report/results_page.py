"""RESULTS.md from run folders: every number with its command, commit, seconds and hardware."""

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detnet.engine.runs import read_run
from detnet.errors import InputError
from detnet.evaluation.classification import without_top5
from detnet.evaluation.metrics import Metric, metrics_of
from detnet.files import read_json, write_text
from detnet.report.results import Result, hardware, read_result, write_curves
from detnet.report.score_tables import paper_rows
from detnet.report.search.text import search_section
from detnet.search.run import SearchRun, is_search
from detnet.text import NOTHING, amount, percent, points
from detnet.training.detection.config import read_config
from detnet.training.published import Published

_HEAD = """# Results

Written by `detnet report RUN… --results-table RESULTS.md` from run folders; not edited by hand.
Percent, the best evaluation of each run on its `val` split, detectors by COCO's definitions; … in a
command stands for a path. Small data sets: they tell of the software, and little of the papers'
claims.
"""
# Rules that not all runs follow: by their option the mark and what it is.
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
_DETECTORS = (
    "detector",
    "backbone",
    "short side",
    "AP",
    "AP50",
    "AP85",
    "APl",
    "lowest class",
    "params",
    "images/s",
)
_KINDS = {"segm": ", masks", "keypoints": ", keypoints"}


def write_results_page(
    page: Path, runs: Sequence[Path], *, curves: Path | None, compared: Sequence[Path]
) -> None:
    """Writes the page about finished runs.

    Args:
        page: Markdown file.
        runs: of detectors and classifiers, and of searches.
        curves: folder for a picture for each kind of run and data set, which the page shows; None
            for none.
        compared: what `detnet compare --output` left.

    Raises:
        InputError: a folder that holds no finished, evaluated run, or no comparison.
    """
    searches = [SearchRun.look(run) for run in runs if is_search(run)]
    runs = [run for run in runs if not is_search(run)]
    results = [read_result(run) for run in runs]
    published = {
        result.name: _published(run)
        for run, result in zip(runs, results, strict=True)
        if not result.classifier
    }
    pictures = write_curves(results, curves) if curves else {}
    named = {
        key: Path(os.path.relpath(path, page.parent)).as_posix() for key, path in pictures.items()
    }
    text = results_page(
        results,
        published=published,
        comparisons=[read_comparison(path) for path in compared],
        curves=named,
        searches=searches,
    )
    write_text(page, text)


def _published(run: Path) -> list[Published]:
    return [row.published for row in paper_rows(read_config(run / "config.yaml"))]


def results_page(
    results: Sequence[Result],
    *,
    published: Mapping[str, Sequence[Published]] | None = None,
    comparisons: Sequence[Mapping[str, Any]] = (),
    curves: Mapping[tuple[str, bool], str] | None = None,
    searches: Sequence[SearchRun] = (),
) -> str:
    """Writes the page: a table for each data set, comparisons, then how to get each row again.

    Args:
        published: by a run's name, the paper's rows that its recipe stands for.
        comparisons: as `detnet compare --output` leaves them in comparison.json.
        curves: as `write_curves` gives the pictures, paths as the page is to name them.
        searches: each gets a section of its own.
    """
    marks = {
        result.name: " " + "".join(_FORMER[option][0] for option in result.former_rules)
        for result in results
        if result.former_rules
    }
    parts = [_HEAD, *_footnotes(results)]
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
    if not file.is_file():
        raise InputError(f"{file}: no such file; `detnet compare --output` writes it")
    content = read_json(file)
    if not isinstance(content, dict) or "differences" not in content:
        raise InputError(f"{file}: is no comparison; `detnet compare --output` writes them")
    return content


def _columns(kind: str) -> list[tuple[str, Metric]]:
    return [(name, metric) for name, metric in metrics_of(kind) if metric.in_results]


def _footnotes(results: Sequence[Result]) -> list[str]:
    used = {option for result in results for option in result.former_rules}
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
                _line(result, [percent(scores[key]) for key, _ in _columns("classification")])
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
    rows = [_line(result, [percent(value) for value in ours], model=model, name=name)]
    if published is None:
        return rows
    theirs = [published.score(column) for column in columns]
    gaps = [
        NOTHING if a is None or b is None else points(a - b)
        for a, b in zip(ours, theirs, strict=True)
    ]
    where = f"… the paper: {published.name}, {published.where}"
    rows.append("| | " + " | ".join([where, *map(percent, theirs), "", "", ""]) + " |")
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
        return NOTHING
    value = _points(found["difference"])
    if found["verdict"] in ("higher", "lower"):
        value = f"**{value}**"
    if found["low"] is None:
        return value
    return f"{value} ({_points(found['low'])} to {_points(found['high'])})"


def _points(difference: float) -> str:
    """In points of percent, with a second digit where the first would be 0."""
    return points(difference, 1 if abs(difference) >= 0.0005 else 2)


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


def detector_table(results: Sequence[Result], comparisons: Sequence[Mapping[str, Any]]) -> str:
    """Lays out the detectors that were trained on each of several backbones with one budget.

    Args:
        results: on one data set.
        comparisons: as `detnet compare` leaves them; parameters and images per second are those
            that it measured, of a run in several of them the last.

    Returns:
        a heading and a table; "" unless two detectors stand on two backbones each.
    """
    budgets: dict[tuple[Any, ...], list[Result]] = {}
    for result in results:
        if not result.classifier:
            budgets.setdefault(_budget(result), []).append(result)
    costs = _costs(comparisons)
    return "\n\n".join(
        _detectors_table(group, costs)
        for alike in budgets.values()
        if len(_detectors(group := _on_several(alike))) > 1
    )


def _budget(result: Result) -> tuple[Any, ...]:
    """What two runs must share to stand in one table."""
    config = result.config
    return result.images_seen, config.get("width", 1.0), bool(config.get("weights"))


def _on_several(results: Sequence[Result]) -> list[Result]:
    """The last run of each pair of detector and backbone, of detectors with two backbones."""
    last = {(result.config["detector"], result.config["backbone"]): result for result in results}
    often = [detector for detector, _ in last]
    return [one for (detector, _), one in sorted(last.items()) if often.count(detector) > 1]


def _detectors(results: Sequence[Result]) -> set[str]:
    return {result.config["detector"] for result in results}


def _detectors_table(results: Sequence[Result], costs: Mapping[str, Mapping[str, Any]]) -> str:
    rows = ["| " + " | ".join(_DETECTORS) + " |", "|" + "---|" * len(_DETECTORS)]
    for result in results:
        scores, cost = result.scores, costs.get(result.name, {})
        by_iou = scores["by_iou_and_size"]["all"].get("AP", {})
        classes = scores["per_class"].items()
        scored = ((row["AP"], row["AP50"], name) for name, row in classes if row["AP"] is not None)
        lowest = min(scored, default=None)
        cells = [
            result.config["detector"],
            result.config["backbone"],
            _short_side(result.config),
            *(percent(scores[name]) for name in ("AP", "AP50")),
            percent(by_iou.get("85")),
            percent(scores["APl"]),
            f"{percent(lowest[0])}, {percent(lowest[1])} ({lowest[2]})" if lowest else NOTHING,
            amount(cost["params"] if cost else None),
            f"{cost['images_per_s']:.1f}" if cost else NOTHING,
        ]
        rows.append("| " + " | ".join(cells) + " |")
    first = results[0]
    width = first.config.get("width", 1.0)
    begin = f"{first.images_seen:,} images seen by each, width {width:g}"
    began = "from pre-trained weights" if first.config.get("weights") else "from scratch"
    note = (
        "Of the class with the lowest AP its AP and AP50. Images per second as `detnet compare` "
        "found them, one at a time."
    )
    return f"### Detectors and backbones\n\n{begin}, {began}. {note}\n\n" + "\n".join(rows)


def _short_side(config: Mapping[str, Any]) -> str:
    """To which images are scaled when the detector is measured, in pixels."""
    side = config.get("test_min_size") or (config.get("min_sizes") or ["–"])[-1]
    return str(side)


def _costs(comparisons: Sequence[Mapping[str, Any]]) -> dict[str, Mapping[str, Any]]:
    found = {}
    for comparison in comparisons:
        models = comparison.get("cost", {}).get("models", [])
        for name, cost in zip(comparison["names"], models, strict=False):
            if cost is not None:
                found[name] = cost
    return found
