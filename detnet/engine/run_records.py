"""What a run has left in its folder, as pages and tables read it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.files import read_json, read_yaml
from detnet.kinds import say_kind

_IOU_TYPES = ("bbox", "segm", "keypoints")  # in the order in which they are told
_SCORED = {"AP", "top1"}  # a name in every file of scores: a detector's or a classifier's


@dataclass(frozen=True)
class RunRecord:
    """The small files of one run folder; what is missing is empty.

    Args:
        name: of the folder.
        config: config.yaml.
        environment: environment.json.
        events: the lines of metrics.jsonl.
        scores: of the boxes and, where there are any, of the masks and keypoints behind them; as
            `shown_evaluation` finds them.
        scored_on: data and split of a run without one of its own; empty for its own.
    """

    name: str
    config: dict[str, Any]
    environment: dict[str, Any]
    events: list[dict[str, Any]]
    scores: list[dict[str, Any]]
    scored_on: str = ""

    @property
    def ended(self) -> bool:
        """Whether training is complete; a run that was resumed has not ended by its first end."""
        return bool(self.events) and self.events[-1].get("event") == "end"


def read_run(path: str | Path) -> RunRecord:
    """Reads what a run's folder holds.

    Raises:
        InputError: no such folder, or one of its files is damaged.
    """
    folder = RunFolder(path)
    if not folder.path.is_dir():
        raise InputError(f"{folder.path}: no such run folder")
    shown = shown_evaluation(folder.path)
    return RunRecord(
        name=folder.path.resolve().name,
        config=read_yaml(folder.config) if folder.config.is_file() else {},
        environment=_read_object(folder.environment) if folder.environment.is_file() else {},
        events=folder.read_metrics(),
        scores=read_scores_in(shown),
        scored_on="" if shown == folder.evaluation else shown.name,
    )


def shown_evaluation(folder: Path) -> Path:
    """Tells where the scores to show lie: a run's on its own validation split, else the latest.

    Runs with `val_split: none` have no split of their own, and exports have none either.
    """
    own = folder / "evaluation"
    if (own / "scores.json").is_file():
        return own
    scored = sorted(own.glob("*/scores.json"), key=lambda file: file.stat().st_mtime_ns)
    return scored[-1].parent if scored else own


def read_scores_in(folder: Path) -> list[dict[str, Any]]:
    """Reads every kind of scores, whether in a file of its own or in that of the boxes.

    Raises:
        InputError: a file is damaged.
    """
    found: list[Any] = []
    for path in sorted(folder.glob("scores*.json")):
        content = _read_object(path)
        found += [content, *(content.get(kind) for kind in _IOU_TYPES)]
    found = [scores for scores in found if isinstance(scores, dict) and _SCORED & scores.keys()]
    return sorted(found, key=lambda scores: _IOU_TYPES.index(scores.get("iou_type", "bbox")))


def _read_object(path: Path) -> dict[str, Any]:
    content = read_json(path)
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no JSON object, but {say_kind(type(content))}")
    return content


def tell_weights(path: str | Path) -> str:
    """Says which weights the scores of a run or a model file are of: file and iteration.

    Returns:
        "best.safetensors (iteration 48, chosen on val)", or the name alone of what is no run's.
    """
    path = Path(path)
    run = RunFolder(path if path.is_dir() else path.parent)
    if not run.config.is_file():
        return path.resolve().name
    file = (run.best if run.best.is_file() else run.model) if path.is_dir() else path
    try:
        config, events = read_yaml(run.config), run.read_metrics()
    except (InputError, OSError, ValueError):  # what is said beside the scores must not lose them
        return file.name
    if file.name == run.best.name:
        kept = [
            event for event in events if event.get("event") == "evaluation" and event.get("best")
        ]
        annotations, split = config.get("val_annotations"), config.get("val_split", "val")
        where = f", chosen on {Path(annotations).stem if annotations else split}"
    else:
        kept, where = [event for event in events if event.get("event") == "end"], ", the last"
    known = kept and file.name in (run.best.name, run.model.name)
    return f"{file.name} (iteration {kept[-1]['iteration']}{where})" if known else file.name
