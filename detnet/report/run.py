"""One HTML page of a run, complete in itself: scores, pictures, errors, curves, settings.

The data that the run was evaluated on are evaluated once, and everything shown is read from that.
An exported folder that was evaluated has such a page, too, without what is of a training.
"""

import shlex
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from detnet.coco.annotations import Annotations
from detnet.coco.ground_truth import GroundTruths
from detnet.data.reading import load_scored
from detnet.engine.run_records import RunRecord, read_run, read_scores_in, shown_evaluation
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.evaluation.coco import Evaluation, evaluate
from detnet.evaluation.diagnosis.diagnose import diagnose
from detnet.evaluation.diagnosis.outcomes import find_outcomes
from detnet.evaluation.diagnosis.records import Diagnosis, confused_pairs
from detnet.evaluation.files import read_scores
from detnet.files import read_json, write_text
from detnet.inference.engines.record import CHECK_FILE, is_export, read_export
from detnet.report.charts import training_charts
from detnet.report.diagnosis import draw_curves, from_score
from detnet.report.gallery import EvaluatedSplit, make_label_errors, make_pictures
from detnet.report.pictures import LOWEST, GalleryPicture, LabelError
from detnet.report.rendering import flat_settings, render_template
from detnet.report.score_tables import PaperRow, paper_rows, score_view
from detnet.training.detection.config import TrainConfig

THRESHOLD = 0.5  # score from which on a detection is shown at first, by a model that is so sure
STEP = 0.05  # of the slider
_KINDS = (("best", "Best"), ("worst", "Worst"), ("missed", "Missed"), ("false", "False alarms"))
_OF_EXPORTS = (
    *("format", "precision", "detector", "backbone", "batch", "kept_precise"),
    *("images", "thresholds", "source", "versions"),
)
_TRIED = ("metrics.jsonl", "scores.json", "results.json")


@dataclass(frozen=True)
class PageContent:
    """What takes the run's data to find out, and why something of it is not there.

    Args:
        diagnoses: ("Boxes" or "Masks", the diagnosis JSON).
        pictures: of the gallery, in its order.
        label_errors: the surest first.
        paper_rows: the paper's models that the run's recipe is for.
        notes: one line each.
    """

    diagnoses: Sequence[tuple[str, Diagnosis]] = ()
    pictures: Sequence[GalleryPicture] = ()
    label_errors: Sequence[LabelError] = ()
    paper_rows: Sequence[PaperRow] = ()
    notes: Sequence[str] = ()


def write_page(
    run: Path, *, content: PageContent | None = None, live: int | None = None, shown: str = ""
) -> Path:
    """Writes `report.html` into a run folder from what the folder holds, without what is missing.

    Args:
        run: the run folder (config.yaml, environment.json, metrics.jsonl, evaluation/scores.json),
            or an exported one.
        content: what else there is to show.
        live: seconds after which an open page reloads itself; None for a page that stays.
        shown: the run's place as the reader would type it; `run` by default.

    Returns:
        The page's path.

    Raises:
        InputError: no run folder, or one of its files is damaged.
    """
    record = _read(run)
    page = run / "report.html"
    write_text(page, render(record, content or PageContent(), live=live, place=shown or str(run)))
    return page


def render(
    record: RunRecord, content: PageContent, *, live: int | None = None, place: str = "RUN"
) -> str:
    """Makes the page's HTML; see `write_page`."""
    results = [score_view(one, content.paper_rows) for one in record.scores]
    charts = training_charts(record.events)
    marks = [mark for picture in content.pictures for mark in (*picture.truths, *picture.found)]
    names = {mark.name for mark in marks}
    values = {
        "results": results,
        "pictures": content.pictures,
        "diagnoses": content.diagnoses,
        "label_errors": content.label_errors,
        "charts": charts,
        "config": flat_settings(record.config),
        "environment": flat_settings(record.environment),
    }
    return render_template(
        "run.html.j2",
        name=record.name,
        summary=_summary(record),
        notes=content.notes,
        offer="" if results else f"detnet evaluate {shlex.quote(place)} --data DATA",
        sections=_sections(values),
        kinds=_kinds(content.pictures),
        curves=[draw_curves(one["curves"]) for _, one in content.diagnoses],
        confused_pairs=confused_pairs,
        has_masks=any(mark.mask for mark in marks),
        has_keypoints=any(mark.skeleton for mark in marks),
        several_classes=len(names) > 1,
        threshold=first_threshold(content.pictures),
        lowest=LOWEST,
        step=STEP,
        live=live,
        **values,
    )


def first_threshold(pictures: Sequence[GalleryPicture]) -> float:
    """Score from which on detections are shown at first, where the slider stands.

    Lower than usual where a model is so unsure that fewer than half as many would be seen as there
    are objects.
    """
    scores = sorted((mark.score for picture in pictures for mark in picture.found), reverse=True)
    objects = sum(mark.kind == "truth" for picture in pictures for mark in picture.truths)
    wanted = min(len(scores), max(1, objects // 2))
    if not wanted or scores[wanted - 1] >= THRESHOLD:
        return THRESHOLD
    steps = int(scores[wanted - 1] / STEP + 1e-6)  # a score on the step itself is seen
    return round(max(LOWEST, steps * STEP), 2)


def _summary(record: RunRecord) -> str:
    """The line under the title: which model, on what, how long it was trained."""
    config = record.config
    names = ("detector", "backbone", "format", "precision")  # the last two of an export
    parts = [str(config[key]) for key in names if config.get(key)]
    if config.get("width") not in (None, 1, 1.0):
        parts.append(f"width {config['width']}")
    data = config.get("data") or config.get("train_annotations")
    if data:
        parts.append(f"on {Path(str(data)).name}")
    if record.scored_on:
        parts.append(f"scored on {record.scored_on}")
    steps = [event["iteration"] for event in record.events if event.get("event") == "step"]
    if steps:
        parts.append(f"{max(steps):,} iterations")
    return " · ".join(parts)


def _kinds(pictures: Sequence[GalleryPicture]) -> list[tuple[str, str, int]]:
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
            results and results[0].tables,
        ),
        ("classes", "Classes", results and results[0].classes.rows),
        ("training", "Training", values["charts"]),
        ("settings", "Settings", values["config"] or values["environment"]),
    ]
    return [(anchor, title) for anchor, title, content in there if content]


def make_page(run: Path, *, count: int = 18) -> Path:
    """Writes a run's page: what its folder tells, and what its evaluation's results show.

    Where the data it was evaluated on is gone, the page says so and goes without pictures and
    diagnosis.

    Args:
        run: its folder, or an exported one, whose latest evaluation is shown.
        count: how many pictures.

    Returns:
        The page's path.

    Raises:
        InputError: there is no run, or one of its files is damaged.
    """
    return _Page(run, count).write(live=None)


def follow_page(
    run: Path, *, every: float, count: int = 18, wait: Callable[[float], Any] = time.sleep
) -> Iterator[Path]:
    """Keeps the page of a run in training up to date, until the run ends.

    Args:
        run: its folder.
        every: seconds between two looks at the folder; an open page renews itself as often.
        count: how many pictures.
        wait: sleeps between two looks.

    Yields:
        The page's path, each time that it was written.

    Raises:
        InputError: there is no run, or one of its files is damaged.
    """
    page, before = _Page(run, count), None
    while True:
        now = page.signs()
        if now != before:
            ended = read_run(run).ended
            yield page.write(live=None if ended else max(1, round(every)))
            if ended:
                return
            before = now
        wait(every)


@dataclass
class _Page:
    """The page of one run; what was found out is kept until there are new results."""

    run: Path
    count: int
    _seen: Any = None
    _content: PageContent = field(default_factory=PageContent)

    def signs(self) -> list[tuple[int, int] | None]:
        """What changes when the run has something new to show."""
        found = []
        evaluation = shown_evaluation(self.run)
        for folder, name in zip((self.run, evaluation, evaluation), _TRIED, strict=True):
            path = folder / name
            stat = path.stat() if path.exists() else None
            found.append((stat.st_mtime_ns, stat.st_size) if stat else None)
        return found

    def write(self, *, live: int | None) -> Path:
        if not is_export(self.run):
            RunFolder.open(self.run)
        seen = self.signs()[-1]
        if seen is None or seen != self._seen:
            self._content = find_out(self.run, count=self.count)
            self._seen = seen
        return write_page(self.run, content=self._content, live=live)


def find_out(run: Path, *, count: int) -> PageContent:
    """Evaluates a run's results once more and reads from that what the page shows of them.

    Args:
        run: its folder.
        count: how many pictures.
    """
    results = shown_evaluation(run) / "results.json"
    content = PageContent()
    if not is_export(run):
        if "detector" not in read_run(run).config:
            return content
        content = PageContent(paper_rows=paper_rows(TrainConfig.read(run / "config.yaml")))
    if not results.is_file():
        return content
    try:
        evaluated, evaluations, diagnoses = _evaluate(*_load(results.parent))
    except (InputError, OSError) as error:
        return replace(content, notes=[f"No pictures and no diagnosis: {error}"])
    content = replace(content, diagnoses=diagnoses)
    try:
        content = replace(content, pictures=make_pictures(evaluated, count=count))
        first = first_threshold(content.pictures)
        alike = [
            (kind, from_score(first, evaluation, diagnosis))
            for evaluation, (kind, diagnosis) in zip(evaluations, diagnoses, strict=True)
        ]
        content = replace(content, diagnoses=alike)
        return replace(content, label_errors=make_label_errors(evaluated))
    except (InputError, OSError) as error:
        return replace(content, notes=[f"No pictures: {error}"])


def _read(folder: Path) -> RunRecord:
    """The record of a run, or what an exported folder has of one."""
    if not is_export(folder):
        return read_run(folder)
    about, check = asdict(read_export(folder)), folder / CHECK_FILE
    place = shown_evaluation(folder)
    scores = read_scores_in(place)
    return RunRecord(
        name=folder.resolve().name,
        config={name: about[name] for name in _OF_EXPORTS}
        | ({"data": place.name} if scores else {}),
        environment=read_json(check) if check.is_file() else {},
        events=[],
        scores=scores,
    )


def _load(folder: Path) -> tuple[Annotations, GroundTruths, list[dict[str, Any]]]:
    """What an evaluation was made on, as its scores tell, and its results."""
    scores = read_scores(folder)
    assert scores.split is not None  # what is written down has one
    annotations, _, truths = load_scored(
        scores.split, masks=scores.segm is not None, keypoints=scores.keypoints is not None
    )
    return annotations, truths, read_json(folder / "results.json")


def _evaluate(
    annotations: Annotations, truths: GroundTruths, records: list[dict[str, Any]]
) -> tuple[EvaluatedSplit, list[Evaluation], list[tuple[str, Diagnosis]]]:
    """Evaluates boxes and, where there are any, masks: each once."""
    evaluations = [evaluate(truths.bbox, records)]
    if truths.segm is not None:
        # Without boxes a detection's size is its mask's, as in the ground truth.
        masks = [{k: v for k, v in record.items() if k != "bbox"} for record in records]
        evaluations.append(evaluate(truths.segm, masks, iou_type="segm"))
    diagnoses = list(zip(("Boxes", "Masks"), map(diagnose, evaluations), strict=False))
    split = EvaluatedSplit(
        annotations,
        truths,
        records,
        evaluations[0],
        find_outcomes(evaluations[0]),
        diagnoses[0][1],
    )
    return split, evaluations, diagnoses
