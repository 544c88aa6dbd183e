"""Blocks of ShuffleNetV2 and Xception, of which a position of DetNAS's spaces has one kind."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from detnet.backbones.spaces.inheritance import RECTIFIED_MEAN
from detnet.backbones.stages import Norm, initialise

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


_DROPOUT = 0.2  # of whole channels, before a classifier's pooling


@dataclass(frozen=True)
class BlockKind:
    """One kind of block.

    Args:
        name: the release's.
        kernels: sides of the depthwise convolutions in the main branch; the first has the stride,
            and the side branch of an opening block has one like it.
        narrow: whether a 1×1 to the inner width comes first, as in ShuffleNetV2.
    """

    name: str
    kernels: tuple[int, ...]
    narrow: bool = False


BLOCK_KINDS = (
    BlockKind("shufflenet_3x3", kernels=(3,), narrow=True),
    BlockKind("shufflenet_5x5", kernels=(5,), narrow=True),
    BlockKind("shufflenet_7x7", kernels=(7,), narrow=True),
    BlockKind("xception_3x3", kernels=(3, 3, 3)),
)


@dataclass(frozen=True)
class Position:
    """One block whose kind is to be chosen.

    Args:
        stage: name of the level it belongs to.
        index: within the stage, from 0.
        in_channels, out_channels: of the block.
        stride: 2 for the first of a stage.
    """

    stage: str
    index: int
    in_channels: int
    out_channels: int
    stride: int


class ShuffleBlock(nn.Module):
    """Half of the channels go through the main branch, and both halves are joined.

    At stride 1 the other half is passed on as it is; at stride 2 both branches see the whole input
    and the other one is a depthwise and a 1×1 convolution. Every second channel goes through the
    main branch, the odd ones: that is the channel shuffle of DetNAS's released networks (their
    supernet has another, whose weights do not fit).

    Args:
        position: its place, from which channels and stride come.
        choice: its kind.
        norm: makes a normalisation layer for a channel count.

    Paper: Ma et al. 2018, arXiv:1807.11164, Figure 3 (c, d).
    """

    def __init__(self, position: Position, choice: BlockKind, *, norm: Norm) -> None:
        super().__init__()
        in_channels, out_channels = position.in_channels, position.out_channels
        mid_channels = out_channels // 2
        self.side = None
        if position.stride > 1:
            kernel = choice.kernels[0]
            self.side = _unit(in_channels, in_channels, norm, kernel, position.stride)
            out_channels -= in_channels
        else:
            in_channels, out_channels = in_channels // 2, out_channels // 2
        units = []
        if choice.narrow:
            units.append(_unit(in_channels, mid_channels, norm))
            in_channels = mid_channels
        for number, kernel in enumerate(choice.kernels):
            last = number == len(choice.kernels) - 1
            width = out_channels if last else mid_channels
            units.append(_unit(in_channels, width, norm, kernel, 1 if number else position.stride))
            in_channels = width
        self.main = nn.Sequential(*units)

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, in_channels, H, W) to (N, out_channels, H / stride, W / stride)."""
        if self.side is not None:
            return torch.cat([self.side(x), self.main(x)], dim=1)
        kept, worked = x.unflatten(1, (-1, 2)).unbind(2)  # even and odd channels
        return torch.cat([kept, self.main(worked)], dim=1)


def _unit(
    in_channels: int, out_channels: int, norm: Norm, kernel: int = 0, stride: int = 1
) -> nn.Sequential:
    """A depthwise convolution if there is a `kernel`, then a 1×1; only the 1×1 is rectified."""
    unit = nn.Sequential()
    if kernel:
        unit.add_module("depthwise", DepthwiseConv(in_channels, kernel, stride=stride))
        unit.add_module("depthwise_bn", norm(in_channels))
    unit.add_module("pointwise", nn.Conv2d(in_channels, out_channels, 1, bias=False))
    unit.add_module("pointwise_bn", norm(out_channels))
    unit.add_module("relu", nn.ReLU(inplace=True))
    return unit


def conv_unit(
    in_channels: int, out_channels: int, norm: Norm, kernel: int, stride: int
) -> nn.Sequential:
    """A convolution with bias, norm and ReLU: the stem and the tail before a classifier."""
    unit = nn.Sequential()
    conv = nn.Conv2d(in_channels, out_channels, kernel, stride, kernel // 2)
    unit.add_module("conv", conv)
    unit.add_module("bn", norm(out_channels))
    unit.add_module("relu", nn.ReLU(inplace=True))
    return unit


def shuffle_tail(in_channels: int, out_channels: int, norm: Norm) -> nn.Sequential:
    """What a classifier puts behind the last stage: a 1×1 convolution, dropout of channels."""
    tail = conv_unit(in_channels, out_channels, norm, 1, 1)
    initialise(tail)
    tail.add_module("dropout", nn.Dropout2d(_DROPOUT))
    return tail


@torch.no_grad()
def copy_block(source: ShuffleBlock, target: ShuffleBlock) -> None:
    """Copies a block's weights into one of another kind at the same position.

    Convolutions are paired from both ends: the first pointwise with the first, the last with the
    last. A smaller kernel lies in the middle of a larger one, a larger one is cut; a layer
    without a partner passes its input on (Dirac), and so does its norm. Between ShuffleNet's kinds
    of growing kernel nothing is lost; Xception's further norms and ReLUs change it a little.
    """
    if source.side is not None and target.side is not None:
        _copy_layers(_convs(source.side), _convs(target.side))
        _copy_layers(_norms(source.side, "depthwise_bn"), _norms(target.side, "depthwise_bn"))
        _copy_layers(_norms(source.side, "pointwise_bn"), _norms(target.side, "pointwise_bn"))
    for kind, norm in ((True, "depthwise_bn"), (False, "pointwise_bn")):
        _pair(_convs(source.main, depthwise=kind), _convs(target.main, depthwise=kind))
        _pair(_norms(source.main, norm), _norms(target.main, norm), rectified=not kind)


def _pair(source: list[nn.Module], target: list[nn.Module], *, rectified: bool = False) -> None:
    """Pairs from the front, the last with the last; those between are left to pass things on."""
    for layer in target:
        _pass_on(layer, rectified=rectified)
    pairs = min(len(source), len(target))
    for number in range(pairs - 1):
        _copy(source[number], target[number])
    _copy(source[-1], target[-1])


def _copy_layers(source: list[nn.Module], target: list[nn.Module]) -> None:
    for one, other in zip(source, target, strict=True):
        _copy(one, other)


def _copy(source: nn.Module, target: nn.Module) -> None:
    if isinstance(source, DepthwiseConv):
        assert isinstance(target, DepthwiseConv)
        _lay(source.weight, target.weight)
        return
    given = dict(source.named_parameters(recurse=False))
    for name, parameter in target.named_parameters(recurse=False):
        if given[name].shape == parameter.shape:
            parameter.copy_(given[name])


def _lay(source: Tensor, target: Tensor) -> None:
    """The middle of a kernel into the middle of another, or of what of it fits."""
    if source.shape[0] != target.shape[0]:
        return
    target.zero_()
    inner = min(source.shape[-1], target.shape[-1])
    there, here = (target.shape[-1] - inner) // 2, (source.shape[-1] - inner) // 2
    part = source[..., here : here + inner, here : here + inner]
    target[..., there : there + inner, there : there + inner] = part


def _pass_on(layer: nn.Module, *, rectified: bool) -> None:
    if isinstance(layer, nn.Conv2d):
        nn.init.dirac_(layer.weight, groups=layer.groups)
    elif isinstance(layer, nn.BatchNorm2d):
        nn.init.ones_(layer.weight)
        # What was rectified comes out of the norm at -0.7 and more, and must not be cut again.
        nn.init.constant_(layer.bias, RECTIFIED_MEAN if rectified else 0.0)


def _convs(part: nn.Sequential, depthwise: bool | None = None) -> list[nn.Module]:
    return [
        layer
        for layer in part.modules()
        if isinstance(layer, nn.Conv2d) and depthwise in (None, isinstance(layer, DepthwiseConv))
    ]


def _norms(part: nn.Sequential, name: str) -> list[nn.Module]:
    return [layer for at, layer in part.named_modules() if at.rpartition(".")[2] == name]
