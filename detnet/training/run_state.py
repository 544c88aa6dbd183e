"""A run between two steps: what it consists of, its checkpoint, and what it writes down."""

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import nn

from detnet.engine import checkpoint, distributed
from detnet.engine.distributed import Process
from detnet.engine.optim import Ema
from detnet.engine.precision import choose_precision
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.kinds import MISTAKES
from detnet.training.plan import Plan
from detnet.training.run_checks import require_average, require_optimizer, require_parts
from detnet.training.run_config import RunConfig
from detnet.training.task import Task

OnEvent = Callable[[dict[str, Any]], None]


@dataclass
class Progress:
    """Where a run stands beyond its weights: the best score so far and how long ago it was."""

    iteration: int = 0
    best: float | None = None
    best_iteration: int = 0
    worse_in_a_row: int = 0
    seconds: float = 0.0  # of training so far, evaluation included, over all sessions
    stopped_early: bool = False


@dataclass
class Run:
    """All that the loop hands around."""

    config: RunConfig
    folder: RunFolder
    process: Process
    task: Task
    plan: Plan
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    on_event: OnEvent
    progress: Progress = field(default_factory=Progress)

    @property
    def autocast(self) -> torch.dtype | None:
        return choose_precision(self.config.precision, self.process.device)

    @property
    def buffers_differ(self) -> bool:
        """Whether processes hold other statistics: plain batch norm follows its own batches."""
        plain = any(type(layer) is nn.BatchNorm2d for layer in self.model.modules())
        return plain and self.process.world_size > 1


def share_buffers(run: Run) -> None:
    """Gives every process the main one's statistics, as the saved model has them."""
    if not run.buffers_differ:
        return
    averages = run.ema.model_state() if run.ema else {}
    for name, buffer in run.model.named_buffers():
        torch.distributed.broadcast(buffer, src=0)
        if name in averages:
            torch.distributed.broadcast(averages[name], src=0)


def save(run: Run) -> None:
    """Writes everything that a resumed run needs."""
    share_buffers(run)
    states = distributed.all_gather(checkpoint.rng_state())
    tasks = distributed.all_gather(run.task.state())
    if run.process.main:
        state = {
            "model": run.model.state_dict(),
            "optimizer": run.optimizer.state_dict(),
            "ema": run.ema.state_dict() if run.ema else None,
            "progress": vars(run.progress),
            "rng": states,
            "data": run.task.source.fingerprint,
            "task": tasks,
        }
        checkpoint.save(run.folder.last, state)
    distributed.barrier()


def restore(run: Run) -> None:
    """Puts the state of the last checkpoint back; without one the run begins anew.

    Raises:
        InputError: the checkpoint is damaged, of other settings, data or number of processes.
    """
    if not run.folder.last.exists():
        if run.process.main:
            run.folder.cut_metrics(0)
        run.on_event({"event": "note", "text": "no checkpoint yet: the run begins anew"})
        return
    state = checkpoint.load(run.folder.last)
    try:
        require_parts(state, Progress)
    except InputError as error:
        raise InputError(f"{run.folder.last}: not a checkpoint of ours: {error}") from error
    source = run.task.source
    if state["data"] != source.fingerprint:
        raise InputError(
            f"{source.path}: not the {source.records} that {run.folder.path} began with"
        )
    if len(state["rng"]) != run.process.world_size:
        raise InputError(
            f"{run.folder.last}: written by {len(state['rng'])} processes, resumed by "
            f"{run.process.world_size}; start as many"
        )
    try:
        require_optimizer(state["optimizer"], run.optimizer)
        require_average(state["ema"], run.model, run.ema)
        run.model.load_state_dict(state["model"])
        run.optimizer.load_state_dict(state["optimizer"])
        if run.ema:
            run.ema.load_state_dict(state["ema"])
    except MISTAKES as error:
        reason = " ".join(str(error).split())[:200]
        raise InputError(
            f"{run.folder.last}: does not fit the settings in {run.folder.config} ({reason})"
        ) from error
    run.progress = Progress(**state["progress"])
    try:
        checkpoint.restore_rng_state(state["rng"][run.process.rank])
        if "task" in state:  # version 0.1 had none
            run.task.restore(state["task"][run.process.rank])
    except MISTAKES as error:
        reason = " ".join(str(error).split())[:200] or type(error).__name__
        raise InputError(
            f"{run.folder.last}: its random state or that of its data is damaged ({reason})"
        ) from error
    if run.process.main:
        run.folder.cut_metrics(run.progress.iteration)


def log(run: Run, board: Any, event: dict[str, Any]) -> None:
    if not run.process.main:
        return
    run.folder.log(event)
    if board is not None:
        for name, value in event.items():
            if isinstance(value, int | float) and name != "iteration":
                board.add_scalar(f"{event['event']}/{name}", value, event["iteration"])


@contextlib.contextmanager
def tensorboard(run: Run) -> Iterator[Any]:
    if not (run.config.tensorboard and run.process.main):
        yield None
        return
    from torch.utils.tensorboard import SummaryWriter

    with SummaryWriter(str(run.folder.path / "tensorboard")) as writer:
        yield writer
