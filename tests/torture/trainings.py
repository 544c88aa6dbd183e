"""Tiny trainings and a tiny search as a user starts them, and what must be equal at their end."""

import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.search.small_search import AS_CLASSIFIER, SPACE, UNDER_DETECTOR, write_classes
from tests.search.small_search import settings as search_settings

_CLOCKS = {"seconds", "images_per_s", "data_s", "step_s", "score_s", "evaluation_s"}
_SMALL = {"device": "cpu", "precision": "fp32", "workers": 0, "seed": 7}


@dataclass(frozen=True)
class Job:
    """One command that can be resumed.

    Args:
        name: its folder's, and that of its reference.
        begin: the words that start it, without --output RUN.
        resume: the words that go on with it, without RUN.
        compared: the files that must be the same bytes at its end, with their folders.
        logs: the files of events that must be equal but for clocks.
    """

    name: str
    begin: tuple[str, ...]
    resume: tuple[str, ...]
    compared: tuple[str, ...] = ("model.safetensors", "best.safetensors")
    logs: tuple[str, ...] = ("metrics.jsonl",)


def write_material(base: Path) -> dict[str, Job]:
    """Writes data and settings for all jobs."""
    from detnet.data.scenes import write_scenes

    data, classes = base / "scenes", base / "classes"
    if not data.exists():
        write_scenes(data, train=8, val=2, size=(96, 64))
        write_classes(classes, train=6)
    network = {"backbone": "searched", "width": 0.25, "norm": "sync"}
    network["backbone_options"] = {"space": SPACE, "path": "3 3 3 3"}
    steps = {"iterations": 5, "checkpoint_every": 1, "ema": 0.9, **_SMALL}
    train = {**UNDER_DETECTOR, **network, **steps, "data": str(data), "min_sizes": [64]}
    train |= {"max_size": 96, "evaluate_every": 1, "detector_options": _few()}
    pretrain = {**AS_CLASSIFIER, **network, **steps, "data": str(classes), "mixup": 0.2}
    search = search_settings(data, classes) | {"search_images": 3, "seed": 7}
    for phase in ("pretrain", "finetune", "retrain_pretrain", "retrain"):
        search[phase] = {**search[phase], "iterations": 2, "checkpoint_every": 1}
    jobs = {}
    files = {"train": train, "pretrain": pretrain, "search": search}
    files["train-workers"] = {**train, "workers": 2}
    for name, content in files.items():
        (base / f"{name}.yaml").write_text(yaml.safe_dump(content))
        command = name.partition("-")[0]
        more = ("--no-estimate",) if command == "search" else ()
        begin = (command, "--config", str(base / f"{name}.yaml"), *more)
        jobs[name] = Job(name, begin, (command, *more, "--resume"), **_compared(command))
    return jobs


def _few() -> dict[str, Any]:
    """Few proposals, with the plain box head."""
    return {k: v for k, v in UNDER_DETECTOR["detector_options"].items() if isinstance(v, int)}


def _compared(command: str) -> dict[str, tuple[str, ...]]:
    if command != "search":
        return {}
    parts = ("pretrain", "finetune", "winner/pretrain", "winner/train")
    files = ("winner.json", *(f"{part}/model.safetensors" for part in parts))
    return {"compared": files, "logs": tuple(f"{part}/metrics.jsonl" for part in parts)}


def fingerprint(job: Job, run: Path) -> dict[str, Any]:
    """What a finished run is compared by: hashes of its files, its events, its candidates."""
    found: dict[str, Any] = {}
    for name in job.compared:
        path = run / name
        found[name] = hashlib.sha256(path.read_bytes()).hexdigest() if path.exists() else None
    for name in job.logs:
        path = run / name
        lines = path.read_text().splitlines() if path.exists() else []
        found[name] = [_timeless(json.loads(line)) for line in lines]
    if job.name.startswith("search"):
        found["candidates"] = _candidates(run)
    return found


def difference(job: Job, run: Path, reference: dict[str, Any]) -> str:
    """Where a finished run differs from the reference; "" where it does not."""
    found = fingerprint(job, run)
    for name, value in reference.items():
        if found[name] != value:
            if isinstance(value, list):
                pairs = zip(value, found[name], strict=False)
                place = next((i for i, (a, b) in enumerate(pairs) if a != b), "the end")
                return f"{name} differs at {place} ({len(value)} and {len(found[name])} lines)"
            return f"{name} differs"
    return ""


def leftovers(run: Path) -> list[str]:
    """Files half written that nobody removed."""
    found = [path for path in run.rglob("*") if path.suffix in (".partial", ".part")]
    return [str(path.relative_to(run)) for path in found]


def copied(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(source, target)
    return target


def _timeless(event: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in event.items() if name not in _CLOCKS}


def _candidates(run: Path) -> list[Any]:
    from detnet.search.study.study import open_study, read_candidates

    if not (run / "study.db").exists():
        return []
    with open_study(str(run / "study.db")) as study:
        records = read_candidates(study)
    rows = [[one.generation, one.slot, list(one.path), one.state, one.values] for one in records]
    return sorted(rows, key=str)
