"""One HTML page of a run, complete in itself: settings, curves, scores and pictures."""

import base64
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jinja2
import yaml
from PIL import Image

import detnet
from detnet.errors import InputError
from detnet.evaluation.coco import HEADLINE
from detnet.report.charts import Line, line_chart, smoothed

PICTURE_SIDE = 1400  # pixels; longer ones are scaled down, the page stays light
SIZES = ("all", "small", "medium", "large")


def write_page(run: Path, *, gallery: Sequence[tuple[str, Path]] = ()) -> Path:
    """Writes `report.html` into a run folder from what the folder holds, without what is missing.

    Args:
        run: the run folder (config.yaml, environment.json, metrics.jsonl, evaluation/scores.json).
        gallery: (caption, picture file), shown in this order and embedded.

    Returns:
        The page's path.

    Raises:
        InputError: no run folder, or one of its files is damaged.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    page = run / "report.html"
    beside = run / ".report.html.part"
    try:
        beside.write_text(render(run, gallery=gallery), encoding="utf-8")
        beside.replace(page)
    finally:
        beside.unlink(missing_ok=True)
    return page


def render(run: Path, *, gallery: Sequence[tuple[str, Path]] = ()) -> str:
    """Makes the page's HTML; see `write_page`."""
    events = read_events(run / "metrics.jsonl")
    scores = _read_scores(run / "evaluation")
    config = _read_config(run / "config.yaml")
    environment = _read_json(run / "environment.json")
    templates = jinja2.Environment(
        loader=jinja2.PackageLoader("detnet.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    templates.filters["percent"] = percent
    return templates.get_template("run.html.j2").render(
        name=run.resolve().name,
        version=detnet.__version__,
        summary=_summary(config, events),
        charts=_charts(events),
        results=[_result(found) for found in scores],
        pictures=[(caption, *_embedded(path)) for caption, path in gallery],
        config=_flat(config),
        environment=_flat(environment),
    )


def percent(fraction: float | None) -> str:
    """A fraction as percent with one decimal, a dash where nothing was to be averaged."""
    return "–" if fraction is None else f"{fraction * 100:.1f}"


def _summary(config: dict[str, Any], events: Sequence[dict[str, Any]]) -> str:
    """The line under the title: which model, how long it was trained."""
    parts = [str(config[key]) for key in ("detector", "backbone") if config.get(key)]
    if config.get("width") not in (None, 1, 1.0):
        parts.append(f"width {config['width']}")
    steps = [event["iteration"] for event in events if event.get("event") == "step"]
    if steps:
        parts.append(f"{max(steps):,} iterations")
    return " · ".join(parts)


def _charts(events: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Title, legend (name, style) and SVG of each chart that has anything to show."""
    steps = [event for event in events if event.get("event") == "step"]
    evaluations = [event for event in events if event.get("event") == "evaluation"]
    loss = _points(steps, "loss")
    charts = [
        (
            "Loss",
            False,
            [Line("each step", loss, "raw"), Line("moving mean", smoothed(loss), "one")],
        ),
        (
            "Average precision on val",
            True,
            [
                Line("AP50", _points(evaluations, "AP50"), "two"),
                Line("AP", _points(evaluations, "AP"), "one"),
            ],
        ),
        ("Learning rate", False, [Line("learning rate", _points(steps, "lr"), "one")]),
    ]
    return [
        {
            "title": title,
            "legend": [(line.name, line.style) for line in lines] if len(lines) > 1 else [],
            "svg": svg,
        }
        for title, in_percent, lines in charts
        if (svg := line_chart(lines, x_name="iteration", percent=in_percent))
    ]


def _points(events: Sequence[dict[str, Any]], key: str) -> list[tuple[float, float]]:
    return [
        (event["iteration"], event[key])
        for event in events
        if isinstance(event.get(key), (int, float)) and "iteration" in event
    ]


def _result(scores: dict[str, Any]) -> dict[str, Any]:
    """One set of scores as the page's tables."""
    return {
        "kind": "Masks" if scores.get("iou_type") == "segm" else "Boxes",
        "engine": scores.get("engine"),
        "headline": [(key, scores[key]) for key in HEADLINE if key in scores],
        "table": _by_iou_and_size(scores),
        "per_class": sorted((scores.get("per_class") or {}).items()),
    }


def _by_iou_and_size(scores: dict[str, Any]) -> dict[str, Any]:
    """Columns (IoU thresholds) and rows (metric and size) of the paper's Tables 3 and 4."""
    table = scores.get("by_iou_and_size") or {}
    sizes = [size for size in SIZES if size in table] + [s for s in table if s not in SIZES]
    columns = list(table[sizes[0]]["AP"]) if sizes else []
    rows = [
        (metric, size, [table[size][metric].get(column) for column in columns])
        for metric in ("AP", "AR")
        for size in sizes
        if metric in table[size]
    ]
    return {"columns": columns, "rows": rows}


def _flat(values: Any, prefix: str = "") -> list[tuple[str, str]]:
    """Nested settings as (dotted name, text)."""
    if isinstance(values, dict) and values:
        return [
            pair
            for key, value in values.items()
            for pair in _flat(value, f"{prefix}.{key}" if prefix else str(key))
        ]
    if not prefix:
        return []
    is_list = isinstance(values, list)
    return [
        (prefix, ", ".join(map(str, values)) if is_list else "–" if values is None else str(values))
    ]


def _embedded(path: Path) -> tuple[str, bool]:
    """The picture itself as a URI, scaled down and compressed, and whether it wants a whole row."""
    with Image.open(path) as opened:
        picture = opened.convert("RGB")
    picture.thumbnail((PICTURE_SIDE, PICTURE_SIDE))
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=88)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return uri, picture.width > 1.8 * picture.height


def _read_scores(folder: Path) -> list[dict[str, Any]]:
    """The scores of boxes and, where there are any, of masks.

    Those of masks stand in the boxes' file under `segm`, beside them, or in a file of their own.
    """
    found: list[Any] = []
    for path in sorted(folder.glob("scores*.json")):
        content = _read_json(path)
        found += [content, content.get("bbox"), content.get("segm")]
    found = [scores for scores in found if isinstance(scores, dict) and "AP" in scores]
    return sorted(found, key=lambda scores: scores.get("iou_type") == "segm")


def _read_json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: is not JSON or was cut ({error})") from error
    return content if isinstance(content, dict) else {}


def _read_config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        reason = str(error).partition("\n")[0]
        raise InputError(f"{path}: is not YAML ({reason})") from error
    return content if isinstance(content, dict) else {}


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8").splitlines()
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{path}: line {number} is not JSON ({error})") from error
    return [event for event in events if isinstance(event, dict)]
