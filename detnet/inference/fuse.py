"""Folding of batch norms into the convolutions before them: the same network, fewer passes."""

import copy
from collections import Counter
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.nn.utils.fusion import fuse_conv_bn_weights
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.detectors.last_layers import PreciseLayer
from detnet.inference.fused_blocks import FusedBottleneck, is_bottleneck

Model = TypeVar("Model", bound=nn.Module)

_NORMS = (_BatchNorm, FrozenBatchNorm2d)
_CASTABLE = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def fuse(model: Model, *, dtype: torch.dtype | None = None) -> Model:
    """Copies a model for inference, its batch norms folded into the convolutions before them.

    A norm in evaluation is a scale and a shift of each channel, which the convolution can do.
    Pairs are found by their place: a norm right after a convolution in an `nn.Sequential`, and
    `bnX` beside `convX` in any other module. Norms without such a partner stay as they are.
    On a CPU, residual bottlenecks also add and rectify within their convolutions.

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
    for parent in list(fused.modules()):
        for name, child in parent.named_children():
            if is_bottleneck(child):
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
