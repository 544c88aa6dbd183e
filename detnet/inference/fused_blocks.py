"""Residual blocks for inference whose sums and ReLUs happen inside the convolutions.

Each ReLU and each sum is one more pass over the memory of a large feature map. oneDNN's convolution
does them on its way out; torch reaches it by the operators that its own compiler emits.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

_PARTS = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample")
_HALF = (torch.bfloat16, torch.float16)


def is_bottleneck(module: nn.Module) -> bool:
    """Whether this is a residual bottleneck, torchvision's or ours, with its norms folded away."""
    if not all(hasattr(module, name) for name in _PARTS):
        return False
    return all(isinstance(getattr(module, name), nn.Identity) for name in ("bn1", "bn2", "bn3"))


class FusedBottleneck(nn.Module):
    """A bottleneck without norms, computed in three passes on a CPU.

    Args:
        block: what it replaces, its norms folded; its convolutions are shared, not copied.
    """

    def __init__(self, block: nn.Module) -> None:
        super().__init__()
        self.conv1: nn.Module = block.get_submodule("conv1")
        self.conv2: nn.Module = block.get_submodule("conv2")
        self.conv3: nn.Module = block.get_submodule("conv3")
        downsample = getattr(block, "downsample", None)
        self.downsample: nn.Module = nn.Identity() if downsample is None else downsample

    def forward(self, x: Tensor) -> Tensor:
        """Maps (N, C, H, W) to what the block maps it to."""
        weight: Any = self.conv1.weight
        if weight.dtype in _HALF:
            x = x.to(weight.dtype)
        if not _one_pass(weight, x):
            out = F.relu(self.conv2(F.relu(self.conv1(x))))
            # In place, as the blocks add: the sum keeps the convolution's type under autocast.
            return F.relu(self.conv3(out).add_(self.downsample(x)))
        out = _conv_relu(self.conv2, _conv_relu(self.conv1, x))
        return _conv_sum_relu(self.conv3, out, self.downsample(x))


def _one_pass(weight: Any, x: Tensor) -> bool:
    """Whether oneDNN has these operators for this input here.

    In bf16 that depends on the processor: it has none for those before AVX-512.
    """
    if x.device.type != "cpu" or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    if torch.is_grad_enabled() or not torch.backends.mkldnn.is_available():
        return False
    if weight.dtype == x.dtype == torch.float32:
        return not torch.is_autocast_enabled("cpu")
    return weight.dtype == torch.bfloat16 and torch.ops.mkldnn._is_mkldnn_bf16_supported()


def _conv_relu(conv: Any, x: Tensor) -> Tensor:
    geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
    result: Tensor = torch.ops.mkldnn._convolution_pointwise(
        x, conv.weight, conv.bias, *geometry, "relu", [], ""
    )
    return result


def _conv_sum_relu(conv: Any, x: Tensor, other: Tensor) -> Tensor:
    if other.shape[-2:] == (1, 1):  # whose order of channels torch 2.11 cannot tell oneDNN
        return F.relu(conv(x).add_(other))
    geometry = (conv.padding, conv.stride, conv.dilation, conv.groups)
    result: Tensor = torch.ops.mkldnn._convolution_pointwise.binary(
        x, other, conv.weight, conv.bias, *geometry, "add", None, "relu", [], ""
    )
    return result
