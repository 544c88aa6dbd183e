"""The training loop: yields after each step and leaves the rest to its caller's `for`."""

import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from itertools import islice
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.engine.distributed import several
from detnet.engine.interrupt import Interrupt
from detnet.engine.machine import autocast_to
from detnet.engine.optim import Ema, Schedule
from detnet.engine.scale import LossScale
from detnet.engine.watch import Step, StepWatch

# Images of one size may come as one tensor (N, C, H, W).
Batch = tuple[list[Tensor] | Tensor, list[dict[str, Any]]]


def train_steps(
    model: nn.Module,
    batches: Iterable[Batch],
    optimizer: torch.optim.Optimizer,
    schedule: Schedule,
    *,
    start: int,
    iterations: int,
    device: torch.device,
    accumulate: int = 1,
    clip_norm: float = 0.0,
    autocast: torch.dtype | None = None,
    ema: Ema | None = None,
    interrupt: Interrupt | None = None,
    prepare: Callable[[int], None] | None = None,
    settled: float = float("inf"),
    rests: Callable[[int], bool] = lambda iteration: True,
    ahead: int | None = None,
    scale: LossScale | None = None,
) -> Iterator[Step]:
    """Trains from step `start` to step `iterations`, yielding each.

    When a step after which the loop `rests` is yielded, everything a checkpoint needs is at rest.
    The model is put into train mode before each step, so the caller may evaluate there.

    Args:
        model: in train mode maps (images, targets) to a dict of scalar fp32 losses, the same
            names on each call and process; bare or in `DistributedDataParallel`.
        batches: (images, targets), targets with their `image_id`; from batch
            `start * accumulate` of the run on, and enough of them.
        start: steps already taken.
        accumulate: batches whose mean gradient makes one step.
        clip_norm: largest L2 norm of the whole gradient; 0 leaves it alone.
        autocast: type of the forward pass's matrix products; None keeps fp32.
        ema: averages the bare model's weights after each step.
        interrupt: ends the iteration early, on all processes after the same step, once its flag
            is set on one of them; the flag is then set on all.
        prepare: called before each step with the number of steps taken until then; what it changes
            of the model must follow from that number alone.
        settled: steps after which batch norms normalise by their running statistics, as at
            evaluation, and keep them; their scales and shifts are trained on.
        rests: whether the host waits for the device after the step of that number. Steps in
            between are yielded later than they are taken, and only these keep an accelerator busy.
        ahead: how many steps later at most; None is for the device to say, see `StepWatch`.
        scale: of the losses, for fp16; needs a fused optimizer.

    Raises:
        NonFiniteLoss: on all processes, before the optimizer takes the bad step.
        ValueError: `batches` ended too soon.
    """
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    watch = StepWatch(model, optimizer, ema, device, ahead=ahead, scale=scale)
    # Of several processes none may end before the others know, which takes as many steps.
    source = _Source(batches, accumulate, interrupt, ahead=watch.ahead + 1 if several() else 0)
    for iteration in range(start + 1, iterations + 1):
        began = time.perf_counter()
        try:
            group = source.next()
        except Exception:
            yield from watch.tell(rest=True)  # what was taken can be saved
            raise
        if watch.ending or (source.interrupted and not several()):
            break
        if len(group) < accumulate:
            raise ValueError(f"the batches ended before step {iteration} of {iterations}")
        fetched = time.perf_counter()
        _set_lr(optimizer, schedule.factor(iteration - 1))
        watch.keep()
        optimizer.zero_grad(set_to_none=True)
        _train_mode(model, keep_statistics=iteration - 1 >= settled)
        if prepare is not None:
            prepare(iteration - 1)
        losses = _backward(model, group, device, autocast, scale)
        gradients = [p.grad for p in parameters if p.grad is not None]
        if scale is not None:
            scale.remove(gradients)
        norm = nn.utils.get_total_norm(gradients)
        images, targets = sum(len(batch[0]) for batch in group), [batch[1] for batch in group]
        watch.note(iteration, losses, norm, targets, images, source.interrupted)
        if clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        optimizer.step()
        if ema is not None:
            ema.update(watch.held)
        watch.time(fetched - began, time.perf_counter() - fetched)
        yield from watch.tell(rest=rests(iteration) or iteration == iterations)
    yield from watch.tell(rest=True)
    if watch.ending and interrupt is not None:
        interrupt.set = True


class _Source:
    """Deals the batches out by steps, some of them ahead of time.

    Args:
        count: batches of a step.
        ahead: steps whose batches are at hand besides the next one's.
    """

    def __init__(
        self, batches: Iterable[Batch], count: int, interrupt: Interrupt | None, *, ahead: int
    ) -> None:
        self._batches = iter(batches)
        self._count, self._ahead, self._interrupt = count, ahead, interrupt
        self._ready: deque[list[Batch]] = deque()

    @property
    def interrupted(self) -> bool:
        return self._interrupt is not None and self._interrupt.set

    def next(self) -> list[Batch]:
        """The next step's batches, or fewer when no more are left or a signal ended the workers."""
        while len(self._ready) <= self._ahead:
            self._ready.append(self._fetch())
        return self._ready.popleft()

    def _fetch(self) -> list[Batch]:
        try:
            return list(islice(self._batches, self._count))
        except Exception:  # a dead worker shows as RuntimeError, EOFError, ConnectionResetError, …
            if self._interrupt is None:
                raise
            time.sleep(0.2)  # the signal that ended a worker may reach this process after it
            if not self._interrupt.set:
                raise
            return []


def _train_mode(model: nn.Module, *, keep_statistics: bool) -> None:
    model.train()
    if keep_statistics:
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def _set_lr(optimizer: torch.optim.Optimizer, factor: float) -> None:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor


def _backward(
    model: nn.Module,
    group: list[Batch],
    device: torch.device,
    autocast: torch.dtype | None,
    scale: LossScale | None,
) -> list[dict[str, Tensor]]:
    """Adds the batches' mean gradient to the parameters; the losses of each, on the device."""
    found = []
    for number, batch in enumerate(group, 1):
        images, targets = to_device(batch, device)
        with _without_sync(model) if number < len(group) else nullcontext():
            with autocast_to(device, autocast):
                losses = model(images, targets)
            total = torch.stack(list(losses.values())).sum()
            total = total / len(group) if len(group) > 1 else total
            (total if scale is None else total * scale.factor).backward()
        found.append({name: loss.detach() for name, loss in losses.items()})
    return found


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its images and what its targets have to move on the device."""
    images: list[Tensor] | Tensor
    if isinstance(batch[0], Tensor):
        images = batch[0].to(device, non_blocking=True)
    else:
        images = [image.to(device, non_blocking=True) for image in batch[0]]
    targets = [
        {
            name: value.to(device, non_blocking=True) if hasattr(value, "to") else value
            for name, value in target.items()
        }
        for target in batch[1]
    ]
    return images, targets


def _without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Processes exchange gradients once a step, with the last of the accumulated batches."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()
