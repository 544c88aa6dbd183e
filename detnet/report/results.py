"""RESULTS.md from run folders: every number with its command, commit, seconds and hardware."""

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from detnet.errors import InputError
from detnet.report.files import read_events

COLUMNS = ("AP", "AP50", "AP75", "APs", "APm", "APl")

_HEAD = """# Results

Written by `detnet report RUN… --results-table RESULTS.md` from run folders; not edited by hand.
Percent, COCO's definitions, the best evaluation of each run on its `val` split; … in a command
stands for a path. Small data sets: they tell of the software, and little of the papers' claims.
"""


@dataclass(frozen=True)
class Result:
    """What a run folder says about itself.

    Args:
        name: of the folder.
        data: name of the data set's folder.
        config: its settings.
        environment: command, commit, versions, hardware.
        scores: of its best evaluation; masks under "segm".
        iterations: trained, of which `best_iteration` gave the scores.
        seconds: of training, evaluations included.
    """

    name: str
    data: str
    config: dict[str, Any]
    environment: dict[str, Any]
    scores: dict[str, Any]
    iterations: int
    best_iteration: int
    seconds: float

    @property
    def model(self) -> str:
        """Detector, backbone and width."""
        width = self.config.get("width", 1.0)
        narrow = "" if width == 1 else f", width {width:g}"
        return f"{self.config['detector']}, {self.config['backbone']}{narrow}"

    @property
    def hardware(self) -> str:
        gpus = self.environment.get("gpus") or []
        if gpus:
            return f"{len(gpus)} × {gpus[0]}"
        cores, name = (self.environment.get(key, "?") for key in ("cpu_cores", "cpu"))
        return f"{cores} cores of {name}"


def read_result(run: Path) -> Result:
    """Reads a finished run's folder.

    Raises:
        InputError: it is no run folder, or was not evaluated.
    """
    for name in ("config.yaml", "environment.json", "metrics.jsonl"):
        if not (run / name).is_file():
            raise InputError(f"{run}: holds no run (no {name} in it)")
    scores = run / "evaluation" / "scores.json"
    if not scores.is_file():
        raise InputError(f"{run}: was not evaluated; run `detnet evaluate {run} --data DATA`")
    config = yaml.safe_load((run / "config.yaml").read_text(encoding="utf-8"))
    events = read_events(run / "metrics.jsonl")
    best = [event for event in events if event["event"] == "evaluation" and event.get("best")]
    ends = [event for event in events if event["event"] == "end"]
    if not ends:
        raise InputError(f"{run}: is not complete; go on with `detnet train --resume {run}`")
    return Result(
        name=run.resolve().name,
        data=Path(config["data"] or config["train_annotations"]).name,
        config=config,
        environment=json.loads((run / "environment.json").read_text(encoding="utf-8")),
        scores=json.loads(scores.read_text(encoding="utf-8")),
        iterations=ends[-1]["iteration"],
        best_iteration=best[-1]["iteration"] if best else 0,
        seconds=ends[-1]["seconds"],
    )


def results_table(results: Sequence[Result]) -> str:
    """Writes the page: one table for each data set, then how to get each row again."""
    parts = [_HEAD]
    for data in dict.fromkeys(result.data for result in results):
        parts.append(f"## {data}\n\n{_table([r for r in results if r.data == data])}")
    parts.append(
        "## How\n\n| run | command | commit | versions | hardware |\n|---|---|---|---|---|\n"
        + "\n".join(_how(result) for result in results)
    )
    return "\n\n".join(part.strip() for part in parts) + "\n"


def _table(results: Sequence[Result]) -> str:
    head = "| run | model | " + " | ".join(COLUMNS) + " | images seen | seconds | seed |"
    rows = [head, "|" + "---|" * (head.count("|") - 1)]
    for result in results:
        rows.append(_row(result, result.scores, result.model, result.name))
        if "segm" in result.scores:
            rows.append(_row(result, result.scores["segm"], "… its masks", ""))
    return "\n".join(rows)


def _row(result: Result, scores: dict[str, Any], model: str, name: str) -> str:
    numbers = [_percent(scores.get(column)) for column in COLUMNS]
    seen = f"{result.iterations * result.config['batch_size']:,}"
    ending = [seen, f"{result.seconds:,.0f}", str(result.config["seed"])]
    return "| " + " | ".join([name, model, *numbers, *ending]) + " |"


def _how(result: Result) -> str:
    environment = result.environment
    words = ["detnet", *environment["command"][1:]]  # not the __main__.py of python -m
    command = " ".join(map(_without_place, words))
    packages = environment.get("packages", {})
    versions = f"torch {packages.get('torch', '?')}, torchvision {packages.get('torchvision', '?')}"
    commit = environment.get("commit") or "?"
    cells = [result.name, f"`{command}`", commit, versions, result.hardware]
    return "| " + " | ".join(cells) + " |"


def _without_place(word: str) -> str:
    """Shortens a path to its last part: where someone keeps their data is not for a page."""
    return re.sub(r"^(?:~|\.{1,2})?/(?:[^/]+/)*", "…/", word)


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f}"
