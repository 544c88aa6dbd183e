"""Checkpoints whose content is not a run's: one line that names the file, and nothing is run."""

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from detnet.engine import checkpoint
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.engine.optim import Ema, sgd
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.training.run_config import RunConfig
from detnet.training.run_state import Progress, Run, restore, save
from detnet.training.task import Measured, RunData, Task, training_schedule


class Counting(Task):
    """A task whose state is how often it was asked."""

    def __init__(self, process: Process) -> None:
        self.process, self.asked = process, 0
        self.data = RunData(Path("data"), "annotations", 6, 0, "fingerprint")

    def resolve(self, *, load_weights: bool) -> list[str]:
        raise NotImplementedError

    def read_data(self, process: Process) -> None:
        raise NotImplementedError

    def make_model(self) -> tuple[nn.Module, list[str]]:
        raise NotImplementedError

    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        raise NotImplementedError

    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        raise NotImplementedError

    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        raise NotImplementedError

    def names_of(self, image_ids: Iterable[int]) -> list[str]:
        raise NotImplementedError

    def state(self) -> dict[str, Any]:
        return {"asked": self.asked}

    def restore(self, state: dict[str, Any]) -> None:
        self.asked = state["asked"] + 0


def make_run(folder: Path) -> Run:
    torch.manual_seed(0)
    config = RunConfig(iterations=4, batch_size=2, ema=0.5)
    process = Process(0, 1, torch.device("cpu"))
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    optimizer = sgd(model, lr=0.1, momentum=0.9, weight_decay=1e-4)
    run = Run(
        config,
        RunFolder(folder),
        process,
        Counting(process),
        training_schedule(config, 3),
        model,
        optimizer,
        Ema(model, config.ema),
        lambda event: None,
    )
    model(torch.rand(2, 3, 8, 12)).sum().backward()
    optimizer.step()
    assert run.ema is not None
    run.ema.update()
    run.progress = Progress(2, 0.5, 1, 1, 12.5)
    return run


def _set(*place: Any, to: Any) -> Callable[[dict[str, Any]], None]:
    def change(state: Any) -> None:
        for key in place[:-1]:
            state = state[key]
        state[place[-1]] = to

    return change


def _drop(name: str) -> Callable[[dict[str, Any]], None]:
    return lambda state: state.pop(name)  # type: ignore[return-value]


PARTS = ("model", "optimizer", "ema", "progress", "rng", "data")
OTHERS = ("task", "classes", "val")
HOSTILE = {
    **{f"no {name}": _drop(name) for name in PARTS},
    **{f"{name} is a number": _set(name, to=7) for name in (*PARTS, *OTHERS)},
    **{f"{name} is a list of numbers": _set(name, to=[1, 2]) for name in (*PARTS, *OTHERS)},
    "an unknown progress": _set("progress", "run", to=1),
    "iteration in words": _set("progress", "iteration", to="2"),
    "iteration below zero": _set("progress", "iteration", to=-1),
    "best is a list": _set("progress", "best", to=[]),
    "no processes": _set("rng", to=[]),
    "no torch generator": _set("rng", 0, to={}),
    "a generator of numbers": _set("rng", 0, "torch", to=5),
    "a short generator": _set("rng", 0, "torch", to=torch.zeros(3, dtype=torch.uint8)),
    "numpy in words": _set("rng", 0, "numpy", to="x"),
    "numpy's keys too few": _set("rng", 0, "numpy", "state", "key", to=torch.zeros(3)),
    "python's state in words": _set("rng", 0, "python", to=["3", [1], None]),
    "python's state too short": _set("rng", 0, "python", to=[3, [1], None]),
    "task without its entry": _set("task", to=[{}]),
    "task in words": _set("task", to=[{"asked": "x"}]),
    "task of two": _set("task", to=[{"asked": 1}] * 2),
    "weights of numbers": _set("model", "0.weight", to=3),
    "weights of another shape": _set("model", "0.weight", to=torch.zeros(2, 2)),
    "an unknown weight": _set("model", "9.weight", to=torch.zeros(2)),
    "no groups": _set("optimizer", "param_groups", to=[]),
    "groups of words": _set("optimizer", "param_groups", to=["x"]),
    "momentum in words": _set("optimizer", "param_groups", 0, "momentum", to="x"),
    "groups of other parameters": _set("optimizer", "param_groups", 0, "params", to=[99]),
    "state in words": _set("optimizer", "state", to={"x": {}}),
    "state of a ninth parameter": _set("optimizer", "state", 9, to={}),
    "a buffer of another shape": _set(
        "optimizer", "state", 0, "momentum_buffer", to=torch.zeros(7)
    ),
    "a buffer of words": _set("optimizer", "state", 0, "momentum_buffer", to="x"),
    "no average": _set("ema", to={"updates": 1}),
    "an average of another shape": _set("ema", "average", "0.weight", to=torch.zeros(1)),
    "updates in words": _set("ema", "updates", to="many"),
}  # fmt: skip


@pytest.mark.parametrize("change", HOSTILE.values(), ids=HOSTILE)
def test_what_no_run_saves_is_refused(
    tmp_path: Path, change: Callable[[dict[str, Any]], None]
) -> None:
    run = make_run(tmp_path)
    save(run)
    state = checkpoint.load(run.folder.last)
    change(state)
    checkpoint.save(run.folder.last, state)
    before = torch.get_rng_state()
    with pytest.raises(InputError) as caught:
        restore(make_run(tmp_path))
    said = str(caught.value)
    assert said.startswith((f"{run.folder.last}: ", "data: ")) and "\n" not in said
    assert len(said) < 600
    torch.set_rng_state(before)


def test_what_a_run_saves_is_put_back(tmp_path: Path) -> None:
    run = make_run(tmp_path)
    run.task.asked = 3  # type: ignore[attr-defined]
    run.progress.best = float("nan")
    save(run)
    drawn = torch.rand(3)
    other = make_run(tmp_path)
    other.progress = Progress()
    restore(other)
    assert torch.equal(torch.rand(3), drawn)
    assert other.task.asked == 3  # type: ignore[attr-defined]
    assert (other.progress.iteration, other.progress.seconds) == (2, 12.5)
