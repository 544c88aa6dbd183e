"""What synchronised batch norm asks of a device, and only GPUs have kernels for."""

from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten


def _axes(values: Tensor) -> list[int]:
    return [0, *range(2, values.ndim)]


def _wide(values: Tensor, like: Tensor) -> Tensor:
    return values.reshape(1, -1, *(1 for _ in range(like.ndim - 2)))


def _stats(input: Tensor, eps: float) -> tuple[Tensor, Tensor]:
    values = input.float()
    variance, mean = torch.var_mean(values, _axes(input), correction=0)
    return mean, (variance + eps).rsqrt()


def _gather(
    input: Tensor,
    means: Tensor,
    inverse_stds: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    momentum: float,
    eps: float,
    counts: Tensor,
) -> tuple[Tensor, Tensor]:
    # One after another, by the number of values so far, as CUDA's kernel: 0 of 0 is NaN there, too.
    mean, squares, total = means.new_zeros(means.shape[1]), 0.0, 0
    for m, inverse_std, count in zip(means, inverse_stds, counts, strict=True):
        share = 1 / (total + count)
        apart = (mean - m).square() * total * count * share
        squares = squares + (inverse_std.square().reciprocal() - eps) * count + apart
        mean = total * share * mean + count * share * m
        total = int(total + count)
    if running_mean is not None and running_var is not None:
        running_mean.lerp_(mean, momentum)
        running_var.lerp_(squares / (total - 1), momentum)
    return mean, (squares / total + eps).rsqrt()


def _apply(
    input: Tensor,
    weight: Tensor | None,
    bias: Tensor | None,
    mean: Tensor,
    inverse_std: Tensor,
    eps: float,
) -> Tensor:
    output = (input.float() - _wide(mean, input)) * _wide(inverse_std, input)
    output = output if weight is None else output * _wide(weight, input)
    return (output if bias is None else output + _wide(bias, input)).to(input.dtype)


def _reduce(
    grad: Tensor, input: Tensor, mean: Tensor, inverse_std: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    values = grad.float()
    sums = values.sum(_axes(input))
    dots = (values * (input.float() - _wide(mean, input))).sum(_axes(input))
    return sums, dots, dots * inverse_std, sums


def _backward(
    grad: Tensor,
    input: Tensor,
    mean: Tensor,
    inverse_std: Tensor,
    weight: Tensor | None,
    sums: Tensor,
    dots: Tensor,
    count: Tensor,
) -> Tensor:
    total = count.sum()
    apart = input.float() - _wide(mean, input)
    along = _wide(dots / total * inverse_std.square(), input) * apart
    scale = inverse_std if weight is None else inverse_std * weight
    inner = grad.float() - _wide(sums / total, input) - along
    return (inner * _wide(scale, input)).to(input.dtype)


KERNELS = {
    aten.batch_norm_stats: _stats,
    aten.batch_norm_gather_stats_with_counts: _gather,
    aten.batch_norm_elemt: _apply,
    aten.batch_norm_backward_reduce: _reduce,
    aten.batch_norm_backward_elemt: _backward,
}
