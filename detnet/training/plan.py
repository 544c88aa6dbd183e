"""The course of a run, worked out from its settings before anything is trained."""

import math
from dataclasses import dataclass

from detnet.engine.optim import Schedule, scaled_lr
from detnet.training.run_config import RunConfig


@dataclass(frozen=True)
class Plan:
    """When what happens.

    Args:
        per_epoch: steps that go once over the training images.
        total: steps of the run.
        evaluations: the steps after which the model is evaluated, the last among them.
        schedule: of the learning rate.
    """

    per_epoch: int
    total: int
    evaluations: frozenset[int]
    schedule: Schedule


def make_plan(config: RunConfig, batches_per_epoch: int) -> Plan:
    """Turns epochs and fractions into steps.

    Args:
        batches_per_epoch: of one process, `accumulate` of which make a step.
    """
    per_epoch = max(1, batches_per_epoch // config.accumulate)
    length = config.length
    total = int(length.get("iterations", 0)) or math.ceil(length["epochs"] * per_epoch)
    every = max(1, round(config.evaluate_every * per_epoch))
    steps = {round(step * total) if step < 1 else int(step) for step in config.steps}
    schedule = Schedule(
        total,
        kind=config.schedule,
        steps=tuple(sorted(steps)) if config.schedule == "step" else (),
        warmup_iterations=config.warmup_iterations,
        warmup=config.warmup,
        warmup_factor=config.warmup_factor,
    )
    return Plan(per_epoch, total, frozenset({*range(every, total + 1, every), total}), schedule)


def learning_rate(config: RunConfig) -> tuple[float, str]:
    """The base learning rate of the run, and a line that says where it comes from."""
    if not config.lr_batch or config.lr_batch == config.batch_size:
        return config.lr, f"learning rate {config.lr:g}"
    lr = scaled_lr(config.lr, base_batch=config.lr_batch, batch=config.batch_size)
    origin = f"{config.lr:g} for {config.lr_batch} images, scaled to {config.batch_size}"
    return lr, f"learning rate {lr:g}: {origin}"
