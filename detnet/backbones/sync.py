"""What processes share in a forward pass: batch norm's statistics, counts that losses go by."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on CPU (gloo) as well as on CUDA.

    In evaluation and in a single process it is plain batch norm, on CUDA it runs torch's own
    `nn.SyncBatchNorm`; what is computed here is several processes on CPU, which torch's layer
    refuses. So does `DistributedDataParallel` by that layer's type, whence another base class.
    Processes may hold batches of different sizes, even empty ones. Statistics are fp32 for
    half-precision input.
    """

    @property
    def process_group(self) -> Any:
        """All processes; torch's layer asks for it."""
        return _own_group()

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self._synchronised():
            return super().forward(input)
        if input.device.type != "cpu":
            return nn.SyncBatchNorm.forward(self, input)  # type: ignore[arg-type]
        output, mean, variance, count = _SyncNorm.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            self._update_running(mean, variance, count)
        return output

    def _synchronised(self) -> bool:
        return self.training and _processes() > 1

    _check_non_zero_input_channels = nn.SyncBatchNorm._check_non_zero_input_channels

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        assert self.num_batches_tracked is not None
        self.num_batches_tracked.add_(1)
        momentum = self.momentum
        if momentum is None:
            momentum = 1.0 / float(self.num_batches_tracked)
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


class _SyncNorm(torch.autograd.Function):
    """Normalises by the statistics of all processes; the gradient flows through those, too."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor | None, bias: Tensor | None, eps: float
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        values = x.to(_statistics_type(x))
        mean, variance, count = _global_statistics(values)
        inverse_std = torch.rsqrt(variance + eps)
        scale = inverse_std if weight is None else inverse_std * weight
        shift = -mean * scale if bias is None else bias - mean * scale
        output = torch.addcmul(_per_channel(shift, x), values, _per_channel(scale, x)).to(x.dtype)
        ctx.save_for_backward(x, weight, mean, inverse_std, count)
        ctx.has_bias = bias is not None
        ctx.mark_non_differentiable(mean, variance, count)
        return output, mean, variance, count

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std, count = ctx.saved_tensors
        dtype = _statistics_type(x)
        grad = grad_output.to(dtype)
        normalised = (x.to(dtype) - _per_channel(mean, x)) * _per_channel(inverse_std, x)
        axes = _all_but_channels(x)
        grad_sum = grad.sum(axes)
        grad_dot = (grad * normalised).sum(axes)

        # Weight and bias keep this process's share: data parallelism adds those up by itself.
        grad_weight = None if weight is None else grad_dot.to(weight.dtype)
        grad_bias = grad_sum.to(mean.dtype) if ctx.has_bias else None

        sums = torch.stack([grad_sum, grad_dot])
        dist.all_reduce(sums, group=_own_group())
        mean_grad, mean_dot = (sums / count).unbind(0)
        scale = inverse_std if weight is None else inverse_std * weight
        grad_x = grad - _per_channel(mean_grad, x) - normalised * _per_channel(mean_dot, x)
        return (grad_x * _per_channel(scale, x)).to(x.dtype), grad_weight, grad_bias, None


def _global_statistics(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and biased variance per channel, (C,), and the number of values behind them, scalar.

    The processes exchange means and squared distances to them, not sums of squares, which would
    cancel for channels whose mean is large beside their spread.
    """
    axes = _all_but_channels(values)
    count = values.new_tensor(values.numel() // values.shape[1])
    mean = values.sum(axes) / count.clamp(min=1)
    spread = (values - _per_channel(mean, values)).square().sum(axes)

    mine = torch.cat([mean, spread, count.reshape(1)])
    parts = [torch.empty_like(mine) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, mine, group=_own_group())
    table = torch.stack(parts)
    channels = values.shape[1]
    means, spreads, counts = table[:, :channels], table[:, channels:-1], table[:, -1:]

    total = counts.sum().clamp(min=1)
    global_mean = (means * counts).sum(0) / total
    between = ((means - global_mean).square() * counts).sum(0)
    return global_mean, (spreads.sum(0) + between) / total, total


def share_of_count(count: Tensor) -> Tensor:
    """What a process divides its losses by, so that the processes' mean is right for all images.

    Divided by what each of them counts for itself, the few objects of one would weigh as much as
    the many of another. Where nothing is learned, and of a single process, it is its own count.

    Args:
        count: scalar, what this process has found in its batch.

    Returns:
        scalar, the mean over all processes, of 1 in all at least.
    """
    count = count.float()
    processes = _processes() if torch.is_grad_enabled() else 1
    if processes > 1:
        dist.all_reduce(count, group=_own_group())
    return count.clamp(min=1) / processes


def _processes() -> int:
    return dist.get_world_size() if dist.is_available() and dist.is_initialized() else 1


_groups: dict[str, Any] = {}


def _own_group() -> Any:
    """All processes, in a group apart from the one in which gradients are exchanged.

    Those are sent whenever they are ready, which may be before a layer's sums on one process and
    after them on another, whose images have no boxes.
    """
    world = dist.group.WORLD
    if _groups.get("world") is not world:
        _groups.update(world=world, own=dist.new_group())
    return _groups["own"]


def _statistics_type(x: Tensor) -> torch.dtype:
    return torch.float64 if x.dtype == torch.float64 else torch.float32


def _all_but_channels(x: Tensor) -> list[int]:
    return [0, *range(2, x.ndim)]


def _per_channel(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1 for _ in range(like.ndim - 2)))
