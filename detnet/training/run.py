"""Carries a training out, of whatever kind: it can be interrupted and resumed to the same bits."""

import contextlib
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from detnet.engine import distributed
from detnet.engine.distributed import Process
from detnet.engine.interrupt import Interrupt
from detnet.engine.loop import train_steps
from detnet.engine.machine import precision_name
from detnet.engine.memory import explaining_out_of_memory
from detnet.engine.parallel import explaining_single_values, in_parallel
from detnet.engine.processor import keep_freed_memory
from detnet.engine.watch import NonFiniteLoss, Step
from detnet.errors import InputError
from detnet.training.prepare import prepare
from detnet.training.run_config import RunConfig
from detnet.training.run_state import (
    OnEvent,
    Run,
    log,
    restore,
    save,
    share_buffers,
    tensorboard,
)
from detnet.training.settings import with_plugins
from detnet.training.task import Task

_LONGEST_S = 300  # between checkpoints of one process


def run_task(task: Task, output: Path, *, resume: bool, on_event: OnEvent) -> bool:
    """Starts a run in a new folder, or goes on with the one there.

    Args:
        task: with the run's settings, its own where it is resumed.
        output: the folder, which must hold no run unless it is resumed.
        on_event: called with each event: "note", "start", "progress" (a step), "evaluation", "end".

    Returns:
        True when the run is complete, False when it was interrupted and can be resumed.

    Raises:
        InputError: what was given cannot be used.
        NonFiniteLoss: after saving the last good state.
        LostProcess: another process has ended before its time.
    """
    task.config = with_plugins(task.config)
    keep_freed_memory()
    device = None if task.config.device == "auto" else task.config.device
    on_event = on_event if distributed.is_main() else _say_nothing

    def heard(name: str) -> None:
        what = "what is under way, a step or an evaluation, is finished and saved; then it ends"
        on_event({"event": "note", "text": f"{name} heard: {what}"})

    # In this order: torchrun's SIGTERM, when it has lost a process, leaves time to say which.
    with (
        Interrupt(heard) as interrupt,
        distributed.joined(device) as process,
        explaining_out_of_memory(process.device, lambda: _smaller(task.config, process)),
        explaining_single_values(process, task.config.batch_size),
    ):
        run = prepare(task, output, process, resume=resume, on_event=on_event)
        try:
            if resume:
                restore(run)
            return _train(run, interrupt)
        finally:
            run.folder.unlock()


def _say_nothing(event: dict[str, Any]) -> None:
    """Of several processes the main one talks to the user."""


def _smaller(config: RunConfig, process: Process) -> str:
    """What takes less memory than these settings, for a message."""
    at_once = config.batch_of(process.world_size)
    told = f"{at_once} images were computed at once"
    if at_once % 2 == 0:
        told += f": accumulate {2 * config.accumulate} takes half as many for the same step"
    return f"{told}; a smaller batch_size, smaller images or bf16 take less, too"


def _train(run: Run, interrupt: Interrupt) -> bool:
    """Takes the steps that are left, and finishes the run after the last one."""
    if run.left:
        _announce(run)
        steps = _steps(run, interrupt)
        clock = time.perf_counter()
        with tensorboard(run) as board:
            for step in _guarded(run, steps):
                _after_step(run, step, board)
                now = time.perf_counter()
                run.progress.seconds += now - clock
                clock = now
                if _is_due(run, step.iteration) or step.iteration == run.overdue:
                    save(run)
                if run.progress.stopped_early:
                    break
        # Only a signal, which all processes agree on, ends the steps before their time.
        if run.left:
            save(run)
            return False
    _finish(run)
    distributed.barrier()  # for all of them the run is complete when its files are there
    return True


def _steps(run: Run, interrupt: Interrupt) -> Iterator[Step]:
    config, schedule, start = run.config, run.schedule, run.progress.iteration
    batches = run.task.stream(
        start=start * config.accumulate, stop=schedule.total * config.accumulate
    )
    return train_steps(
        in_parallel(
            run.model,
            run.process,
            partial=run.task.partial,
            buffers_differ=run.buffers_differ,
        ),
        batches,
        run.optimizer,
        schedule.lr,
        start=start,
        iterations=schedule.total,
        device=run.process.device,
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
        autocast=run.autocast,
        ema=run.ema,
        interrupt=interrupt,
        prepare=partial(run.task.before_step, run.model),
        settled=config.norm_settled * schedule.total,
        rests=partial(_rests, run),
        scale=run.scale,
    )


def _is_due(run: Run, iteration: int) -> bool:
    """Whether the run is evaluated or saved after a step."""
    return iteration in run.schedule.evaluations or not iteration % run.config.checkpoint_every


def _rests(run: Run, iteration: int) -> bool:
    """Whether something is done after a step that needs all of it at rest.

    Where steps take long a checkpoint is made by the clock, too. Several processes have clocks of
    their own, and go by the steps alone.
    """
    late = time.monotonic() - run.saved > _LONGEST_S and run.process.world_size == 1
    if late:
        run.overdue = iteration
    return late or _is_due(run, iteration)


def _after_step(run: Run, step: Step, board: Any) -> None:
    """Tells of a step and, where it is due, evaluates."""
    run.progress.iteration = step.iteration
    event = _step_event(step, run.schedule.per_epoch)
    if step.iteration % run.config.log_every == 0 or step.iteration == run.schedule.total:
        log(run, board, event)
        for text in run.task.new_notes():
            log(run, None, {"event": "note", "iteration": step.iteration, "text": text})
            run.on_event({"event": "note", "text": text})
    run.on_event({**event, "event": "progress"})
    if step.iteration in run.schedule.evaluations and run.task.data.val_images:
        evaluate_and_keep(run, board)


def evaluate_and_keep(run: Run, board: Any) -> None:
    """Scores the model as it is now, and keeps model and scores if they are the best so far."""
    began = time.perf_counter()
    share_buffers(run)
    with run.ema.applied() if run.ema else contextlib.nullcontext():
        measured = run.task.evaluate(run.model, run.autocast)
    better = run.progress.note_score(
        measured.scores[run.config.best_metric], patience=run.config.patience
    )
    if better and run.process.main:
        run.task.save_model(run.folder.best, run.model, run.ema.model_state() if run.ema else None)
        measured.write(run.folder.evaluation)
    event = {
        "event": "evaluation",
        "iteration": run.progress.iteration,
        "epoch": run.progress.iteration / run.schedule.per_epoch,
        **measured.scores,
        "best": better,
        "seconds": time.perf_counter() - began,
    }
    log(run, board, event)
    run.on_event(event)


def _guarded(run: Run, steps: Iterator[Step]) -> Iterator[Step]:
    """Passes steps on; when one cannot be taken, keeps the state before it."""
    try:
        yield from steps
    except NonFiniteLoss as error:
        save(run)
        names = run.task.names_of(error.image_ids)
        log(run, None, {"event": "failure", "iteration": error.iteration, "images": names})
        run.on_event({"event": "note", "text": f"images of the batch: {', '.join(names)}"})
        raise
    except InputError:  # an image that cannot be read; other processes cannot be asked to save now
        if run.process.world_size == 1:
            save(run)
        raise


def _finish(run: Run) -> None:
    """Writes the final weights and says how it went; once, also after a kill at the very end."""
    if not run.process.main:
        return
    progress = run.progress
    event = {
        "event": "end",
        "iteration": progress.iteration,
        "seconds": progress.seconds,
        "best": progress.best,
        "best_iteration": progress.best_iteration,
        "stopped_early": progress.stopped_early,
    }
    if run.folder.end() is not None:
        text = f"{run.folder.path} is complete at iteration {progress.iteration}; "
        text += f"to train on, begin a run with --weights {run.folder.path}"
        run.on_event({"event": "note", "text": text})
        return
    run.task.save_model(run.folder.model, run.model, run.ema.model_state() if run.ema else None)
    log(run, None, event)
    run.on_event(event)


def _step_event(step: Step, per_epoch: int) -> dict[str, Any]:
    return {
        "event": "step",
        "iteration": step.iteration,
        "epoch": step.iteration / per_epoch,
        "loss": step.total,
        **step.losses,
        "lr": step.lr,
        "grad_norm": step.grad_norm,
        "images_per_s": step.images / max(1e-9, step.data_s + step.step_s),
        "data_s": step.data_s,
        "step_s": step.step_s,
    }


def _announce(run: Run) -> None:
    run.on_event(
        {
            "event": "start",
            "iteration": run.progress.iteration,
            "iterations": run.schedule.total,
            "per_epoch": run.schedule.per_epoch,
            "images": run.task.data.images,
            "val_images": run.task.data.val_images,
            "device": str(run.process.device),
            "processes": run.process.world_size,
            "precision": precision_name(run.autocast),
            "params": sum(p.numel() for p in run.model.parameters()),
            "folder": str(run.folder.path),
        }
    )
