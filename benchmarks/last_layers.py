"""What it costs in bf16 to compute the last layers of every head in fp32.

    python benchmarks/last_layers.py --side 800

Each detector on ResNet-50 with COCO's classes, one picture detected as `detnet predict` does and
one training step, against the same weights with their last layers in bf16, cast up afterwards; in
turns. Also how many different logits there are on either side. Where the processor has no bf16 of
its own the program computes in fp32, and there is nothing to pay: the times say little there.
"""

from collections.abc import Callable
from typing import Any

import torch
from harness import arguments, compare
from torch import Tensor, nn

import detnet
from detnet.detectors.base import PreciseLayer
from detnet.engine.machine import fast_bf16
from detnet.engine.processor import keep_freed_memory
from detnet.inference.fuse import fuse

DETECTORS = ("faster_rcnn_fpn", "mask_rcnn_fpn", "retinanet", "fcos", "rfcn", "ssd", "yolo")
CLASSES = 81
_KINDS = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear)


def network(detector: str, side: int, *, precise: bool) -> nn.Module:
    torch.manual_seed(0)
    options = {"norm": "frozen", "frozen": ("stem", "c2"), "min_size": side, "max_size": 2 * side}
    model = detnet.create(detector, backbone="resnet50", num_classes=CLASSES, **options)
    if not precise:
        for layer in [layer for layer in model.modules() if isinstance(layer, PreciseLayer)]:
            layer.__class__ = next(kind for kind in _KINDS if isinstance(layer, kind))
            layer.register_forward_hook(lambda layer, given, out: out.float())
    return model.to(memory_format=torch.channels_last)


def picture(side: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(3, side, side * 3 // 2, generator=generator)


def detecting(detector: str, side: int, *, precise: bool) -> Callable[[], None]:
    model = fuse(network(detector, side, precise=precise), dtype=torch.bfloat16)
    image = picture(side)

    def run() -> None:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
            model([image])

    return run


def training(detector: str, side: int, *, precise: bool) -> Callable[[], None]:
    model = network(detector, side, precise=precise).train()
    image = picture(side)
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.5], [0.5, 0.3, 0.9, 0.9]]) * side
    masks = torch.ones(2, *image.shape[1:], dtype=torch.uint8)
    target = {"boxes": boxes, "labels": torch.tensor([1, 7]), "masks": masks}

    def run() -> None:
        torch.manual_seed(0)  # the samplers'
        with torch.autocast("cpu", torch.bfloat16):
            losses = model([image], [target])
        torch.stack(list(losses.values())).sum().backward()

    return run


def different_logits(detector: str, side: int, *, precise: bool) -> dict[str, int]:
    """How many logits the head of anchors or cells gives, and how many of them differ."""
    model = fuse(network(detector, side, precise=precise), dtype=torch.bfloat16)
    found: list[Tensor] = []
    for name, layer in model.named_modules():
        if isinstance(layer, _KINDS) and (
            "cls_logits" in name or "classification_head.mod" in name
        ):
            layer.register_forward_hook(lambda layer, given, out: found.append(out.flatten()))
    with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16):
        model([picture(side)])
    logits = torch.cat([level.float() for level in found])
    return {"logits": len(logits), "different": len(logits.unique())}


def main() -> None:
    given = arguments(__doc__ or "", side=800)
    keep_freed_memory()
    for detector in DETECTORS:
        facts: dict[str, Any] = {
            "side": given.side,
            "fast_bf16": fast_bf16("cpu"),
            "in_fp32": different_logits(detector, given.side, precise=True),
            "in_bf16": different_logits(detector, given.side, precise=False),
        }
        print(detector, facts)
        for kind, make in (("detecting", detecting), ("training", training)):
            compare(
                f"last_layers_{kind}_{detector}",
                make(detector, given.side, precise=True),
                make(detector, given.side, precise=False),
                repeats=given.repeats,
                facts=facts,
            )


if __name__ == "__main__":
    main()
