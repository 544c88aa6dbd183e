"""Mutated run folders: the checkpoint above all, then the settings, events and environment.

A run that goes on from a damaged file in silence must still reach the bits of an undisturbed one.
"""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import torch

from tests.torture.command import Found, call, judge
from tests.torture.mutate_bytes import Random, mutate_bytes, mutate_text
from tests.torture.mutate_json import change
from tests.torture.processes import limit_files, start
from tests.torture.record import ACCEPTED, FINDINGS, WRONG
from tests.torture.trainings import Job, copied, difference, fingerprint, leftovers, write_material

_NAMES = ("train", "pretrain", "pretrain")
_FILES = ("last.ckpt",) * 7 + ("config.yaml", "metrics.jsonl", "environment.json")


def base(folder: Path) -> None:
    """For each job the print of an undisturbed run, and one that ended in its fourth checkpoint."""
    jobs = write_material(folder)
    for name in set(_NAMES):
        whole, half = folder / "whole" / name, folder / "half" / name
        for run, prepare in ((whole, None), (half, _fourth_fails)):
            child = start((*jobs[name].begin, "--output", str(run)), folder / "said.txt", prepare)
            if child.wait(600) != (0 if run is whole else 2):
                raise RuntimeError(f"{name}: {child.said()}")
        prints = fingerprint(jobs[name], whole)
        (folder / f"{name}.json").write_text(json.dumps(prints))


def _fourth_fails() -> None:
    from detnet.engine import checkpoint

    save, calls = checkpoint.save, [0]

    def counted(path: Any, state: Any) -> None:
        calls[0] += 1
        if calls[0] == 4:
            limit_files(5000, deadly=False)
        save(path, state)

    checkpoint.save = counted  # type: ignore[assignment]


def attack(random: Random, base: Path, scratch: Path) -> Found:
    """Resumes a run of which one file was mutated."""
    name = _NAMES[int(random.integers(len(_NAMES)))]
    job = write_material(base)[name]
    run = copied(base / "half" / name, scratch / "run")
    file = _FILES[int(random.integers(len(_FILES)))]
    path = run / file
    meant = file == "last.ckpt" and random.random() < 0.6  # changed by somebody who can write one
    data = path.read_bytes()
    if meant:
        path.write_bytes(_rewritten(random, data))
    elif file == "last.ckpt" or random.random() < 0.3:
        path.write_bytes(mutate_bytes(random, data))
    else:
        path.write_bytes(mutate_text(random, data))
    try:
        found = judge(call(*job.resume, run), notes=True)
        if found.verdict in FINDINGS:
            return found
        if left := leftovers(run):
            return Found(WRONG, f"{name}: left {left}")
        if found.verdict == ACCEPTED and not meant and file != "config.yaml":
            return _same(job, run, json.loads((base / f"{name}.json").read_text()), file)
        return found
    finally:
        shutil.rmtree(run)


def _same(job: Job, run: Path, prints: dict[str, Any], file: str) -> Found:
    if file == "metrics.jsonl":  # its events are what was mutated
        prints = {name: value for name, value in prints.items() if name != file}
    wrong = difference(job, run, prints)
    return Found(WRONG, f"{job.name}, {file} mutated: {wrong}") if wrong else Found(ACCEPTED, "")


def _rewritten(random: Random, data: bytes) -> bytes:
    """A whole checkpoint that holds something else."""
    state = torch.load(io.BytesIO(data), weights_only=True)
    for _ in range(int(random.choice((1, 1, 2)))):
        state = change(random, state)
    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()
