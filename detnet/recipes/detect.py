"""Trains a detector: one function that can be interrupted and resumed to the same bits."""

import contextlib
import math
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn.parallel import DistributedDataParallel

from detnet.data.loaders import stream
from detnet.detectors.files import save_model
from detnet.engine import distributed
from detnet.engine.distributed import Process
from detnet.engine.loop import Interrupt, NonFiniteLoss, Step, train_steps
from detnet.engine.memory import keep_freed_memory
from detnet.engine.optim import Ema, Schedule, scaled_lr, sgd
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.recipes.config import TrainConfig, read_config, write_config
from detnet.recipes.evaluate import HEADLINE, evaluate_model, validation_losses, write_scores
from detnet.recipes.material import (
    MASK_DETECTORS,
    load_material,
    make_batches,
    make_dataset,
    make_model,
)
from detnet.recipes.run_state import Run, Watch, log, restore, save, tensorboard


def train(config: TrainConfig, output: Path, *, watch: Watch) -> bool:
    """Starts a run in a new folder.

    Args:
        config: its settings.
        output: the folder, which must hold no run.
        watch: called with each event: "note", "start", "step", "evaluation", "end".

    Returns:
        True when the run is complete, False when it was interrupted and can be resumed.

    Raises:
        InputError: what was given cannot be used.
        NonFiniteLoss: after saving the last good state.
    """
    return _train(config, output, resume=False, watch=watch)


def resume(output: Path, *, watch: Watch) -> bool:
    """Goes on with the run in a folder, to the same bits as if it had never stopped."""
    config = read_config(RunFolder.open(output).config)
    return _train(config, output, resume=True, watch=watch)


def _train(config: TrainConfig, output: Path, *, resume: bool, watch: Watch) -> bool:
    keep_freed_memory()
    device = None if config.device == "auto" else config.device
    process = distributed.setup(device)
    try:
        with Interrupt() as interrupt:
            run = _prepare(config, output, process, resume=resume, watch=watch)
            return _loop(run, interrupt)
    finally:
        distributed.cleanup()


def _prepare(
    config: TrainConfig, output: Path, process: Process, *, resume: bool, watch: Watch
) -> Run:
    """Reads the data and builds everything before the folder is made: a mistake leaves no run."""
    quiet: Watch = lambda event: None  # noqa: E731  other processes have nothing to say
    watch = watch if process.main else quiet
    torch.manual_seed(config.seed)
    _require_metric(config)
    material = load_material(config)
    batches = make_batches(config, material.train, process)
    model, notes = make_model(config, material.train.categories)
    model.to(process.device).to(memory_format=torch.channels_last)
    for note in [*material.notes, *notes, _lr_note(config)]:
        watch({"event": "note", "text": note})
    optimizer = sgd(
        model,
        lr=_lr(config),
        momentum=config.momentum,
        weight_decay=config.weight_decay,
    )
    ema = Ema(model, config.ema) if config.ema else None
    folder = RunFolder.open(output) if resume else _new_folder(config, output, process)
    run = Run(config, folder, process, material, batches, model, optimizer, ema, watch)
    # The samplers draw from the global generator: each process its own stream.
    torch.manual_seed(int(np.random.SeedSequence((config.seed, process.rank)).generate_state(1)[0]))
    if resume:
        restore(run)
    return run


def _require_metric(config: TrainConfig) -> None:
    """Refuses a metric that no evaluation will have, before the first hours."""
    known = [*HEADLINE]
    if config.detector in MASK_DETECTORS:
        known += [f"segm_{name}" for name in HEADLINE]
    if config.best_metric not in known:
        raise InputError(
            f"best_metric must be one of {', '.join(known)}, got {config.best_metric!r}"
        )


def _new_folder(config: TrainConfig, output: Path, process: Process) -> RunFolder:
    if process.main:
        folder = RunFolder.create(output)
        write_config(config, folder.config)
        folder.write_environment()
    distributed.barrier()
    return RunFolder.open(output)


def _loop(run: Run, interrupt: Interrupt) -> bool:
    config, process = run.config, run.process
    per_epoch = max(1, len(run.batches) // config.accumulate)
    total = _iterations(config, per_epoch)
    evaluations = _due(total, max(1, round(config.evaluate_every * per_epoch)))
    start = run.progress.iteration
    if start >= total or run.progress.stopped_early:
        run.watch({"event": "note", "text": f"{run.folder.path} is complete at iteration {start}"})
        return True
    _announce(run, start, total, per_epoch)
    source = stream(
        make_dataset(config, run.material.train),
        run.batches,
        start_iteration=start * config.accumulate,
        iterations=total * config.accumulate,
        workers=config.workers,
        pin_memory=process.device.type == "cuda",
    )
    steps = train_steps(
        _wrapped(run),
        source,
        run.optimizer,
        _schedule(config, total),
        start=start,
        iterations=total,
        device=process.device,
        accumulate=config.accumulate,
        clip_norm=config.clip_norm,
        autocast=run.autocast,
        ema=run.ema,
        interrupt=interrupt,
    )
    with tensorboard(run) as board:
        clock = time.perf_counter()
        for step in _guarded(run, steps):
            run.progress.iteration = step.iteration
            if step.iteration % config.log_every == 0 or step.iteration == total:
                log(run, board, _step_event(step, per_epoch))
            run.watch({**_step_event(step, per_epoch), "event": "progress"})
            if step.iteration in evaluations:
                _evaluate(run, board, per_epoch)
            now = time.perf_counter()
            run.progress.seconds += now - clock
            clock = now
            due = step.iteration % config.checkpoint_every == 0
            if due or step.iteration in evaluations or step.iteration == total:
                save(run)
            if run.progress.stopped_early:
                break
    if interrupt.set:
        save(run)
        return False
    _finish(run)
    return True


def _guarded(run: Run, steps: Iterator[Step]) -> Iterator[Step]:
    """Passes steps on; when a loss is not finite, keeps the state before it."""
    try:
        yield from steps
    except NonFiniteLoss as error:
        save(run)
        ids = ", ".join(map(str, error.image_ids))
        log(run, None, {"event": "failure", "iteration": error.iteration, "images": ids})
        raise


def _evaluate(run: Run, board: Any, per_epoch: int) -> None:
    """Scores the model as it is now and keeps it if it is the best so far."""
    val, config, progress = run.material.val, run.config, run.progress
    if val is None:
        return
    began = time.perf_counter()
    with run.ema.applied() if run.ema else contextlib.nullcontext():
        scores = evaluate_model(
            run.model, val, process=run.process, autocast=run.autocast, workers=config.workers
        )
        losses = {}
        if config.val_loss:
            losses = validation_losses(
                run.model,
                val,
                config.batch_size // run.process.world_size,
                process=run.process,
                autocast=run.autocast,
                workers=config.workers,
                seed=config.seed,
            )
    score = scores.headline[config.best_metric]
    better = score is not None and (progress.best is None or score > progress.best)
    if better:
        progress.best, progress.best_iteration, progress.worse_in_a_row = (
            score,
            progress.iteration,
            0,
        )
        if run.process.main:
            save_model(run.folder.best, run.model, run.ema.model_state() if run.ema else None)
            write_scores(scores, run.folder.evaluation)
    else:
        progress.worse_in_a_row += 1
    progress.stopped_early = 0 < config.patience <= progress.worse_in_a_row
    event = {
        "event": "evaluation",
        "iteration": progress.iteration,
        "epoch": progress.iteration / per_epoch,
        **scores.headline,
        **{f"val_{name}": value for name, value in losses.items()},
        "best": better,
        "seconds": time.perf_counter() - began,
    }
    log(run, board, event)
    run.watch(event)


def _finish(run: Run) -> None:
    """Writes the final weights and says how it went."""
    if not run.process.main:
        return
    save_model(run.folder.model, run.model, run.ema.model_state() if run.ema else None)
    progress = run.progress
    event = {
        "event": "end",
        "iteration": progress.iteration,
        "seconds": progress.seconds,
        "best": progress.best,
        "best_iteration": progress.best_iteration,
        "stopped_early": progress.stopped_early,
    }
    log(run, None, event)
    run.watch(event)


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


def _announce(run: Run, start: int, total: int, per_epoch: int) -> None:
    run.watch(
        {
            "event": "start",
            "iteration": start,
            "iterations": total,
            "per_epoch": per_epoch,
            "images": len(run.material.train),
            "val_images": len(run.material.val) if run.material.val else 0,
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
    # Plain batch norm follows each process's own batches; the main one's statistics are kept.
    follow = any(type(layer) is nn.BatchNorm2d for layer in run.model.modules())
    return DistributedDataParallel(run.model, device_ids=devices, broadcast_buffers=follow)


def _schedule(config: TrainConfig, total: int) -> Schedule:
    steps = {round(step * total) if step < 1 else int(step) for step in config.steps}
    return Schedule(
        total,
        kind=config.schedule,
        steps=tuple(sorted(steps)) if config.schedule == "step" else (),
        warmup_iterations=config.warmup_iterations,
        warmup=config.warmup,
        warmup_factor=config.warmup_factor,
    )


def _iterations(config: TrainConfig, per_epoch: int) -> int:
    length = config.length
    return (
        math.ceil(length["epochs"] * per_epoch) if "epochs" in length else int(length["iterations"])
    )


def _due(total: int, every: int) -> set[int]:
    """After which iterations to evaluate: regularly, and at the end."""
    return {*range(every, total + 1, every), total}


def _lr(config: TrainConfig) -> float:
    if not config.lr_batch:
        return config.lr
    return scaled_lr(config.lr, base_batch=config.lr_batch, batch=config.batch_size)


def _lr_note(config: TrainConfig) -> str:
    lr = _lr(config)
    if lr == config.lr:
        return f"learning rate {lr:g}"
    scaling = f"{config.lr:g} for {config.lr_batch} images, scaled to {config.batch_size}"
    return f"learning rate {lr:g}: {scaling}"
