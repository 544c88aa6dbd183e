"""Depthwise convolution whose gradients cost on a CPU what the forward pass does."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

_TILE = 3  # the one kernel size for which oneDNN has a fast gradient of depthwise weights


class DepthwiseConv(nn.Conv2d):
    """One k×k filter for each channel, without bias, padded so that stride 1 keeps the size.

    On a CPU two of torch's gradients take 10 to 100 times the forward pass: that of the weights for
    kernels above 3×3, and that of the input at stride 2 in bf16. Both are computed in other ways
    here, to the same values. `benchmarks/depthwise.py` measures the ratio. A layer that is dilated
    later, as `hold_stride` does, takes torch's own.

    Args:
        channels: in and out.
        kernel_size: odd, pixels.
        stride: of both axes.
    """

    def __init__(self, channels: int, kernel_size: int, *, stride: int = 1) -> None:
        super().__init__(
            channels,
            channels,
            kernel_size,
            stride,
            kernel_size // 2,
            groups=channels,
            bias=False,
        )

    def forward(self, input: Tensor) -> Tensor:
        """Maps (N, channels, H, W) to (N, channels, H / stride, W / stride), rounded up."""
        if not self._trains_on_cpu(input):
            return super().forward(input)
        dtype = input.dtype
        if torch.is_autocast_enabled("cpu") and dtype != torch.float64:
            dtype = torch.get_autocast_dtype("cpu")
        if not self._slow_backward(dtype):
            return super().forward(input)
        output: Tensor = _Depthwise.apply(input.to(dtype), self.weight.to(dtype), self.stride[0])
        return output

    def _trains_on_cpu(self, input: Tensor) -> bool:
        if input.device.type != "cpu" or self.bias is not None or torch.compiler.is_compiling():
            return False  # a bias comes from a norm that was folded in for inference
        if self.dilation != (1, 1):
            return False
        return torch.is_grad_enabled() and (input.requires_grad or self.weight.requires_grad)

    def _slow_backward(self, dtype: torch.dtype) -> bool:
        if dtype == torch.bfloat16:
            return self.kernel_size[0] > _TILE or self.stride[0] > 1
        return dtype == torch.float32 and self.kernel_size[0] > _TILE


class _Depthwise(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        padding = weight.shape[-1] // 2
        return F.conv2d(x, weight, None, stride, padding, groups=x.shape[1])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, weight = ctx.saved_tensors
        layout = torch.contiguous_format if x.is_contiguous() else torch.channels_last
        grad = grad.contiguous(memory_format=layout)
        grad_x = grad_weight = None
        if ctx.needs_input_grad[0]:
            grad_x = _input_gradient(grad, x, weight, ctx.stride)
        if ctx.needs_input_grad[1]:
            grad_weight = _weight_gradient(grad, x, weight, ctx.stride, layout)
        return grad_x, grad_weight, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """torch's own; bf16 takes fp32's time at stride 1, and 25 to 90 times fp32's at stride 2."""
    dtype = x.dtype if stride == 1 else torch.promote_types(x.dtype, torch.float32)
    shape_only = x if dtype == x.dtype else torch.empty_like(x, dtype=dtype)  # its values are idle
    arguments = (grad.to(dtype), shape_only, weight.to(dtype))
    gradient = _gradients(*arguments, stride, weight.shape[-1] // 2, of_input=True)[0]
    return gradient.to(x.dtype)


def _weight_gradient(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, layout: torch.memory_format
) -> Tensor:
    """The kernel's gradient in tiles of 3×3, each that of a 3×3 convolution of a shifted input."""
    size = weight.shape[-1]
    if size == _TILE:
        return _gradients(grad, x, weight, stride, size // 2, of_input=False)[1]
    tiles = -(-size // _TILE)
    before, after = size // 2, size // 2 + tiles * _TILE - size
    padded = F.pad(x, (before, after, before, after))
    height, width = ((side - 1) * stride + _TILE for side in grad.shape[-2:])
    kernel = weight.new_empty(len(weight), 1, _TILE, _TILE)  # only its shape is used
    rows = []
    for top in range(0, tiles * _TILE, _TILE):
        row = []
        for left in range(0, tiles * _TILE, _TILE):
            part = padded[:, :, top : top + height, left : left + width]
            part = part.contiguous(memory_format=layout)
            row.append(_gradients(grad, part, kernel, stride, 0, of_input=False)[1])
        rows.append(torch.cat(row, dim=3))
    return torch.cat(rows, dim=2)[:, :, :size, :size]


def _gradients(
    grad: Tensor, x: Tensor, weight: Tensor, stride: int, padding: int, *, of_input: bool
) -> tuple[Tensor, Tensor]:
    """torch's own gradients of a depthwise convolution, either the input's or the weights'."""
    gradients: tuple[Tensor, Tensor] = torch.ops.aten.convolution_backward(
        grad,
        x,
        weight,
        None,
        [stride, stride],
        [padding, padding],
        [1, 1],
        False,
        [0, 0],
        x.shape[1],
        [of_input, not of_input, False],
    )[:2]
    return gradients
