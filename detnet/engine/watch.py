"""Which steps are taken: those with finite losses and gradient, decided where they are computed."""

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn

from detnet.engine.checkpoint import restore_rng_state, rng_state
from detnet.engine.distributed import all_gather, several
from detnet.engine.machine import is_accelerator
from detnet.engine.optim import Ema
from detnet.engine.scale import LossScale

AHEAD = 2  # steps that an accelerator is given before the host asks what came of the first
# A scaled loss finds its factor within a few; 2 to the power of these is beyond any gradient.
_MOST_SKIPPED = 60


@dataclass(frozen=True)
class Step:
    """What one step did; losses are means over all processes and accumulated batches.

    Args:
        iteration: steps taken so far, this one included: what a checkpoint made now resumes from.
        lr: of the optimizer's first group.
        images: of all processes and accumulated batches together.
        data_s: seconds this process waited for its images.
        step_s: seconds this process spent on the rest; on an accelerator, which works behind it,
            they add up to the true time over several steps.
        grad_norm: L2 norm of the whole gradient before clipping; not finite where a scaled loss
            was too large for fp16, and the step was skipped.
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


@dataclass
class _Taken:
    """A step that the host has not heard of yet."""

    iteration: int
    losses: list[dict[str, Tensor]]  # of each batch, on the device
    image_ids: list[list[int]]
    report: Tensor
    copied: Any  # an event, or None where the report is at hand
    rng: dict[str, Any]
    averaged: int  # steps in the moving average before it
    lr: float
    seconds: tuple[float, float] = (0.0, 0.0)


class StepWatch:
    """Keeps what is not finite from the weights, without the host waiting for the device.

    On a processor each step is looked at before it is taken. An accelerator is given up to `ahead`
    steps more: it finds out itself that one is not finite, from then on the optimizer changes
    nothing, and the host, which hears of it later, puts back what a forward pass changes besides
    its result.

    Args:
        model: in `DistributedDataParallel` or bare.
        optimizer: fused where `ahead` is not 0, so that it obeys `found_inf`.
        ema: of the bare model.
        ahead: None for `AHEAD` on an accelerator with a fused optimizer, else 0.
        scale: of the losses, in fp16; its skipped steps are no failure unless nothing else follows.

    Attributes:
        held: 1.0 on the device where the weights are to stay as they are, which is so from the
            first bad step on; or None where the host looks at each step first.
        ending: whether some process was interrupted, as all know of the same step.
    """

    def __init__(
        self,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        ema: Ema | None,
        device: torch.device,
        *,
        ahead: int | None = None,
        scale: LossScale | None = None,
    ) -> None:
        fused = bool(optimizer.defaults.get("fused"))
        self.ahead = (AHEAD if fused and is_accelerator(device) else 0) if ahead is None else ahead
        self.ending = False
        self.held = torch.zeros((), device=device) if self.ahead or scale else None
        optimizer.found_inf = self.held  # type: ignore[attr-defined]
        self._bad = torch.zeros((), device=device)  # from the first bad step on
        self._scale, self._skipped = scale, 0  # steps in a row
        self._optimizer = optimizer
        self._taken: deque[_Taken] = deque()
        self._checked = 0  # of those taken, from the oldest on
        buffers = [
            *model.buffers(),
            *(ema.buffers() if ema else ()),
            *(scale.state().values() if scale else ()),
        ]
        self._kept = _Buffers(buffers, self.ahead + 1)
        self._ema = ema
        self._before: tuple[dict[str, Any], int] = ({}, 0)
        if self.held is not None:
            _make_momentum(optimizer)

    def keep(self) -> None:
        """Copies before a step what its forward pass changes besides its result."""
        self._kept.keep()
        self._before = rng_state(), self._ema.updates if self._ema else 0

    def note(
        self,
        iteration: int,
        losses: list[dict[str, Tensor]],
        norm: Tensor,
        targets: Sequence[Sequence[dict[str, Any]]],
        images: int,
        interrupted: bool,
    ) -> None:
        """Takes in what a step computed, before the optimizer takes it.

        Args:
            losses: of each of its batches, on the device.
            norm: of the gradient.
            targets: of each batch, with their `image_id`.
            images: of this process.
            interrupted: whether this process is to end.

        Raises:
            NonFiniteLoss: on all processes, of the step of `ahead` steps ago.
        """
        report = _report(losses, norm, images, interrupted)
        if self.held is not None:
            self._hold(report)
        report, copied = _to_host(report)
        ids = [[int(each["image_id"]) for each in batch if "image_id" in each] for batch in targets]
        lr = self._optimizer.param_groups[0]["lr"]
        self._taken.append(_Taken(iteration, losses, ids, report, copied, *self._before, lr))
        self._check(leave=self.ahead)

    def _hold(self, report: Tensor) -> None:
        """Decides on the device whether the weights stay as they are."""
        assert self.held is not None
        odd = (~torch.isfinite(report)).float()
        *_, norm, _, _ = odd.unbind()
        torch.maximum(self._bad, odd[:-3].max() if self._scale else odd.max(), out=self._bad)
        torch.maximum(self._bad, norm, out=self.held)
        if self._scale:
            self._scale.update(norm)

    def time(self, waited: float, worked: float) -> None:
        """Notes what the last step took, in seconds."""
        self._taken[-1].seconds = waited, worked

    def tell(self, *, rest: bool) -> Iterator[Step]:
        """Yields the steps that are known to be good, in order.

        Args:
            rest: waits for all of them, so that everything is at rest afterwards.

        Raises:
            NonFiniteLoss: see `note`; the steps before it are yielded first.
        """
        while len(self._taken) > (0 if rest else self.ahead):
            self._check(leave=len(self._taken) - 1)
            self._checked -= 1
            yield _told(self._taken.popleft())

    def _check(self, *, leave: int) -> None:
        while self._checked < len(self._taken) - leave:
            taken = self._taken[self._checked]
            if taken.copied is not None:
                taken.copied.synchronize()
            *means, norm, _, interrupted = taken.report.tolist()
            self._skipped = 0 if math.isfinite(norm) else self._skipped + 1
            most = _MOST_SKIPPED if self._scale else 0
            if self._skipped > most or not all(map(math.isfinite, means)):
                self._put_back(taken)
                raise _failure(taken)
            self.ending = self.ending or bool(interrupted)
            self._checked += 1

    def _put_back(self, taken: _Taken) -> None:
        self._kept.put_back(len(self._taken) - 1 - self._checked)
        restore_rng_state(taken.rng)
        self._optimizer.zero_grad(set_to_none=True)
        if self._ema:
            self._ema.updates = taken.averaged


def _make_momentum(optimizer: torch.optim.Optimizer) -> None:
    """Begins with a momentum of zero.

    A fused optimizer that is held at its first step leaves what was in the memory (torch 2.15).
    """
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            state = optimizer.state[parameter]
            if group.get("momentum") and state.get("momentum_buffer") is None:
                state["momentum_buffer"] = torch.zeros_like(parameter)


class _Buffers:
    """Copies of buffers as they were before each of the last steps.

    Args:
        buffers: batch norm's and the like.
        depth: how many copies are kept.
    """

    def __init__(self, buffers: Sequence[Tensor], depth: int) -> None:
        # Tensors of one kind are copied in one launch.
        kinds: dict[torch.dtype, list[Tensor]] = {}
        for buffer in buffers:
            kinds.setdefault(buffer.dtype, []).append(buffer)
        self._kinds = list(kinds.values())
        self._copies = [
            [[buffer.clone() for buffer in kind] for kind in self._kinds] for _ in range(depth)
        ]
        self._last = 0

    @torch.no_grad()
    def keep(self) -> None:
        self._last = (self._last + 1) % len(self._copies)
        for copies, buffers in zip(self._copies[self._last], self._kinds, strict=True):
            torch._foreach_copy_(copies, buffers)

    @torch.no_grad()
    def put_back(self, steps: int) -> None:
        """Puts the buffers back that were kept so many steps before the last time."""
        copied = self._copies[(self._last - steps) % len(self._copies)]
        for copies, buffers in zip(copied, self._kinds, strict=True):
            torch._foreach_copy_(buffers, copies)


def _report(losses: list[dict[str, Tensor]], norm: Tensor, images: int, ends: bool) -> Tensor:
    """Mean losses, gradient norm, number of images and of interrupts over all processes.

    Anything not finite on one process is not finite in the sums that all of them see, so all stop
    together.
    """
    names = list(losses[0])
    local = torch.stack([torch.stack([batch[name] for name in names]) for batch in losses]).mean(0)
    report = torch.cat([local.float(), norm.detach().float().reshape(1)])
    # Filled in on the device: a number that is copied there waits for all that is under way.
    counts = [report.new_full((1,), float(count)) for count in (images, ends)]
    if not several():
        return torch.cat([report, *counts])
    report = torch.cat([report / dist.get_world_size(), *counts])
    dist.all_reduce(report)
    return report


def _to_host(report: Tensor) -> tuple[Tensor, Any]:
    """The report as it will be in memory, and the event after which it is; None for at once."""
    if report.device.type == "cpu":
        return report, None
    copy = report.to("cpu", non_blocking=True)
    event = torch.Event(report.device)
    event.record()
    return copy, event


def _told(taken: _Taken) -> Step:
    *means, grad_norm, images, _ = taken.report.tolist()
    losses = dict(zip(taken.losses[0], means, strict=True))
    total = sum(losses.values())
    return Step(taken.iteration, losses, total, taken.lr, round(images), *taken.seconds, grad_norm)


def _failure(taken: _Taken) -> NonFiniteLoss:
    """Gathers from all processes which batches are at fault."""
    mine = [
        ({name: float(loss) for name, loss in found.items()}, ids)
        for found, ids in zip(taken.losses, taken.image_ids, strict=True)
    ]
    everything = [entry for process in all_gather(mine) for entry in process]
    bad = [entry for entry in everything if not all(map(math.isfinite, entry[0].values()))]
    guilty = bad or everything
    image_ids = [image for _, ids in guilty for image in ids]
    return NonFiniteLoss(taken.iteration, guilty[0][0], image_ids)
