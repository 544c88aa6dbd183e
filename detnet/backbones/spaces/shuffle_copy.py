"""Gives one kind of shuffle block the weights of another, so that both compute nearly the same."""

import torch
from torch import Tensor, nn

from detnet.backbones.depthwise import DepthwiseConv
from detnet.backbones.shufflenet import ShuffleBlock

_RECTIFIED_MEAN = 0.683  # of the positive part of a normal variable, in its own deviations


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
        nn.init.constant_(layer.bias, _RECTIFIED_MEAN if rectified else 0.0)


def _convs(part: nn.Sequential, depthwise: bool | None = None) -> list[nn.Module]:
    return [
        layer
        for layer in part.modules()
        if isinstance(layer, nn.Conv2d) and depthwise in (None, isinstance(layer, DepthwiseConv))
    ]


def _norms(part: nn.Sequential, name: str) -> list[nn.Module]:
    return [layer for at, layer in part.named_modules() if at.rpartition(".")[2] == name]
