"""Prepares a training: reads and builds all before its folder is made, so a mistake leaves none."""

import random
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from detnet.backbones.norm import set_momentum
from detnet.backbones.sync import ready_for_compilers
from detnet.engine import distributed
from detnet.engine.agreement import require_same, require_shared
from detnet.engine.distributed import Process
from detnet.engine.machine import (
    choose_precision,
    compile_network,
    configure_cuda,
    is_accelerator,
)
from detnet.engine.optim import Ema, sgd
from detnet.engine.processor import widen_single_columns
from detnet.engine.runs import RunFolder
from detnet.engine.scale import LossScale
from detnet.errors import InputError
from detnet.training.plan import check_memory
from detnet.training.run_config import RunConfig
from detnet.training.run_state import OnEvent, Run
from detnet.training.settings import RECORDED, write_config
from detnet.training.task import RunData, Task, learning_rate, training_schedule, unreached


def prepare(task: Task, output: Path, process: Process, *, resume: bool, on_event: OnEvent) -> Run:
    """Reads the data and builds everything, and then makes the folder or opens the one there.

    What a checkpoint holds is not restored yet.

    Args:
        task, output, resume, on_event: as `detnet.training.run.run_task` takes them.
        process: one of those that train together.

    Raises:
        InputError: what was given cannot be used.
    """
    begins = not resume or not RunFolder.open(output).last.exists()
    if not resume and process.main:
        RunFolder.require_none(output)
    notes = task.resolve(load_weights=begins)
    require_same("settings", _common(task.config))
    task.read_data(process)
    _check_data(task.data, process)
    notes += check_memory(task.config, process)
    torch.manual_seed(task.config.seed)
    model, more = task.make_model()
    config = _with_threads(task.config)
    schedule = training_schedule(config, task.batches_per_epoch)
    if config.norm_momentum is not None:
        set_momentum(model, config.norm_momentum)
    model.to(process.device).to(memory_format=torch.channels_last)
    configure_cuda(process.device, tf32=config.tf32, fixed_size=task.fixed_size)
    if config.compile:
        if task.partial:
            raise InputError("compile: a supernet computes another path in each step")
        ready_for_compilers()
        compile_network(getattr(model, "backbone", model))
    lr, origin = learning_rate(config)
    for note in [*task.data.notes, *notes, *more, origin, *unreached(config, schedule)]:
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
        fused=is_accelerator(process.device),
    )
    ema = Ema(model, config.ema) if config.ema else None
    precision = choose_precision(config.precision, process.device)
    if precision is torch.bfloat16 and process.device.type == "cpu":
        widen_single_columns(model)
    scale = LossScale(process.device) if precision is torch.float16 else None
    folder = _old_folder(output, process) if resume else _new_folder(config, output, process)
    run = Run(config, folder, process, task, schedule, model, optimizer, ema, on_event, scale)
    # Models draw from the global generators in training: each process its own streams.
    own = int(np.random.SeedSequence((config.seed, process.rank)).generate_state(1)[0])
    for seed in (torch.manual_seed, np.random.seed, random.seed):
        seed(own)
    if process.main:
        folder.lock()
    return run


def _common(config: RunConfig) -> dict[str, Any]:
    """The settings that must be the same on all machines."""
    own = (*config.places(), *RECORDED, "threads", "workers")
    return {name: value for name, value in vars(config).items() if name not in own}


def _check_data(data: RunData, process: Process) -> None:
    require_same(
        f"data at {data.path}",
        {
            f"{data.records} by their fingerprint": data.fingerprint,
            "classes": data.classes,
            "images": data.images,
            "images to evaluate on": data.val_images,
            "fingerprint of those": data.val_fingerprint,
        },
    )
    if data.images < process.world_size:
        raise InputError(
            f"{data.path}: has {data.images} images to train on, for {process.world_size} "
            f"processes; start {data.images} at most"
        )


def _with_threads(config: RunConfig) -> RunConfig:
    """Settles how many threads compute: other numbers add up in another order, to other bits."""
    torch.set_num_threads(config.threads or torch.get_num_threads())
    return replace(config, threads=torch.get_num_threads())


def _old_folder(output: Path, process: Process) -> RunFolder:
    require_shared(output, process)
    return RunFolder.open(output)


def _new_folder(config: RunConfig, output: Path, process: Process) -> RunFolder:
    if process.main:
        RunFolder.create(output)
    require_shared(output, process)
    folder = RunFolder(output)
    if process.main:
        folder.write_environment()
        write_config(config, folder.config)  # by which it is known, last
    distributed.barrier()
    return folder
