"""What processes share in a forward pass: batch norm's statistics, counts that losses go by."""

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on CPU (gloo) as well as on CUDA.

    In evaluation and in a single process it is plain batch norm. Torch's `nn.SyncBatchNorm` refuses
    the CPU, as `DistributedDataParallel` there refuses that layer by its type; on CUDA its host
    waits for the device three times a layer, and tells of no values in the input's type, of
    some in fp32. Processes may hold batches of different sizes, even empty ones. Statistics are
    fp32 for half-precision input.
    """

    def forward(self, input: Tensor) -> Tensor:
        self._check_input_dim(input)
        if not self._synchronised():
            return super().forward(input)
        if input.device.type != "cpu":
            return self._by_kernels(input)
        output, mean, variance, count = _SyncNorm.apply(input, self.weight, self.bias, self.eps)
        if self.running_mean is not None:
            self._update_running(mean, variance, count)
        return output

    def _synchronised(self) -> bool:
        return self.training and _processes() > 1

    def _by_kernels(self, input: Tensor) -> Tensor:
        running = self.running_mean, self.running_var, self._counted()
        output: Tensor = _FusedSyncNorm.apply(input, self.weight, self.bias, *running, self.eps)
        return output

    def _counted(self) -> float:
        """Counts a batch, and gives its share in the running statistics."""
        if self.num_batches_tracked is None:
            return 0.0
        self.num_batches_tracked.add_(1)
        return 1 / float(self.num_batches_tracked) if self.momentum is None else self.momentum

    @torch.no_grad()
    def _update_running(self, mean: Tensor, variance: Tensor, count: Tensor) -> None:
        assert self.running_mean is not None and self.running_var is not None
        momentum = self._counted()
        unbiased = variance * (count / (count - 1).clamp(min=1))
        self.running_mean.lerp_(mean.to(self.running_mean.dtype), momentum)
        self.running_var.lerp_(unbiased.to(self.running_var.dtype), momentum)


def ready_for_compilers() -> None:
    """Readies synchronised norms for torch.compile, at the same point on all processes.

    On GPUs they stay as they are, between what is compiled: statistics that are changed in place
    and what is exchanged are nothing to be traced there. On processors they are traced whole if the
    group that they talk in is there before.
    """
    layer: Any = SyncBatchNorm
    layer._by_kernels = torch.compiler.disable(layer._by_kernels)
    if _processes() > 1:
        _own_group()


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


class _FusedSyncNorm(torch.autograd.Function):
    """The same by the kernels that torch has on GPUs for its own layer; the host waits for none."""

    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        weight: Tensor | None,
        bias: Tensor | None,
        running_mean: Tensor | None,
        running_var: Tensor | None,
        momentum: float,
        eps: float,
    ) -> Tensor:
        x, channels = _dense(x), x.shape[1]
        if x.numel():
            mean, inverse_std = torch.batch_norm_stats(x, eps)
        else:
            mean = x.new_zeros(channels, dtype=_statistics_type(x))
            inverse_std = torch.ones_like(mean)
        count = mean.new_full((1,), x.numel() // channels or _NONE)
        mine = torch.cat([mean, inverse_std, count])
        all_of_them = mine.repeat(dist.get_world_size())
        dist.all_gather_into_tensor(all_of_them, mine, group=_own_group())
        table = all_of_them.reshape(-1, len(mine))
        means, inverse_stds, counts = table.split([channels, channels, 1], dim=1)
        mean, inverse_std = torch.batch_norm_gather_stats_with_counts(
            x, means, inverse_stds, running_mean, running_var, momentum, eps, counts.reshape(-1)
        )
        ctx.save_for_backward(x, weight, mean, inverse_std, counts.to(torch.int32))
        if not x.numel():
            return torch.empty_like(x)
        return torch.batch_norm_elemt(x, weight, bias, mean, inverse_std, eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor) -> tuple[Tensor | None, ...]:
        x, weight, mean, inverse_std, counts = ctx.saved_tensors
        grad, channels = _dense(grad_output), x.shape[1]
        sums = torch.zeros_like(mean).repeat(2)
        wanted = ctx.needs_input_grad[1:3]
        # Weight and bias keep this process's share, as above.
        shares = [torch.zeros_like(mean) if each else None for each in wanted]
        if x.numel():
            *both, grad_weight, grad_bias = torch.batch_norm_backward_reduce(
                grad, x, mean, inverse_std, weight, True, *wanted
            )
            sums, shares = torch.cat(both), [grad_weight, grad_bias]
        dist.all_reduce(sums, group=_own_group())
        if not x.numel():
            return grad, *shares, None, None, None, None
        grad_sum, grad_dot = sums.split(channels)
        grad_x = torch.batch_norm_backward_elemt(
            grad, x, mean, inverse_std, weight, grad_sum, grad_dot, counts
        )
        return grad_x, *shares, None, None, None, None


_NONE = 1e-30  # values, where there are none: the kernel divides by how many came so far


def _dense(x: Tensor) -> Tensor:
    return x if x.is_contiguous(memory_format=torch.channels_last) else x.contiguous()


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
