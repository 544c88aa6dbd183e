"""A run's page: its data are evaluated once, and everything shown is read from that."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from detnet.coco.annotations import Annotations
from detnet.coco.ground_truth import Truths
from detnet.data.reading import load_scored
from detnet.engine.runs import RunFolder, read_run
from detnet.errors import InputError
from detnet.evaluation.coco import evaluate
from detnet.evaluation.diagnosis.diagnose import diagnose
from detnet.evaluation.diagnosis.outcomes import find_outcomes
from detnet.evaluation.files import read_scores
from detnet.files import read_json
from detnet.report.gallery import Sight, make_label_errors, make_pictures
from detnet.report.origin import comparisons
from detnet.report.overlays import LOWEST
from detnet.report.page import Findings, write_page
from detnet.report.pictures import LabelError, Picture
from detnet.training.detection.config import read_config

_TRIED = ("metrics.jsonl", "evaluation/scores.json", "evaluation/results.json")


def make_page(run: Path, *, count: int = 18) -> Path:
    """Writes a run's page: what its folder tells, and what its evaluation's results show.

    Where the data it was evaluated on is gone, the page says so and goes without pictures and
    diagnosis.

    Args:
        run: its folder.
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
    _findings: Findings = field(default_factory=Findings)

    def signs(self) -> list[tuple[int, int] | None]:
        """What changes when the run has something new to show."""
        found = []
        for name in _TRIED:
            path = self.run / name
            stat = path.stat() if path.exists() else None
            found.append((stat.st_mtime_ns, stat.st_size) if stat else None)
        return found

    def write(self, *, live: int | None) -> Path:
        RunFolder.open(self.run)
        seen = self.signs()[-1]
        if seen is None or seen != self._seen:
            self._findings = find_out(self.run, count=self.count)
            self._seen = seen
        return write_page(self.run, findings=self._findings, live=live)


def find_out(run: Path, *, count: int) -> Findings:
    """Evaluates a run's results once more and reads from that what the page shows of them.

    Args:
        run: its folder.
        count: how many pictures.
    """
    record = read_run(run)
    results = run / "evaluation" / "results.json"
    if "detector" not in record.config:
        return Findings()
    config = read_config(run / "config.yaml")
    paper = comparisons(config, record.environment.get("command") or [])
    if not results.is_file():
        return Findings(comparisons=paper)
    try:
        sight, diagnoses = _judge(*_load(results.parent))
    except (InputError, OSError) as error:
        note = f"No pictures and no diagnosis: {error}"
        return Findings(comparisons=paper, notes=[note])
    notes = []
    pictures: list[Picture] = []
    label_errors: list[LabelError] = []
    try:
        pictures = make_pictures(sight, count=count)
        label_errors = make_label_errors(sight)
    except (InputError, OSError) as error:
        notes.append(f"No pictures: {error}")
    return Findings(
        diagnoses=diagnoses,
        pictures=pictures,
        label_errors=label_errors,
        comparisons=paper,
        lowest=LOWEST,
        notes=notes,
    )


def _load(folder: Path) -> tuple[Annotations, Truths, list[dict[str, Any]]]:
    """What an evaluation was made on, as its scores tell, and its results."""
    scores = read_scores(folder)
    assert scores.split is not None  # what is written down has one
    annotations, _, truths = load_scored(
        scores.split, masks=scores.segm is not None, keypoints=scores.keypoints is not None
    )
    return annotations, truths, read_json(folder / "results.json")


def _judge(
    annotations: Annotations, truths: Truths, records: list[dict[str, Any]]
) -> tuple[Sight, list[tuple[str, dict[str, Any]]]]:
    """Evaluates boxes and, where there are any, masks: each once."""
    evaluation = evaluate(truths.bbox, records)
    diagnosis = diagnose(evaluation)
    diagnoses = [("Boxes", diagnosis)]
    if truths.segm is not None:
        # Without boxes a detection's size is its mask's, as in the ground truth.
        masks = [{k: v for k, v in record.items() if k != "bbox"} for record in records]
        diagnoses.append(("Masks", diagnose(evaluate(truths.segm, masks, iou_type="segm"))))
    return Sight(
        annotations, truths, records, evaluation, find_outcomes(evaluation), diagnosis
    ), diagnoses
