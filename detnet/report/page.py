"""One HTML page of a run, complete in itself: scores, pictures, errors, curves, settings."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detnet.engine.runs import RunRecord, read_run
from detnet.files import write_text
from detnet.report.curves import training_charts
from detnet.report.diagnosis import diagnosis_view
from detnet.report.pictures import LabelError, Picture
from detnet.report.rendering import flat_settings, render_template
from detnet.report.score_tables import Comparison, score_view

THRESHOLD = 0.5  # score from which on a detection is shown at first
_KINDS = (("best", "Best"), ("worst", "Worst"), ("missed", "Missed"), ("false", "False alarms"))


@dataclass(frozen=True)
class Findings:
    """What takes the run's data to find out, and why something of it is not there.

    Args:
        diagnoses: ("Boxes" or "Masks", the diagnosis JSON).
        pictures: of the gallery, in its order.
        label_errors: the surest first.
        comparisons: the paper's models that the run's recipe is for.
        lowest: score from which on detections were kept for the pictures.
        notes: one line each.
    """

    diagnoses: Sequence[tuple[str, dict[str, Any]]] = ()
    pictures: Sequence[Picture] = ()
    label_errors: Sequence[LabelError] = ()
    comparisons: Sequence[Comparison] = ()
    lowest: float = 0.05
    notes: Sequence[str] = field(default=())


def write_page(
    run: Path, *, findings: Findings | None = None, live: int | None = None, shown: str = ""
) -> Path:
    """Writes `report.html` into a run folder from what the folder holds, without what is missing.

    Args:
        run: the run folder (config.yaml, environment.json, metrics.jsonl, evaluation/scores.json).
        findings: what else there is to show.
        live: seconds after which an open page reads itself anew; None for a page that stays.
        shown: the run's place as the reader would type it; `run` by default.

    Returns:
        The page's path.

    Raises:
        InputError: no run folder, or one of its files is damaged.
    """
    record = read_run(run)
    page = run / "report.html"
    write_text(page, render(record, findings or Findings(), live=live, place=shown or str(run)))
    return page


def render(
    record: RunRecord, findings: Findings, *, live: int | None = None, place: str = "RUN"
) -> str:
    """Makes the page's HTML; see `write_page`."""
    results = [score_view(one, findings.comparisons) for one in record.scores]
    charts = training_charts(record.events)
    views = [(kind, diagnosis_view(diagnosis)) for kind, diagnosis in findings.diagnoses]
    marks = [mark for picture in findings.pictures for mark in (*picture.truths, *picture.found)]
    names = {mark.name for mark in marks}
    values = {
        "results": results,
        "pictures": findings.pictures,
        "diagnoses": views,
        "label_errors": findings.label_errors,
        "charts": charts,
        "config": flat_settings(record.config),
        "environment": flat_settings(record.environment),
    }
    return render_template(
        "run.html.j2",
        name=record.name,
        summary=_summary(record),
        notes=findings.notes,
        offer="" if results else f"detnet evaluate {place} --data DATA",
        sections=_sections(values),
        kinds=_kinds(findings.pictures),
        curves=[view["curves"]["lines"] for _, view in views],
        has_masks=any(mark.mask for mark in marks),
        has_keypoints=any(mark.skeleton for mark in marks),
        several_classes=len(names) > 1,
        threshold=THRESHOLD,
        lowest=findings.lowest,
        live=live,
        **values,
    )


def _summary(record: RunRecord) -> str:
    """The line under the title: which model, on what, how long it was trained."""
    config = record.config
    parts = [str(config[key]) for key in ("detector", "backbone") if config.get(key)]
    if config.get("width") not in (None, 1, 1.0):
        parts.append(f"width {config['width']}")
    data = config.get("data") or config.get("train_annotations")
    if data:
        parts.append(f"on {Path(str(data)).name}")
    steps = [event["iteration"] for event in record.events if event.get("event") == "step"]
    if steps:
        parts.append(f"{max(steps):,} iterations")
    return " · ".join(parts)


def _kinds(pictures: Sequence[Picture]) -> list[tuple[str, str, int]]:
    """The gallery's selections: value, title and number of pictures of each that has any."""
    counted = [
        (value, title, sum(value in picture.kinds for picture in pictures))
        for value, title in _KINDS
    ]
    return [("all", "All", len(pictures)), *(kind for kind in counted if kind[2])]


def _sections(values: dict[str, Any]) -> list[tuple[str, str]]:
    """Anchor and title of the sections that the page has."""
    results = values["results"]
    there = [
        ("scores", "Scores", results),
        ("pictures", "Pictures", values["pictures"]),
        ("errors", "Why it errs", values["diagnoses"]),
        ("labels", "Labels to look at", values["label_errors"]),
        (
            "tables",
            "Overlap and size",
            results and any(table["rows"] for table in results[0]["tables"]),
        ),
        ("classes", "Classes", results and results[0]["per_class"]),
        ("training", "Training", values["charts"]),
        ("settings", "Settings", values["config"] or values["environment"]),
    ]
    return [(anchor, title) for anchor, title, content in there if content]
