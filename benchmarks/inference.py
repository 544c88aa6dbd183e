"""Faster R-CNN R50-FPN on one picture of 800 x 1216, ours against torchvision's own model in fp32.

    python benchmarks/inference.py
    python benchmarks/inference.py --height 160 --repeats 1

The same weights on both sides, 1000 proposals a level and 1000 an image, batch norms frozen. Ours
runs as `detnet predict` does: batch norms folded, weights channels_last, in bf16 where the
processor has instructions for it, freed memory kept. Each runs in a process of its own, in turns.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from harness import arguments, compare_apart
from machine import Work, own_precision, precision_name
from torch import Tensor, nn
from torchvision.ops import box_iou
from train_step import CLASSES, OURS, ours, reference

from detnet.detectors.cost import detector_cost
from detnet.engine.machine import autocast_to, keep_freed_memory
from detnet.inference.fuse import fuse


def picture(height: int) -> Tensor:
    """Blobs of colour at several scales, half as wide again as high."""
    size = height, width_of(height)
    generator = torch.Generator().manual_seed(0)
    layers = [
        torch.rand(1, 3, *(side // scale for side in size), generator=generator)
        for scale in (4, 16, 80)
    ]
    large = [nn.functional.interpolate(layer, size, mode="bilinear") for layer in layers]
    return torch.stack(large).mean(dim=0)[0]


def width_of(height: int) -> int:
    """1216 for 800: a multiple of what images are padded to."""
    return round(height * 1.52 / 32) * 32


def runner(
    model: nn.Module, height: int, dtype: torch.dtype | None
) -> Callable[[], dict[str, Tensor]]:
    image = picture(height)
    model.eval()

    def run() -> dict[str, Tensor]:
        with torch.inference_mode(), autocast_to(image.device, dtype):
            detections: list[dict[str, Tensor]] = model([image])
        return detections[0]

    return run


def agreement(ours: dict[str, Tensor], theirs: dict[str, Tensor], *, iou: float) -> float:
    """Share of their detections that one of ours with the same label covers this well."""
    same = ours["labels"][:, None] == theirs["labels"][None]
    covered = (box_iou(ours["boxes"], theirs["boxes"]) * same).amax(dim=0) >= iou
    return covered.float().mean().item()


def networks(height: int) -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(0)
    theirs = reference(height).eval()
    with torch.no_grad():  # drawn weights are sure of nothing; spread the scores to get detections
        theirs.roi_heads.box_predictor.cls_score.weight.mul_(100)
    return ours(theirs, min_size=height, max_size=1333), theirs


def our_run(height: int) -> Callable[[], dict[str, Tensor]]:
    keep_freed_memory()
    dtype = own_precision()
    return runner(fuse(networks(height)[0], dtype=dtype), height, dtype)


def their_run(height: int) -> Callable[[], dict[str, Tensor]]:
    return runner(networks(height)[1], height, None)


def facts(found: dict[str, Tensor], expected: dict[str, Tensor], *, height: int) -> dict[str, Any]:
    dtype = own_precision()
    exact = found if dtype is None else runner(fuse(networks(height)[0]), height, None)()
    facts = {
        "size": [height, width_of(height)],
        "detections": {"ours": len(found["boxes"]), "theirs": len(expected["boxes"])},
        "agreement_fp32": agreement(exact, expected, iou=0.99),
    }
    if dtype is not None:
        facts[f"agreement_{precision_name(dtype)}"] = agreement(found, expected, iou=0.75)
    print(facts)
    return facts


def macs(height: int) -> int:
    """Of the whole detector on the picture and 1000 proposals, without computing."""
    size = (height, width_of(height))
    found = detector_cost("faster_rcnn_fpn", num_classes=CLASSES, image_size=size, **OURS)
    return found.cost.macs


def main() -> None:
    options = arguments(__doc__ or "", height=800)
    compare_apart(
        "inference",
        functools.partial(our_run, options.height),
        functools.partial(their_run, options.height),
        threads=options.threads,
        repeats=options.repeats,
        work=Work(macs(options.height), own_precision()),
        facts=functools.partial(facts, height=options.height),
    )


if __name__ == "__main__":
    main()
