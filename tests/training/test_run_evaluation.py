"""Which model a run keeps: scores that rise, fall, are equal or nothing, and when it stops."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.engine.optim import Ema, sgd
from detnet.engine.runs import RunFolder
from detnet.training.detection.config import TrainConfig
from detnet.training.run import evaluate_and_keep
from detnet.training.run_state import Run
from detnet.training.task import Measured, RunData, Task, training_schedule

ALONE = Process(0, 1, torch.device("cpu"))


class Scripted(Task):
    """A run of one number, whose evaluations give scores that are told beforehand."""

    def __init__(self, config: TrainConfig, scores: list[float | None], images: int = 3) -> None:
        self.config, self.process, self.scores = config, ALONE, scores
        self.data = RunData(Path("data"), "annotations", 8, images, "fingerprint")
        self.batches_per_epoch = 4
        self.evaluated: list[float] = []

    def resolve(self, *, load_weights: bool) -> list[str]:
        raise NotImplementedError

    def read_data(self, process: Process) -> None:
        raise NotImplementedError

    def make_model(self) -> tuple[nn.Module, list[str]]:
        return nn.Linear(1, 1, bias=False), []

    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        return iter(())

    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        score = self.scores[len(self.evaluated)]
        self.evaluated.append(next(model.parameters()).item())

        def write(folder: Path) -> None:
            folder.mkdir(exist_ok=True)
            (folder / "scores.json").write_text(json.dumps(score))

        # Another score that only rises must not decide.
        return Measured({"AP": score, "AP50": float(len(self.evaluated))}, write)

    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        weights = model.state_dict() if state is None else state
        path.write_text(str(weights["weight"].item()))

    def names_of(self, image_ids: Any) -> list[str]:
        return []


def make_run(tmp_path: Path, config: TrainConfig, task: Scripted, heard: list[Any]) -> Run:
    model, _ = task.make_model()
    return Run(
        config=config,
        folder=RunFolder.create(tmp_path / "run"),
        process=ALONE,
        task=task,
        schedule=training_schedule(config, task.batches_per_epoch),
        model=model,
        optimizer=sgd(model, lr=0.1),
        ema=Ema(model, config.ema) if config.ema else None,
        on_event=heard.append,
    )


def go(run: Run, evaluations: int) -> list[bool]:
    """Evaluates every third step with the step's number as weight; says when the run would stop."""
    stops = []
    for step in range(3, 3 * evaluations + 1, 3):
        run.progress.iteration = step
        nn.init.constant_(next(run.model.parameters()), step)
        evaluate_and_keep(run, None)
        stops.append(run.progress.stopped_early)
    return stops


def test_the_best_model_is_kept_and_no_later_one_as_good(tmp_path: Path, tiny: TrainConfig) -> None:
    scores = [None, 0.25, 0.125, 0.5, 0.5, None, 0.375]
    heard: list[Any] = []
    task = Scripted(replace(tiny, ema=0.0), scores)
    run = make_run(tmp_path, task.config, task, heard)
    kept = []
    for step, score in enumerate(scores, start=1):
        run.progress.iteration = step
        nn.init.constant_(next(run.model.parameters()), step)
        evaluate_and_keep(run, None)
        best = run.folder.best
        kept.append(float(best.read_text()) if best.exists() else None)
        if best.exists():  # files and model are of the same evaluation
            written = json.loads((run.folder.evaluation / "scores.json").read_text())
            assert written == scores[int(kept[-1] or 0) - 1]
        assert heard[-1]["AP"] == score
    assert kept == [None, 2, 2, 4, 4, 4, 4]
    assert (run.progress.best, run.progress.best_iteration) == (0.5, 4)
    assert [event["best"] for event in heard] == [False, True, False, True, False, False, False]
    assert [event["iteration"] for event in heard] == list(range(1, 8))
    assert heard[5]["epoch"] == 6 / run.schedule.per_epoch
    logged = run.folder.read_metrics()
    assert logged == heard and {event["event"] for event in logged} == {"evaluation"}


@pytest.mark.parametrize(
    ("patience", "expected"),
    [
        (0, [False] * 6),
        (1, [False, True, False, True, True, True]),
        (2, [False, False, False, False, True, True]),
    ],
)
def test_patience_counts_evaluations_since_the_best(
    tmp_path: Path, tiny: TrainConfig, patience: int, expected: list[bool]
) -> None:
    config = replace(tiny, patience=patience, ema=0.0)
    task = Scripted(config, [0.25, 0.125, 0.5, 0.5, 0.375, None])
    run = make_run(tmp_path, config, task, [])
    assert go(run, 6) == expected
    assert run.progress.worse_in_a_row == 3


def test_the_metric_asked_for_decides(tmp_path: Path, tiny: TrainConfig) -> None:
    task = Scripted(replace(tiny, best_metric="AP50", ema=0.0), [0.5, 0.25])
    run = make_run(tmp_path, task.config, task, [])
    go(run, 2)
    assert (run.progress.best, run.progress.best_iteration) == (2, 6)


def test_averaged_weights_are_evaluated_and_kept_and_the_run_goes_on_with_its_own(
    tmp_path: Path, tiny: TrainConfig
) -> None:
    task = Scripted(replace(tiny, ema=0.9), [0.5])
    run = make_run(tmp_path, task.config, task, [])
    assert run.ema is not None
    average = run.ema.model_state()["weight"].item()
    go(run, 1)
    assert task.evaluated == [average]
    assert float(run.folder.best.read_text()) == average
    assert next(run.model.parameters()).item() == 3
