"""The training loop: yields after each step and leaves the rest to its caller's `for`."""

import math
import os
import signal
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import islice
from types import FrameType, TracebackType
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.engine.checkpoint import restore_rng_state, rng_state
from detnet.engine.distributed import all_gather, any_process
from detnet.engine.machine import autocast_to
from detnet.engine.optim import Ema, Schedule

__all__ = ["Batch", "Interrupt", "NonFiniteLoss", "Step", "to_device", "train_steps"]

# Images of one size may come as one tensor (N, C, H, W).
Batch = tuple[list[Tensor] | Tensor, list[dict[str, Any]]]


@dataclass(frozen=True)
class Step:
    """What one step did; losses are means over all processes and accumulated batches.

    Args:
        iteration: steps taken so far, this one included: what a checkpoint made now resumes from.
        lr: of the optimizer's first group.
        images: of all processes and accumulated batches together.
        data_s: seconds this process waited for its images.
        grad_norm: L2 norm of the whole gradient before clipping.
    """

    iteration: int
    losses: dict[str, float]
    total: float
    lr: float
    images: int
    data_s: float
    step_s: float
    grad_norm: float


class NonFiniteLoss(RuntimeError):
    """A loss or the gradient became NaN or infinite.

    The optimizer has not taken the step: weights, buffers, momentum and random numbers are those
    after the iteration before, on every process, so a checkpoint of `iteration - 1` may be saved.

    Args:
        losses: of the first batch at fault.
        image_ids: of the batches at fault on all processes; where only the gradient is not
            finite, of all batches of the step.
    """

    def __init__(self, iteration: int, losses: dict[str, float], image_ids: list[int]) -> None:
        self.iteration, self.losses, self.image_ids = iteration, losses, image_ids
        bad = [f"{name} is {value}" for name, value in losses.items() if not math.isfinite(value)]
        rest = [f"{name} {value:.4g}" for name, value in losses.items() if math.isfinite(value)]
        what = ", ".join(bad) or "the gradient is not finite, the losses are"
        super().__init__(
            f"iteration {iteration}: {what}" + (f" ({', '.join(rest)})" if rest else "") + "; "
            f"images {', '.join(map(str, image_ids))}; stopped before the step"
        )


class Interrupt:
    """Turns SIGTERM and Ctrl-C into the flag `set`, so that a run ends between two steps.

    Enter it before the data loader starts its workers: they inherit its calm, and a signal to the
    whole process group does not end them first. A second Ctrl-C, two seconds later or more, is
    Python's own KeyboardInterrupt (torchrun repeats the first one at once). Outside the main
    thread, where Python allows no handlers, the flag can only be set by hand.
    """

    patience_s = 2.0

    def __init__(self) -> None:
        self.set = False
        self.signal: str | None = None
        self._process = os.getpid()
        self._since = 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interrupt":
        if threading.current_thread() is threading.main_thread():
            for number in (signal.SIGTERM, signal.SIGINT):
                self._install(number, self._handle)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for number, handler in self._before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
        self._before.clear()

    def _install(self, number: int, handler: Any) -> None:
        self._before[number] = signal.signal(number, handler)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a worker of the data loader: the main process tells it when to end
        now = time.monotonic()
        if not self.set:
            self.set, self.signal, self._since = True, signal.Signals(number).name, now
            # A SIGTERM to the group ends the workers too. torch would raise at their death
            # wherever this process is, in the middle of a step; the next batch tells soon enough.
            if hasattr(signal, "SIGCHLD"):
                self._install(signal.SIGCHLD, signal.SIG_DFL)
        elif number == signal.SIGINT and now - self._since >= self.patience_s:
            raise KeyboardInterrupt


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
) -> Iterator[Step]:
    """Trains from step `start` to step `iterations`, yielding after each.

    Between two steps everything a checkpoint needs is at rest. The model is put into train mode
    before each step, so the caller may evaluate in between.

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

    Raises:
        NonFiniteLoss: on all processes, before the optimizer takes the bad step.
        ValueError: `batches` ended too soon.
    """
    source = iter(batches)
    parameters = [p for group in optimizer.param_groups for p in group["params"]]
    last_good = _LastGood(model)
    for iteration in range(start + 1, iterations + 1):
        began = time.perf_counter()
        group = _fetch(source, accumulate, interrupt)
        if interrupt is not None and any_process(interrupt.set):
            interrupt.set = True
            return
        if len(group) < accumulate:
            raise ValueError(f"the batches ended before step {iteration} of {iterations}")
        fetched = time.perf_counter()
        lr = _set_lr(optimizer, schedule.factor(iteration - 1))
        last_good.keep()
        optimizer.zero_grad(set_to_none=True)
        model.train()
        if prepare is not None:
            prepare(iteration - 1)
        losses = _backward(model, group, device, autocast)
        norm = nn.utils.get_total_norm([p.grad for p in parameters if p.grad is not None])
        means, grad_norm, images = _report(losses, norm, sum(len(batch[0]) for batch in group))
        if not all(math.isfinite(value) for value in (*means.values(), grad_norm)):
            last_good.put_back()
            optimizer.zero_grad(set_to_none=True)
            raise _failure(iteration, group, losses)
        if clip_norm:
            nn.utils.clip_grads_with_norm_(parameters, clip_norm, norm)
        optimizer.step()
        if ema is not None:
            ema.update()
        ended = time.perf_counter()
        total = sum(means.values())
        waited, worked = fetched - began, ended - fetched
        yield Step(iteration, means, total, lr, images, waited, worked, grad_norm)


class _LastGood:
    """What a forward pass changes besides its result: buffers (batch norm's) and random numbers."""

    def __init__(self, model: nn.Module) -> None:
        self._model = model
        self._copies: list[Tensor] = []
        self._rng: dict[str, Any] = {}

    @torch.no_grad()
    def keep(self) -> None:
        buffers = list(self._model.buffers())
        if len(self._copies) != len(buffers):
            self._copies = [buffer.clone() for buffer in buffers]
        elif buffers:
            torch._foreach_copy_(self._copies, buffers)
        self._rng = rng_state()

    @torch.no_grad()
    def put_back(self) -> None:
        for buffer, copy in zip(self._model.buffers(), self._copies, strict=True):
            buffer.copy_(copy)
        restore_rng_state(self._rng)


def _fetch(source: Iterator[Batch], count: int, interrupt: Interrupt | None) -> list[Batch]:
    """The next batches, or fewer when there are no more or a signal ended the loader's workers."""
    try:
        return list(islice(source, count))
    except Exception:  # a dead worker shows as RuntimeError, EOFError, ConnectionResetError, …
        if interrupt is None:
            raise
        time.sleep(0.2)  # the signal that ended a worker may reach this process after it
        if not interrupt.set:
            raise
        return []


def _set_lr(optimizer: torch.optim.Optimizer, factor: float) -> float:
    for group in optimizer.param_groups:
        group["lr"] = group.setdefault("initial_lr", group["lr"]) * factor
    return optimizer.param_groups[0]["lr"]


def _backward(
    model: nn.Module, group: list[Batch], device: torch.device, autocast: torch.dtype | None
) -> list[dict[str, Tensor]]:
    """Adds the batches' mean gradient to the parameters; the losses of each, on the device."""
    found = []
    for number, batch in enumerate(group, 1):
        images, targets = to_device(batch, device)
        with _without_sync(model) if number < len(group) else nullcontext():
            with autocast_to(device, autocast):
                losses = model(images, targets)
            total = torch.stack(list(losses.values())).sum()
            (total / len(group) if len(group) > 1 else total).backward()
        found.append({name: loss.detach() for name, loss in losses.items()})
    return found


def to_device(batch: Batch, device: torch.device) -> Batch:
    """The batch with its images and its targets' tensors on the device."""
    images: list[Tensor] | Tensor
    if isinstance(batch[0], Tensor):
        images = batch[0].to(device, non_blocking=True)
    else:
        images = [image.to(device, non_blocking=True) for image in batch[0]]
    targets = [
        {
            name: value.to(device, non_blocking=True) if isinstance(value, Tensor) else value
            for name, value in target.items()
        }
        for target in batch[1]
    ]
    return images, targets


def _without_sync(model: nn.Module) -> AbstractContextManager[None]:
    """Processes exchange gradients once a step, with the last of the accumulated batches."""
    return model.no_sync() if isinstance(model, DistributedDataParallel) else nullcontext()


def _report(
    losses: list[dict[str, Tensor]], norm: Tensor, images: int
) -> tuple[dict[str, float], float, int]:
    """Mean losses, gradient norm and number of images over all processes.

    Anything not finite on one process is not finite in the sums that all of them see, so all stop
    together. The device is read once a step, here.
    """
    names = list(losses[0])
    local = torch.stack([torch.stack([batch[name] for name in names]) for batch in losses]).mean(0)
    report = torch.cat([local.float(), norm.detach().float().reshape(1)])
    if not (dist.is_available() and dist.is_initialized()):
        *means, grad_norm = report.tolist()
        return dict(zip(names, means, strict=True)), grad_norm, images
    count = torch.full((1,), float(images), device=report.device)
    summed = torch.cat([report / dist.get_world_size(), count])
    dist.all_reduce(summed)
    *means, grad_norm, all_images = summed.tolist()
    return dict(zip(names, means, strict=True)), grad_norm, round(all_images)


def _failure(iteration: int, group: list[Batch], losses: list[dict[str, Tensor]]) -> NonFiniteLoss:
    """Gathers from all processes which batches are at fault."""
    mine = []
    for batch, found in zip(group, losses, strict=True):
        values = {name: float(loss) for name, loss in found.items()}
        ids = [int(target["image_id"]) for target in batch[1] if "image_id" in target]
        mine.append((values, ids))
    everything = [entry for process in all_gather(mine) for entry in process]
    bad = [entry for entry in everything if not all(map(math.isfinite, entry[0].values()))]
    guilty = bad or everything
    return NonFiniteLoss(iteration, guilty[0][0], [image for _, ids in guilty for image in ids])
