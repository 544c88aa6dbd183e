"""A run between two steps: what it consists of, its checkpoint, and what it writes down."""

import contextlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import zip_longest
from typing import Any, get_type_hints

import torch
from torch import Tensor, nn

from detnet.engine import checkpoint, distributed
from detnet.engine.distributed import Process
from detnet.engine.machine import choose_precision
from detnet.engine.optim import Ema
from detnet.engine.runs import RunFolder
from detnet.engine.scale import LossScale
from detnet.errors import InputError
from detnet.kinds import MISTAKES, of_kind, say_kind
from detnet.text import one_line
from detnet.training.run_config import RunConfig
from detnet.training.task import Task, TrainingSchedule

_PARTS: dict[str, Any] = {
    "model": dict[str, Any],
    "optimizer": dict[str, Any],
    "ema": dict[str, Any] | None,
    "scale": dict[str, Any] | None,
    "progress": dict[str, Any],
    "rng": list[dict[str, Any]],
    "data": str,
    "classes": list[str],
    "val": str,
    "task": list[dict[str, Any]],
}


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

    def note_score(self, score: float | None, *, patience: int) -> bool:
        """Takes an evaluation's score in, and says whether it is the best so far.

        Args:
            patience: evaluations without a better one before the run stops early; 0 for never.
        """
        better = score is not None and (self.best is None or score > self.best)
        if score is None and self.best is None:
            return False  # there is nothing to score on, and nothing gets worse
        if better:
            self.best, self.best_iteration, self.worse_in_a_row = score, self.iteration, 0
        else:
            self.worse_in_a_row += 1
        self.stopped_early = 0 < patience <= self.worse_in_a_row
        return better


@dataclass
class Run:
    """All that a training consists of."""

    config: RunConfig
    folder: RunFolder
    process: Process
    task: Task
    schedule: TrainingSchedule
    model: nn.Module
    optimizer: torch.optim.Optimizer
    ema: Ema | None
    on_event: OnEvent
    scale: LossScale | None = None
    progress: Progress = field(default_factory=Progress)
    saved: float = field(default_factory=time.monotonic)  # when
    overdue: int = 0  # the step after which it is saved because that was long ago

    @property
    def left(self) -> bool:
        """Whether there are steps to take."""
        return self.progress.iteration < self.schedule.total and not self.progress.stopped_early

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
            "scale": run.scale.state() if run.scale else None,
            "progress": vars(run.progress),
            "rng": states,
            "data": run.task.data.fingerprint,
            "classes": [*run.task.data.classes],
            "val": run.task.data.val_fingerprint,
            "task": tasks,
        }
        checkpoint.save(run.folder.last, state)
    run.saved = time.monotonic()
    distributed.barrier()


def restore(run: Run) -> None:
    """Puts the state of the last checkpoint back; without one the run begins again.

    Raises:
        InputError: the checkpoint is damaged, of other settings, data or number of processes.
    """
    if not run.folder.last.exists():
        if run.process.main:
            run.folder.cut_metrics(0)
        run.on_event({"event": "note", "text": "no checkpoint yet: the run begins again"})
        return
    data = run.task.data
    later = {"classes": [*data.classes], "val": data.val_fingerprint}  # than the first versions
    state = {**later, **checkpoint.load(run.folder.last)}
    try:
        _require_parts(state, Progress)
    except InputError as error:
        raise InputError(f"{run.folder.last}: not a checkpoint of ours: {error}") from error
    if state["data"] != data.fingerprint:
        raise InputError(f"{data.path}: not the {data.records} that {run.folder.path} began with")
    for label, (was, now) in enumerate(zip_longest(state["classes"], data.classes), start=1):
        if was != now:
            raise InputError(
                f"{data.path}: class {label} is {now!r}, but {run.folder.path} began with {was!r}; "
                "put the data's classes back as they were"
            )
    if len(state["rng"]) != run.process.world_size:
        raise InputError(
            f"{run.folder.last}: written by {len(state['rng'])} processes, resumed by "
            f"{run.process.world_size}; start as many"
        )
    try:
        _require_optimizer(state["optimizer"], run.optimizer)
        _require_average(state["ema"], run.model, run.ema)
        run.model.load_state_dict(state["model"])
        groups = run.optimizer.param_groups  # of the settings and the device as they are now
        run.optimizer.load_state_dict(state["optimizer"])
        run.optimizer.param_groups = groups
        if run.ema:
            run.ema.load_state_dict(state["ema"])
        if run.scale:
            run.scale.load_state(state["scale"])
    except MISTAKES as error:
        reason = one_line(error, 300)
        raise InputError(
            f"{run.folder.last}: does not fit the settings in {run.folder.config} ({reason})"
        ) from error
    run.progress = Progress(**state["progress"])
    if run.left and run.folder.end() is not None:
        raise InputError(
            f"{run.folder.path}: ended at iteration {run.progress.iteration}, its settings now say "
            f"{run.schedule.total}; to train on, begin a run with --weights {run.folder.path}"
        )
    try:
        checkpoint.restore_rng_state(state["rng"][run.process.rank])
        run.task.restore(state["task"][run.process.rank])
    except MISTAKES as error:
        reason = one_line(error, 300)
        raise InputError(
            f"{run.folder.last}: its random state or that of its data is damaged ({reason})"
        ) from error
    if run.process.main:
        run.folder.cut_metrics(run.progress.iteration)
    if run.left and data.val_fingerprint not in (state["val"], ""):
        _choose_anew(run)


def _choose_anew(run: Run) -> None:
    """Forgets the best score and how long ago it was, which was on other validation data."""
    progress, records = run.progress, run.task.data.records
    progress.best, progress.best_iteration, progress.worse_in_a_row = None, 0, 0
    text = f"the {records} to evaluate on changed: the next evaluation begins a new best model"
    log(run, None, {"event": "note", "iteration": progress.iteration, "text": text})
    run.on_event({"event": "note", "text": text})


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

    # What a kill left of later steps would be drawn beside these.
    begin = run.progress.iteration + 1
    with SummaryWriter(str(run.folder.path / "tensorboard"), purge_step=begin) as writer:
        yield writer


def _require_parts(state: Mapping[str, Any], progress: type) -> None:
    """Refuses a checkpoint whose parts are not there or of other kinds.

    Args:
        progress: the dataclass that keeps where the run stands.

    Raises:
        InputError: naming the part, not the file.
    """
    for name, kind in _PARTS.items():
        if name not in state:
            raise InputError(f"it lacks {name!r}")
        _require(state[name], kind, name)
    if len(state["task"]) != len(state["rng"]):
        raise InputError("its 'task' and 'rng' are of different numbers of processes")
    fields = get_type_hints(progress)
    for name, value in state["progress"].items():
        if name not in fields:
            raise InputError(f"its progress has an unknown entry {str(name)[:40]!r}")
        if not (isinstance(value, float) and float in _members(fields[name])):  # NaN, too
            _require(value, fields[name], f"progress {name}")
        if isinstance(value, int) and value < 0:
            raise InputError(f"its progress {name} is {value}")


def _require_optimizer(state: Mapping[str, Any], optimizer: torch.optim.Optimizer) -> None:
    """Refuses an optimizer's state that would only fail in the next step.

    Raises:
        InputError: naming the entry.
    """
    own = optimizer.state_dict()["param_groups"]
    _require(state.get("param_groups"), list[dict[str, Any]], "optimizer's param_groups")
    _require(state.get("state"), dict[int, dict[str, Any]], "optimizer's state")
    if len(state["param_groups"]) != len(own):
        raise InputError(f"its optimizer has {len(state['param_groups'])} groups, not {len(own)}")
    for group, known in zip(state["param_groups"], own, strict=True):
        for name, value in known.items():
            kind = float if type(value) is int else type(value)
            if name not in ("params", "fused") and not of_kind(group.get(name), kind):
                raise InputError(f"its optimizer's {name} is {repr(group.get(name))[:40]}")
        if group.get("params") != known["params"]:
            raise InputError("its optimizer is of other parameters")
    parameters = [each for group in optimizer.param_groups for each in group["params"]]
    for index, entries in state["state"].items():
        if not 0 <= index < len(parameters):
            raise InputError(f"its optimizer's state has a parameter {index}")
        for name, value in entries.items():
            fits = isinstance(value, Tensor) and value.shape in (parameters[index].shape, ())
            if value is not None and not fits:
                raise InputError(f"its optimizer's {name} of parameter {index} does not fit it")


def _require_average(state: Any, model: nn.Module, ema: Ema | None) -> None:
    """Refuses averaged weights that are there without being asked for, lack, or do not fit.

    Raises:
        InputError: naming the weight.
    """
    if ema is None:
        return
    _require(state, dict[str, Any], "ema")
    _require(state.get("updates"), int, "ema's updates")
    _require(state.get("average"), dict[str, Any], "ema's average")
    for name, value in model.state_dict().items():
        given = state["average"].get(name)
        if not isinstance(given, Tensor) or given.shape != value.shape:
            raise InputError(f"its averaged {name} does not fit")


def _members(hint: Any) -> tuple[Any, ...]:
    return getattr(hint, "__args__", (hint,))


def _require(value: Any, kind: Any, name: str) -> None:
    if not of_kind(value, kind):
        raise InputError(f"its {name} must be {say_kind(kind)}, not {repr(value)[:40]}")
