"""Depthwise convolutions in training: ours against torch's, in the type that the program takes.

    python benchmarks/depthwise.py

Forward and backward at batch 4 in channels_last, for the sizes that a 320-pixel image gives in
DetNASNet's stages; then a training step of a whole network. Where bf16 is fast it is under
autocast, and ours is also set against torch's in fp32. A depthwise layer moves more than it
multiplies, so only the networks are given their share of a matrix product.
"""

import copy
from collections.abc import Callable

import torch
from harness import arguments, compare
from machine import Work, count_training, own_precision, precision_name
from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.backbones.shuffle_block import DepthwiseConv
from detnet.engine.machine import autocast_to
from detnet.engine.processor import keep_freed_memory

# Channels, side in pixels, stride.
SIZES = ((32, 80, 1), (80, 40, 1), (160, 20, 1), (64, 80, 2), (160, 40, 2))
NETWORKS = ("detnasnet_300m", "shufflenetv2_20")


class Fp32Conv(nn.Conv2d):
    """torch's convolution that leaves autocast, the simple way round its slow bf16 gradients."""

    def forward(self, input: Tensor) -> Tensor:
        with torch.autocast("cpu", enabled=False):
            return super().forward(input.float()).to(input.dtype)


def plain(ours: DepthwiseConv, kind: type[nn.Conv2d]) -> nn.Conv2d:
    """The same convolution as another class computes it."""
    channels, size = ours.in_channels, ours.kernel_size[0]
    conv = kind(channels, channels, size, ours.stride[0], size // 2, groups=channels, bias=False)
    conv.load_state_dict(ours.state_dict())
    return conv.to(memory_format=torch.channels_last)


def step(model: nn.Module, images: Tensor, dtype: torch.dtype | None) -> Callable[[], None]:
    """Forward and backward, under autocast unless `dtype` is None."""

    def run() -> None:
        model.zero_grad()
        images.grad = None
        with autocast_to(images.device, dtype):
            out = model(images)
        last = out if isinstance(out, Tensor) else list(out.values())[-1]
        last.backward(torch.ones_like(last))

    return run


def pixels(channels: int, side: int, dtype: torch.dtype) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    images = torch.randn(4, channels, side, side, generator=generator).to(dtype)
    return images.contiguous(memory_format=torch.channels_last)


def macs(net: nn.Module, images: Tensor) -> int:
    """Of a step, in fp64, where torch's own gradients are taken."""
    return count_training(step(copy.deepcopy(net).double(), images.double(), None))


def main() -> None:
    options = arguments(__doc__ or "")
    keep_freed_memory()  # as training does
    dtype = own_precision()
    own = f"torch {precision_name(dtype)}"
    kinds = {own: nn.Conv2d} if dtype is None else {own: nn.Conv2d, "torch fp32": Fp32Conv}
    for channels, side, stride in SIZES:
        for kernel in (3, 5, 7):
            ours = DepthwiseConv(channels, kernel, stride=stride)
            ours = ours.to(memory_format=torch.channels_last)
            x = pixels(channels, side, dtype or torch.float32).requires_grad_()
            for against, kind in kinds.items():
                facts = {
                    "against": against,
                    **{"channels": channels, "side": side, "kernel": kernel, "stride": stride},
                    "precision": precision_name(dtype),
                }
                print(", ".join(f"{key} {value}" for key, value in facts.items()), end=": ")
                compare(
                    "depthwise",
                    step(ours, x, dtype),
                    step(plain(ours, kind), x, dtype),
                    repeats=options.repeats,
                    facts=facts,
                )
    for name in NETWORKS:
        net = BACKBONES[name]().train().to(memory_format=torch.channels_last)
        images = pixels(3, 320, torch.float32)
        work = Work(macs(net, images), dtype)
        for against, kind in kinds.items():
            other = copy.deepcopy(net)
            for place, layer in net.named_modules():
                slow = kind is nn.Conv2d or (
                    isinstance(layer, DepthwiseConv)
                    and (layer.kernel_size[0] > 3 or layer.stride[0] > 1)
                )
                if isinstance(layer, DepthwiseConv):
                    other.set_submodule(place, plain(layer, kind if slow else nn.Conv2d))
            against += "" if kind is nn.Conv2d else " where bf16 is slow"
            print(f"{name}, against {against}", end=": ")
            compare(
                "depthwise",
                step(net, images, dtype),
                step(other, images, dtype),
                repeats=options.repeats,
                work=work,
                facts={"network": name, "against": against, "side": 320, "images": 4},
            )


if __name__ == "__main__":
    main()
