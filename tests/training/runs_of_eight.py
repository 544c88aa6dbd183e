"""Runs of eight processes; `test_runs_of_eight.py` starts them and judges what they leave.

python -m tests.training.runs_of_eight CASE COUNT FOLDER [SCENES]
"""

import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from detnet.engine import peers
from detnet.engine.distributed import leave
from detnet.errors import InputError
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import DetectionTask, resume
from detnet.training.run import run_task
from detnet.training.task import Measured
from tests.conftest import TINY
from tests.forked import fork, places, wait
from tests.training.toy_task import CONFIG, ToyTask

LENGTH = 4
VICTIM = 3
RANK = "RANK"


def settings(scenes: Path, **changes: Any) -> TrainConfig:
    """A tiny detector whose step takes an image from each of eight; there are three to evaluate."""
    values = {**TINY, "batch_size": 8, "iterations": LENGTH, "evaluate_every": LENGTH, **changes}
    return TrainConfig.make(None, {"data": str(scenes), **values})


def whole_and_parts(folder: Path, scenes: Path) -> None:
    """A run without a break, and one that a signal to the main process ends after two steps."""

    def stop(event: dict[str, Any]) -> None:
        if event["event"] == "progress" and event["iteration"] == 2:
            os.kill(os.getpid(), signal.SIGTERM)

    whole, parts = folder / "whole", folder / "parts"
    assert run_task(DetectionTask(settings(scenes)), whole, resume=False, on_event=quiet)
    assert not run_task(DetectionTask(settings(scenes)), parts, resume=False, on_event=stop)
    assert resume(parts, on_event=quiet)


def go_on(folder: Path, scenes: Path) -> None:
    """What a run of eight says to others than eight."""
    try:
        resume(folder / "whole", on_event=quiet)
    except InputError as error:
        say(folder, "go_on", str(error))


def few_objects(folder: Path, scenes: Path) -> None:
    """One image of all has objects: seven processes have none in each step."""
    truth = json.loads((scenes / "annotations" / "instances_train.json").read_text())
    full = truth["annotations"][0]["image_id"]
    truth["annotations"] = [a for a in truth["annotations"] if a["image_id"] == full]
    sparse = folder / f"sparse{os.environ[RANK]}.json"
    sparse.write_text(json.dumps(truth))
    config = settings(scenes)
    config = replace(config, train_annotations=str(sparse), train_images=str(scenes / "train"))
    assert run_task(DetectionTask(config), folder / "few", resume=False, on_event=quiet)


class Killed(DetectionTask):
    """A run in whose third step one process dies."""

    def before_step(self, model: nn.Module, iteration: int) -> None:
        if iteration == 2 and self.process.rank == VICTIM:
            die()


class Stopped(ToyTask):
    """One process stands still from its third step on, as if its machine hung."""

    def before_step(self, model: nn.Module, iteration: int) -> None:
        if iteration == 2 and self.process.rank == VICTIM:
            os.kill(os.getpid(), signal.SIGSTOP)


class KilledBesideEvaluation(ToyTask):
    """One process dies while the others are at work for a minute, and talk to nobody."""

    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        if self.process.rank == VICTIM:
            die()
        time.sleep(60)
        raise AssertionError("nobody has ended this process")


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def killed(folder: Path, scenes: Path) -> None:
    """With readers: forks of the dead process, which live on for seconds."""
    task = Killed(settings(scenes, workers=1))
    try:
        run_task(task, folder / "killed", resume=False, on_event=quiet)
    except peers.LostProcess as error:
        say(folder, "killed", str(error))


def killed_beside(folder: Path, scenes: Path) -> None:
    peers.PATIENCE_S = 2.0

    def end(what: str) -> None:
        say(folder, "killed_beside", what)
        os._exit(0)

    peers.when_stuck(end)
    task = KilledBesideEvaluation(replace(CONFIG, batch_size=8))
    run_task(task, folder / "beside", resume=False, on_event=quiet)


def stopped(folder: Path, scenes: Path) -> None:
    peers._BEAT_S, peers.SILENCE_S, peers.PATIENCE_S = 0.5, 10.0, 2.0

    def end(what: str) -> None:
        say(folder, "stopped", what)
        if os.environ[RANK] == "0":  # or it would stand there for ever
            os.kill(int(what.partition("(id ")[2].partition(" ")[0]), signal.SIGKILL)
        os._exit(0)

    peers.when_stuck(end)
    run_task(Stopped(replace(CONFIG, batch_size=8)), folder / "run", resume=False, on_event=quiet)


def say(folder: Path, case: str, what: str) -> None:
    (folder / f"{case}{os.environ[RANK]}.txt").write_text(what)


def quiet(event: dict[str, Any]) -> None:
    """Nobody looks."""


CASES: dict[str, Callable[[Path, Path], None]] = {
    each.__name__: each
    for each in (whole_and_parts, go_on, few_objects, killed, killed_beside, stopped)
}


def main(case: str, folder: Path, scenes: Path) -> None:
    torch.set_num_threads(1)
    CASES[case](folder, scenes)
    leave(0)


if __name__ == "__main__":
    name, count, *given = sys.argv[1:]
    where, images = map(Path, given)
    began = time.monotonic()
    started = [
        fork(lambda: main(name, where, images), place, where / f"{name}{place[RANK]}.log")
        for place in places(int(count))
    ]
    # All have a minute to end after the death of one.
    codes = wait(started, timeout_s=500, patience_s=60 if "killed" in name else 1)
    print(json.dumps({"codes": codes, "seconds": time.monotonic() - began}))
