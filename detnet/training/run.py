"""Carries a run out, of whatever kind: it can be interrupted and resumed to the same bits."""

import inspect
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detnet.backbones.norm import set_momentum
from detnet.engine import distributed
from detnet.engine.distributed import Process
from detnet.engine.loop import Interrupt, NonFiniteLoss, Step, train_steps
from detnet.engine.memory import keep_freed_memory
from detnet.engine.optim import Ema, sgd
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.plugins import load_plugins
from detnet.training.plan import Plan, learning_rate, make_plan
from detnet.training.run_config import RunConfig
from detnet.training.run_state import OnEvent, Run, log, restore, save, tensorboard
from detnet.training.selection import evaluate_and_keep
from detnet.training.settings import write_config
from detnet.training.task import Task


def run_task(
    config: RunConfig,
    output: Path,
    make_task: Callable[[Process], Task],
    *,
    resume: bool,
    on_event: OnEvent,
) -> bool:
    """Starts a run in a new folder, or goes on with the one there.

    Args:
        config: its settings; the run's own when resumed.
        output: the folder, which must hold no run unless it is resumed.
        make_task: reads the data, given this process's place.
        on_event: called with each event: "note", "start", "progress" (a step), "evaluation", "end".

    Returns:
        True when the run is complete, False when it was interrupted and can be resumed.

    Raises:
        InputError: what was given cannot be used.
        NonFiniteLoss: after saving the last good state.
    """
    load_plugins(config.plugins)
    keep_freed_memory()
    process = distributed.setup(None if config.device == "auto" else config.device)
    try:
        with Interrupt() as interrupt:
            run = _prepare(config, output, process, make_task, resume=resume, on_event=on_event)
            try:
                if resume:
                    restore(run)
                return _carry_out(run, interrupt)
            finally:
                run.folder.unlock()
    finally:
        distributed.cleanup()


def _prepare(
    config: RunConfig,
    output: Path,
    process: Process,
    make_task: Callable[[Process], Task],
    *,
    resume: bool,
    on_event: OnEvent,
) -> Run:
    """Reads the data and builds everything before the folder is made: a mistake leaves no run."""
    quiet: OnEvent = lambda event: None  # noqa: E731  other processes have nothing to say
    on_event = on_event if process.main else quiet
    torch.manual_seed(config.seed)
    task = make_task(process)
    plan = make_plan(config, task.batches_per_epoch)
    begins = not resume or not RunFolder.open(output).last.exists()
    model, notes = task.make_model(carry=begins)
    config = _with_threads(task.config)  # with what the weights decided
    if config.norm_momentum is not None:
        set_momentum(model, config.norm_momentum)
    model.to(process.device).to(memory_format=torch.channels_last)
    lr, origin = learning_rate(config)
    for note in [*task.source.notes, *notes, origin]:
        on_event({"event": "note", "text": note})
    optimizer = sgd(
        model,
        lr=lr,
        momentum=config.momentum,
        weight_decay=config.weight_decay,
        norm_weight_decay=config.norm_weight_decay,
        bias_weight_decay=config.bias_weight_decay,
        bias_lr_factor=config.bias_lr_factor,
        norm_shift=config.norm_shift,
    )
    ema = Ema(model, config.ema) if config.ema else None
    folder = RunFolder.open(output) if resume else _new_folder(config, output, process)
    run = Run(config, folder, process, task, plan, model, optimizer, ema, on_event)
    # Models draw from the global generators in training: each process its own streams.
    own = int(np.random.SeedSequence((config.seed, process.rank)).generate_state(1)[0])
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(own)
    if process.main:
        folder.lock()
    return run


def _with_threads(config: RunConfig) -> RunConfig:
    """Settles how many threads compute: other numbers add up in another order, to other bits."""
    if config.threads is None:
        return replace(config, threads=torch.get_num_threads())
    torch.set_num_threads(config.threads)
    return config


def _new_folder(config: RunConfig, output: Path, process: Process) -> RunFolder:
    if process.main:
        folder = RunFolder.create(output)
        write_config(config, folder.config)
        folder.write_environment()
    distributed.barrier()
    return RunFolder.open(output)


def _carry_out(run: Run, interrupt: Interrupt) -> bool:
    """Takes the steps that are left, and finishes the run after the last one."""
    total = run.plan.total
    if run.progress.iteration < total and not run.progress.stopped_early:
        _announce(run)
        _take_steps(run, interrupt)
        # Only a signal, which all processes agree on, ends the steps before their time.
        if run.progress.iteration < total and not run.progress.stopped_early:
            save(run)
            return False
    _finish(run)
    distributed.barrier()  # for all of them the run is complete when its files are there
    return True


def _take_steps(run: Run, interrupt: Interrupt) -> None:
    config, plan, start = run.config, run.plan, run.progress.iteration
    source = run.task.stream(start=start * config.accumulate, stop=plan.total * config.accumulate)
    steps = train_steps(
        _wrapped(run),
        source,
        run.optimizer,
        plan.schedule,
        start=start,
        iterations=plan.total,
        device=run.process.device,
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
        autocast=run.autocast,
        ema=run.ema,
        interrupt=interrupt,
        prepare=lambda iteration: run.task.prepare(run.model, iteration),
    )
    with tensorboard(run) as board:
        clock = time.perf_counter()
        for step in _guarded(run, steps):
            run.progress.iteration = step.iteration
            event = _step_event(step, plan)
            evaluated = step.iteration in plan.evaluations
            if step.iteration % config.log_every == 0 or step.iteration == plan.total:
                log(run, board, event)
                _look(run)
            run.on_event({**event, "event": "progress"})
            if evaluated:
                evaluate_and_keep(run, board)
            now = time.perf_counter()
            run.progress.seconds += now - clock
            clock = now
            if evaluated or step.iteration % config.checkpoint_every == 0:
                save(run)
            if run.progress.stopped_early:
                return


def _look(run: Run) -> None:
    """Passes on what the data have to say for themselves."""
    for text in run.task.look():
        log(run, None, {"event": "note", "iteration": run.progress.iteration, "text": text})
        run.on_event({"event": "note", "text": text})


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
        text = f"{run.folder.path} is complete at iteration {progress.iteration}"
        run.on_event({"event": "note", "text": text})
        return
    run.task.save_model(run.folder.model, run.model, run.ema.model_state() if run.ema else None)
    log(run, None, event)
    run.on_event(event)


def _step_event(step: Step, plan: Plan) -> dict[str, Any]:
    return {
        "event": "step",
        "iteration": step.iteration,
        "epoch": step.iteration / plan.per_epoch,
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
            "iterations": run.plan.total,
            "per_epoch": run.plan.per_epoch,
            "images": run.task.source.images,
            "val_images": run.task.source.val_images,
            "device": str(run.process.device),
            "processes": run.process.world_size,
            "precision": "bf16" if run.autocast else "fp32",
            "params": sum(p.numel() for p in run.model.parameters()),
            "folder": str(run.folder.path),
        }
    )


def _wrapped(run: Run) -> nn.Module:
    if run.process.world_size == 1:
        return run.model
    devices = [run.process.device.index] if run.process.device.type == "cuda" else None
    # Its name from torch 2.15 on; before, the one that is deprecated there.
    known = inspect.signature(DistributedDataParallel).parameters
    name = "forward_sync_buffers" if "forward_sync_buffers" in known else "broadcast_buffers"
    buffers: dict[str, Any] = {name: run.buffers_differ}
    return DistributedDataParallel(
        run.model, device_ids=devices, find_unused_parameters=run.task.partial, **buffers
    )
