"""RoIAlign forward and backward, ours (fp32, and bf16 where it is fast) against torchvision's.

    python benchmarks/roi_align.py

2,048 RoIs of 256 channels over four levels, as a training step at 320 pixels and batch 4 has. It
gathers more than it multiplies, so it has no share of a matrix product.
"""

from collections.abc import Callable

import torch
from harness import arguments, compare
from machine import own_precision, precision_name
from torch import Tensor
from torchvision.ops import MultiScaleRoIAlign

from detnet.detectors.roi import LevelPooler
from detnet.engine.processor import keep_freed_memory

STRIDES = (4, 8, 16, 32)
SIDE = 320


def pyramid(dtype: torch.dtype, layout: torch.memory_format) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(0)
    return {
        f"p{i}": torch.randn(4, 256, SIDE // s, SIDE // s, generator=generator)
        .to(dtype=dtype, memory_format=layout)
        .requires_grad_()
        for i, s in enumerate(STRIDES, start=2)
    }


def proposals(count: int) -> list[Tensor]:
    """Boxes of 8 to 256 pixels, as many of each doubling."""
    generator = torch.Generator().manual_seed(1)
    centre = torch.rand(4, count // 4, 2, generator=generator) * SIDE
    half = 4 * 2 ** (torch.rand(4, count // 4, 2, generator=generator) * 5)
    return list(torch.cat([centre - half, centre + half], dim=2).clamp(0, SIDE))


def step(pooler: torch.nn.Module, features: dict[str, Tensor], boxes: list[Tensor]) -> Tensor:
    pooled: Tensor = pooler(features, boxes, [(SIDE, SIDE)] * 4)
    return pooled


def with_backward(forward: Callable[[], Tensor]) -> Callable[[], None]:
    grad = torch.randn_like(forward(), dtype=torch.float32)

    def run() -> None:
        pooled = forward()
        pooled.backward(grad.to(pooled.dtype))

    return run


def main() -> None:
    options = arguments(__doc__ or "", rois=2048)
    keep_freed_memory()  # as training does
    boxes = proposals(options.rois)
    ours = LevelPooler([f"p{i}" for i in range(2, 6)], STRIDES, output_size=7)
    theirs = MultiScaleRoIAlign([f"p{i}" for i in range(2, 6)], 7, 2)
    reference = pyramid(torch.float32, torch.contiguous_format)
    for dtype in dict.fromkeys((torch.float32, own_precision() or torch.float32)):
        features = pyramid(dtype, torch.channels_last)
        a, b = lambda f=features: step(ours, f, boxes), lambda: step(theirs, reference, boxes)
        difference = (a().float() - b()).abs().max().item()
        facts = {"rois": options.rois, "dtype": str(dtype), "largest_difference": difference}
        print(f"in {precision_name(dtype)}:")
        with torch.no_grad():
            compare("roi_align", a, b, repeats=options.repeats, facts={**facts, "pass": "forward"})
        compare(
            "roi_align",
            with_backward(a),
            with_backward(b),
            repeats=options.repeats,
            facts={**facts, "pass": "forward and backward"},
        )


if __name__ == "__main__":
    main()
