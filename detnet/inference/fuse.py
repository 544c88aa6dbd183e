"""Makes a network quicker for inference: batch norms folded away, fewer passes over memory.

A batch norm in evaluation goes into the convolution before it. Each ReLU and each sum of a residual
block is one more pass over the memory of a large feature map; oneDNN's convolution does them on its
way out, and torch reaches it by the operators that its own compiler emits.
"""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.detectors.base import PreciseLayer
from detnet.inference.winograd import WinogradConv2d, use_winograd

Model = TypeVar("Model", bound=nn.Module)

_NORMS = (_BatchNorm, FrozenBatchNorm2d)
_CASTABLE = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)
_PARTS = ("conv1", "bn1", "conv2", "bn2", "conv3", "bn3", "downsample")
_HALF = (torch.bfloat16, torch.float16)


def fuse(model: Model, *, dtype: torch.dtype | None = None) -> Model:
    """Copies a model for inference, its batch norms folded into the convolutions before them.

    A norm in evaluation is a scale and a shift of each channel, which the convolution can do.
    Pairs are found by their place: a norm right after a convolution in an `nn.Sequential`, and
    `bnX` beside `convX` in any other module. Norms without such a partner stay as they are.
    On a CPU, residual bottlenecks also add and rectify within their convolutions, and where AVX2 is
    its best, large 3×3 convolutions multiply less, see `winograd`.

    Args:
        model: any; it is left alone.
        dtype: of the weights of convolutions and linear layers, bf16 saves casting them at every
            call. The copy must then be run under `torch.autocast` of this type. Layers that leave
            autocast keep theirs.

    Returns:
        A copy in eval mode, without gradients, its weights channels_last.
    """
    fused = copy.deepcopy(model).eval().requires_grad_(False)
    uses = Counter(id(child) for module in fused.modules() for child in module.children())
    for parent, conv, norm_name in list(_pairs(fused)):
        norm = parent.get_submodule(norm_name)
        if uses[id(conv)] == uses[id(norm)] == 1:  # a shared one has other partners, too
            _fold(conv, norm)
            parent.set_submodule(norm_name, nn.Identity())
    if dtype is not None:
        for module in fused.modules():
            if isinstance(module, _CASTABLE) and not isinstance(module, PreciseLayer):
                module.to(dtype)
    fused = fused.to(memory_format=torch.channels_last)
    use_winograd(fused)
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if _is_bottleneck(child):
                parent.set_submodule(name, FusedBottleneck(child))
    return fused


def _pairs(model: nn.Module) -> Iterator[tuple[nn.Module, nn.Conv2d, str]]:
    """Every (parent, convolution in it, name of the norm after it) that can be folded."""
    for parent in model.modules():
        children = dict(parent.named_children())
        for before, name in zip(["", *children], children, strict=False):
            sequential = isinstance(parent, nn.Sequential)
            conv = children.get(before if sequential else name.replace("bn", "conv"))
            if isinstance(conv, nn.Conv2d) and _keeps_statistics(children[name]):
                yield parent, conv, name


def _keeps_statistics(module: nn.Module) -> bool:
    """Whether this is a batch norm that does not take the batch's own statistics in evaluation."""
    return isinstance(module, _NORMS) and module.running_mean is not None


@torch.no_grad()
def _fold(conv: nn.Conv2d, norm: Any) -> None:
    conv.weight, bias = fuse_conv_bn_weights(
        conv.weight,
        conv.bias,
        norm.running_mean,
        norm.running_var,
        norm.eps,
        norm.weight,
        norm.bias,
    )
    conv.bias = bias.requires_grad_(False)


def _is_bottleneck(module: nn.Module) -> bool:
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
    if isinstance(conv, WinogradConv2d) and conv.pays(x):
        return conv.winograd(x, rectify=True)
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
