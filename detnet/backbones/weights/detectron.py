"""The names of Detectron's Caffe-style ResNets, whose batch norm is a scale and a bias."""

import re
from collections.abc import Mapping

import torch
from torch import Tensor

from detnet.backbones.weights.layout import CAFFE_BGR, Layout, State
from detnet.errors import InputError

_EPS = 1e-5  # of our batch norms
_BLOCK = re.compile(r"res(\d+)_(\d+)_branch(1|2[abc])_(w|bn_s|bn_b)")
_OURS = re.compile(r"stages\.c(\d+)\.(\d+)\.(conv|bn|downsample\.)(\d)\.(\w+)")
_NORM = {"bn_s": "weight", "bn_b": "bias"}


def from_detectron(state: Mapping[str, Tensor]) -> State:
    """Renames Detectron's weights to ours and completes each batch norm.

    The published scale and bias have the statistics worked in, so the mean is 0 and the variance
    1 − ε, which with the layer's own ε makes 1. Momentum of the optimizer is left out.

    Args:
        state: names as `conv1_w`, `res_conv1_bn_s`, `res2_0_branch2a_bn_b`, `fc1000_w`.
    """
    renamed: State = {}
    for name, value in state.items():
        ours = _our_name(name)
        if name.endswith("_momentum") or ours is None:
            renamed[name] = value
            continue
        renamed[ours] = value.float()
        if name.endswith("_bn_s"):
            layer = ours.removesuffix("weight")
            renamed[f"{layer}running_mean"] = torch.zeros_like(value, dtype=torch.float32)
            renamed[f"{layer}running_var"] = torch.full_like(value, 1 - _EPS, dtype=torch.float32)
    return renamed


def to_detectron(state: Mapping[str, Tensor]) -> State:
    """Renames the weights of one of our ResNets to Detectron's, statistics worked in.

    Raises:
        InputError: it is a network that Detectron does not have.
    """
    stages = {name.split(".")[1] for name in state if name.startswith("stages.")}
    if stages != {"c2", "c3", "c4", "c5"} or "stages.c2.0.conv1.weight" not in state:
        raise InputError("Detectron has ResNets only")
    renamed: State = {}
    for name, value in state.items():
        if name in ("fc.weight", "fc.bias"):
            renamed[f"fc1000_{'w' if name == 'fc.weight' else 'b'}"] = value
        elif (theirs := _their_name(name)) and theirs.endswith("_w"):
            renamed[theirs] = value
        elif theirs:
            layer = name.rpartition(".")[0]
            scale, bias = _affine(state, layer)
            renamed[f"{theirs}_s"], renamed[f"{theirs}_b"] = scale, bias
    return renamed


def _affine(state: Mapping[str, Tensor], layer: str) -> tuple[Tensor, Tensor]:
    """What a batch norm does to its input: a factor and a summand."""
    variance = state[f"{layer}.running_var"].double() + _EPS
    scale = state[f"{layer}.weight"].double() / variance.sqrt()
    bias = state[f"{layer}.bias"].double() - state[f"{layer}.running_mean"].double() * scale
    return scale.float(), bias.float()


def _our_name(name: str) -> str | None:
    """Our name for one of Detectron's blobs; None for what is not of the classifier network."""
    fixed = {
        "conv1_w": "stem.conv.weight",
        "res_conv1_bn_s": "stem.bn.weight",
        "res_conv1_bn_b": "stem.bn.bias",
        "fc1000_w": "fc.weight",
        "fc1000_b": "fc.bias",
    }
    match = _BLOCK.fullmatch(name)
    if match is None:
        return fixed.get(name)
    stage, block, branch, what = match.groups()
    layer = f"stages.c{stage}.{block}"
    if branch == "1":
        return f"{layer}.downsample." + ("0.weight" if what == "w" else f"1.{_NORM[what]}")
    number = "abc".index(branch[1]) + 1
    return f"{layer}.conv{number}.weight" if what == "w" else f"{layer}.bn{number}.{_NORM[what]}"


def _their_name(name: str) -> str | None:
    """Detectron's blob for one of our weights, without `_s` or `_b` for a norm's scale."""
    fixed = {"stem.conv.weight": "conv1_w", "stem.bn.weight": "res_conv1_bn"}
    match = _OURS.fullmatch(name)
    if match is None or match[5] != "weight":
        return fixed.get(name)
    stage, block, kind, number, _ = match.groups()
    if kind == "downsample.":
        return f"res{stage}_{block}_branch1_{'w' if number == '0' else 'bn'}"
    letter = "abc"[int(number) - 1]
    return f"res{stage}_{block}_branch2{letter}_{'w' if kind == 'conv' else 'bn'}"


LAYOUT = Layout(
    name="detectron",
    title="Detectron's Caffe-style ResNet",
    marker="res2_0_branch2a_w",
    to_ours=from_detectron,
    from_ours=to_detectron,
    options={"stride_in": "1x1", **CAFFE_BGR},
)
