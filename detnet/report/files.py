"""What a run folder tells the report: settings, machine, events and scores, each where it is."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detnet.errors import InputError
from detnet.evaluation.grid import IOU_TYPES

_SIGNS = {"AP", "top1"}  # of scores: a detector's or a classifier's


@dataclass(frozen=True)
class RunRecord:
    """The small files of one run folder; what is missing is empty.

    Args:
        name: of the folder.
        config: config.yaml.
        environment: environment.json.
        events: the lines of metrics.jsonl.
        scores: of the boxes and, where there are any, of the masks and keypoints behind them.
    """

    name: str
    config: dict[str, Any]
    environment: dict[str, Any]
    events: list[dict[str, Any]]
    scores: list[dict[str, Any]]

    @property
    def ended(self) -> bool:
        """Whether training is complete; a run that was resumed has not ended by its first end."""
        return bool(self.events) and self.events[-1].get("event") == "end"


def read_run(run: Path) -> RunRecord:
    """Reads what the folder holds.

    Raises:
        InputError: no such folder, or one of its files is damaged.
    """
    if not run.is_dir():
        raise InputError(f"{run}: no such run folder")
    return RunRecord(
        name=run.resolve().name,
        config=_read_config(run / "config.yaml"),
        environment=_read_json(run / "environment.json"),
        events=read_events(run / "metrics.jsonl"),
        scores=_read_scores(run / "evaluation"),
    )


def read_events(path: Path) -> list[dict[str, Any]]:
    """The lines of metrics.jsonl; a last line that was cut by a kill is left out."""
    if not path.is_file():
        return []
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    events = []
    for number, line in enumerate(lines, 1):
        try:
            events.append(json.loads(line))
        except ValueError as error:
            if number < len(lines):
                raise InputError(f"{path}: line {number} is not JSON ({error})") from error
    return [event for event in events if isinstance(event, dict)]


def _read_scores(folder: Path) -> list[dict[str, Any]]:
    """The scores of boxes and, where there are any, of masks and keypoints.

    Those stand in the boxes' file under `segm` and `keypoints`, beside them, or in a file of their
    own.
    """
    found: list[Any] = []
    for path in sorted(folder.glob("scores*.json")):
        content = _read_json(path)
        found += [content, *(content.get(kind) for kind in IOU_TYPES)]
    found = [scores for scores in found if isinstance(scores, dict) and _SIGNS & scores.keys()]
    return sorted(found, key=_rank)


def _rank(scores: dict[str, Any]) -> int:
    """Where a kind of scores stands on the page."""
    kind = scores.get("iou_type")
    return IOU_TYPES.index(kind) if kind in IOU_TYPES else 0


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
