"""Faster R-CNN R50-FPN on one picture of 800 x 1216, ours against torchvision's own model in fp32.

    python benchmarks/inference.py

The same weights on both sides, 1000 proposals a level and 1000 an image, batch norms frozen. Ours
runs as `detnet predict` does: batch norms folded, weights in bf16 and channels_last,
freed memory kept. Each runs in a process of its own, in turns.
"""

from collections.abc import Callable
from typing import Any

import torch
from harness import arguments, compare_apart
from torch import Tensor, nn
from torchvision.ops import box_iou
from train_step import ours, reference

from detnet.engine.memory import keep_freed_memory
from detnet.inference.fuse import fuse

HEIGHT, WIDTH = 800, 1216


def picture() -> Tensor:
    """Blobs of colour at several scales."""
    generator = torch.Generator().manual_seed(0)
    layers = [torch.rand(1, 3, HEIGHT // s, WIDTH // s, generator=generator) for s in (4, 16, 80)]
    large = [nn.functional.interpolate(layer, (HEIGHT, WIDTH), mode="bilinear") for layer in layers]
    return torch.stack(large).mean(dim=0)[0]


def runner(model: nn.Module, *, bf16: bool) -> Callable[[], dict[str, Tensor]]:
    image = picture()
    model.eval()

    def run() -> dict[str, Tensor]:
        with torch.inference_mode(), torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            detections: list[dict[str, Tensor]] = model([image])
        return detections[0]

    return run


def agreement(ours: dict[str, Tensor], theirs: dict[str, Tensor], *, iou: float) -> float:
    """Share of their detections that one of ours with the same label covers this well."""
    same = ours["labels"][:, None] == theirs["labels"][None]
    covered = (box_iou(ours["boxes"], theirs["boxes"]) * same).amax(dim=0) >= iou
    return covered.float().mean().item()


def networks() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = reference(800).eval()
    with torch.no_grad():  # drawn weights are sure of nothing; spread the scores to get detections
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(100)
    return ours(theirs, min_size=800, max_size=1333), theirs


def our_run() -> Callable[[], dict[str, Tensor]]:
    keep_freed_memory()
    return runner(fuse(networks()[0], dtype=torch.bfloat16), bf16=True)


def their_run() -> Callable[[], dict[str, Tensor]]:
    return runner(networks()[1], bf16=False)


def facts(found: dict[str, Tensor], expected: dict[str, Tensor]) -> dict[str, Any]:
    exact = runner(fuse(networks()[0]), bf16=False)()
    facts = {
        "size": [HEIGHT, WIDTH],
        "detections": {"ours": len(found["boxes"]), "theirs": len(expected["boxes"])},
        "agreement_fp32": agreement(exact, expected, iou=0.99),
        "agreement_bf16": agreement(found, expected, iou=0.75),
    }
    print(facts)
    return facts


def main() -> None:
    options = arguments(__doc__ or "")
    compare_apart(
        "inference",
        our_run,
        their_run,
        threads=options.threads,
        repeats=options.repeats,
        facts=facts,
    )


if __name__ == "__main__":
    main()
