"""Single runs in RESULTS.md: each number with its command, commit, seconds and hardware."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from detnet.engine.run_records import read_run
from detnet.evaluation.comparison.sources import short_names
from detnet.evaluation.metrics import Metric, metrics_of
from detnet.report.results import (
    SINGLE_RUNS,
    Result,
    command_of,
    hardware,
    put_section,
    read_comparison,
    read_result,
    write_curves,
)
from detnet.report.score_tables import paper_rows
from detnet.report.search.text import search_section
from detnet.search.run import SearchRun, is_search
from detnet.text import NOTHING, amount, markdown_row, percent, points, points_between
from detnet.training.detection.config import TrainConfig

_HEAD = """## Single runs

Written by `detnet report RUN… --results-table RESULTS.md` from run folders. Percent, the best
evaluation of each run on its `val` split, of one without such a split the one that its row names,
detectors by COCO's definitions; … in a command stands for a path.
"""
# Rules that not all runs follow: the option and its value, the mark and what it is.
_FORMER = {
    ("anchor_strides", "torchvision"): (
        "†",
        "anchors or points on levels beyond stride 32 lay the padded side over the cells apart, "
        "rounded down (`anchor_strides: torchvision`), in other places for each size of image",
    ),
    ("threshold_on", "score"): (
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
    """Writes about finished runs into the page of results.

    Args:
        page: Markdown file.
        runs: of detectors and classifiers, named by as much of their places as tells them apart;
            and of searches.
        curves: folder for a picture for each kind of run and data set, which the page shows; None
            for none.
        compared: what `detnet compare --output` left.

    Raises:
        InputError: a folder that holds no finished, evaluated run, or no comparison; as
            `put_section`.
    """
    searches = [SearchRun.look(run) for run in runs if is_search(run)]
    others = [*dict.fromkeys(run.resolve() for run in runs if not is_search(run))]
    names = short_names(others) if others else []
    results = [
        replace(_with_paper(read_result(run), run), name=name)
        for run, name in zip(others, names, strict=True)
    ]
    pictures = write_curves(results, curves) if curves else {}
    named = {
        key: Path(os.path.relpath(path, page.parent)).as_posix() for key, path in pictures.items()
    }
    text = results_page(
        results,
        comparisons=[read_comparison(path) for path in compared],
        curves=named,
        searches=searches,
    )
    put_section(page, SINGLE_RUNS, text)


def _with_paper(result: Result, run: Path) -> Result:
    if result.classifier:
        return result
    rows = paper_rows(TrainConfig.read(run / "config.yaml"))
    return replace(result, published=[row.published for row in rows])


def results_page(
    results: Sequence[Result],
    *,
    comparisons: Sequence[Mapping[str, Any]] = (),
    curves: Mapping[tuple[str, bool], str] | None = None,
    searches: Sequence[SearchRun] = (),
) -> str:
    """Writes the section: a table for each data set, comparisons, then how to get each row again.

    Args:
        comparisons: as `detnet compare --output` leaves them in comparison.json.
        curves: as `write_curves` gives the pictures, paths as the page is to name them.
        searches: each gets a section of its own.
    """
    marks = {
        result.name: " " + "".join(_FORMER[rule][0] for rule in rules)
        for result in results
        if (rules := _former_rules(result))
    }
    parts = [_HEAD, *_footnotes(results)]
    for data, kind in dict.fromkeys((result.data, result.classifier) for result in results):
        alike = [one for one in results if (one.data, one.classifier) == (data, kind)]
        parts.append(f"### {data}\n\n{_table(alike, marks)}")
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
        "### How\n\n| run | command | commit | versions | hardware |\n|---|---|---|---|---|\n"
        + "\n".join(_how(name, environment) for name, environment in origins)
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _columns(kind: str) -> list[tuple[str, Metric]]:
    return [(name, metric) for name, metric in metrics_of(kind) if metric.in_results]


def _footnotes(results: Sequence[Result]) -> list[str]:
    used = {rule for result in results for rule in _former_rules(result)}
    return [
        f"{mark} By a former rule: {text}."
        for rule, (mark, text) in _FORMER.items()
        if rule in used
    ]


def _former_rules(result: Result) -> list[tuple[str, str]]:
    """The options of the detector in which it keeps a rule that other runs do not."""
    options = (result.config.get("detector_options") or {}).items()
    return [rule for rule in _FORMER if rule in options]


def _table(results: Sequence[Result], marks: Mapping[str, str]) -> str:
    columns = [
        metric.title or name
        for name, metric in _columns("classification" if results[0].classifier else "bbox")
    ]
    head = ["run", "model", *columns, "images seen", "seconds", "seed"]
    rows = [markdown_row(head), "|" + "---|" * len(head)]
    for result in results:
        if result.classifier:
            columns = [name for name, _ in _columns("classification")]
            rows.append(_line(result, [percent(result.scores[name]) for name in columns]))
            continue
        name = result.name + marks.get(result.name, "")
        rows += _detection_rows(result, "bbox", result.model, name=name)
        for kind, model in (("segm", "… its masks"), ("keypoints", "… its keypoints")):
            if kind in result.scores:
                rows += _detection_rows(result, kind, model, name="")
    return "\n".join(rows)


def _detection_rows(result: Result, kind: str, model: str, *, name: str) -> list[str]:
    """The run's line and, where its recipe is a row of the paper, that row and the gap."""
    scores = result.scores if kind == "bbox" else result.scores[kind]
    published = {row.iou_type: row for row in result.published}.get(kind)
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
    rows.append("| " + markdown_row([where, *map(percent, theirs), "", "", ""]))
    rows.append("| " + markdown_row(["… gap", *gaps, "", "", ""]))
    return rows


def _line(
    result: Result, numbers: Sequence[str], *, model: str | None = None, name: str | None = None
) -> str:
    begin = [result.name if name is None else name, result.model if model is None else model]
    ending = [f"{result.images_seen:,}", f"{result.seconds:,.0f}", str(result.config["seed"])]
    return markdown_row([*begin, *numbers, *ending])


def _compared(comparisons: Sequence[Mapping[str, Any]], marks: Mapping[str, str]) -> str:
    """Differences with their intervals, a line each."""
    shares = [f"{100 * comparison.get('confidence', 0.95):g} %" for comparison in comparisons]
    alike = len(set(shares)) == 1
    columns = [name for name, _ in _columns("bbox")]
    lines = [
        "### Compared",
        "",
        f"Differences in points with their {shares[0] + ' ' if alike else ''}intervals, by a "
        "paired bootstrap over the images "
        "(`detnet compare`); **bold** where they can be told from noise. They do not cover what "
        "another seed of the training would give.",
        "",
        "| " + markdown_row(columns),
        "|" + "---|" * (len(columns) + 1),
    ]
    for comparison, share in zip(comparisons, shares, strict=True):
        for other in comparison["differences"]:
            kind = _KINDS.get(comparison.get("iou_type", "bbox"), "")
            names = [other["name"], comparison["names"][0]]
            title = " less ".join(name + marks.get(name, "") for name in names) + kind
            title += "" if alike else f", {share} intervals"
            cells = [_difference(other["headline"].get(column)) for column in columns]
            lines.append(markdown_row([title, *cells]))
    return "\n".join(lines)


def _difference(found: Mapping[str, Any] | None) -> str:
    if not found or found.get("difference") is None:
        return NOTHING
    value = points(found["difference"], side=True)
    if found["verdict"] in ("higher", "lower"):
        value = f"**{value}**"
    between = points_between((found["low"], found["high"]), none="")
    return f"{value} ({between})" if between else value


def _how(name: str, environment: Mapping[str, Any]) -> str:
    packages = environment.get("packages", {})
    versions = f"torch {packages.get('torch', '?')}, torchvision {packages.get('torchvision', '?')}"
    commit = environment.get("commit") or "?"
    cells = [name, f"`{command_of(environment)}`", commit, versions, hardware(environment)]
    return markdown_row(cells)


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
    rows = [markdown_row(_DETECTORS), "|" + "---|" * len(_DETECTORS)]
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
        rows.append(markdown_row(cells))
    first = results[0]
    width = first.config.get("width", 1.0)
    begin = f"{first.images_seen:,} images seen by each, width {width:g}"
    began = "from pre-trained weights" if first.config.get("weights") else "from scratch"
    note = (
        "Of the class with the lowest AP its AP and AP50. Images per second as `detnet compare` "
        "found them, one at a time."
    )
    return f"#### Detectors and backbones\n\n{begin}, {began}. {note}\n\n" + "\n".join(rows)


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
