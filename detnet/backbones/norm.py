"""The normalisation a backbone is built with: frozen, plain or synchronised batch norm."""

from collections.abc import Callable
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.errors import InputError

NormKind = Literal["frozen", "batch", "sync"]


def make_norm(kind: NormKind) -> Callable[[int], nn.Module]:
    """Gives what builds the normalisation of a layer from its number of channels.

    Args:
        kind: "frozen" keeps statistics and scale as loaded, for fine-tuning with few images per
            process; "batch" normalises each process's batch by itself; "sync" normalises over the
            batches of all processes, for training from scratch.

    Raises:
        InputError: `kind` is none of these.
    """
    layers: dict[str, Callable[[int], nn.Module]] = {
        "frozen": FrozenNorm,
        "batch": nn.BatchNorm2d,
        "sync": SyncBatchNorm,
    }
    if kind not in layers:
        raise InputError(f"norm must be one of {', '.join(layers)}, got {kind!r}")
    return layers[kind]


def set_momentum(model: nn.Module, momentum: float) -> None:
    """Sets the share of a new batch in the running statistics of all batch norms of a model.

    Args:
        momentum: in (0, 1]; torch's layers begin with 0.1. Frozen norms have none.
    """
    for module in model.modules():
        if isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.momentum = momentum


class FrozenNorm(FrozenBatchNorm2d):
    """torchvision's frozen batch norm, which keeps half-precision input in half precision.

    torchvision's own multiplies by fp32 scales, so that under autocast every layer after it would
    get fp32 and half of the memory traffic saved would be lost.
    """

    def forward(self, x: Tensor) -> Tensor:
        return nn.functional.batch_norm(
            x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps
        )


class SyncBatchNorm(nn.BatchNorm2d):
    """Batch norm over the batches of all processes, on CPU (gloo) as well as on CUDA.

    In evaluation and in a single process it is plain batch norm, on CUDA it runs torch's own
    `nn.SyncBatchNorm`; what is computed here is several processes on CPU, which torch's layer
    refuses. So does `DistributedDataParallel` by that layer's type, whence another base class.
    Processes may hold batches of different sizes, even empty ones. Statistics are fp32 for
    half-precision input.
    """

    process_group = None  # all processes; torch's layer looks for it

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
        if not (self.training and dist.is_available() and dist.is_initialized()):
            return False
        return dist.get_world_size() > 1

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
