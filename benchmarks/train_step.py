"""One training step of Faster R-CNN R50-FPN, ours against torchvision's own model in fp32.

    python benchmarks/train_step.py
    python benchmarks/train_step.py --side 64 --repeats 1

320 x 320 pixels, batch 4. Both do the same work from the same weights: stride in the 3x3, stem and
stage 2 frozen, frozen batch norm, per-level proposals 2000 -> 2000, 512 RoIs an image from P2-P5,
sampling ratio 2, smooth L1 turning at 1/9, one step of SGD with momentum. Ours runs as
`detnet train` does: autocast to bf16 where the processor has instructions for it, channels_last,
RoIAlign as a sparse product, freed memory kept. Each runs in a process of its own, in turns.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from harness import arguments, compare_apart
from machine import Work, count_training, own_precision
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.misc import FrozenBatchNorm2d

import detnet
from detnet.detectors.weights import from_torchvision
from detnet.engine.machine import autocast_to
from detnet.engine.processor import keep_freed_memory

CLASSES = 91
SIDE = 320
OURS: dict[str, Any] = {
    "backbone": "resnet50",
    "stride_in": "3x3",
    "norm": "frozen",
    "frozen": ("stem", "c2"),
    "proposals": "per_level",
    "pre_nms_train": 2000,
    "pre_nms_test": 1000,
    "box_loss_beta": 1 / 9,
    "anchor_strides": "torchvision",
}


def reference(side: int) -> FasterRCNN:
    """torchvision's `fasterrcnn_resnet50_fpn` as it is with pre-trained weights, but drawn."""
    body = resnet_fpn_backbone(
        backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d, trainable_layers=3
    )
    for name, value in body.named_buffers():
        if name.endswith("bn3.weight"):
            value.fill_(0.2)  # or sixteen blocks of drawn weights add up to huge features
    return FasterRCNN(body, CLASSES, min_size=side, max_size=1333)


def ours(theirs: FasterRCNN, **options: Any) -> nn.Module:
    model = detnet.create("faster_rcnn_fpn", num_classes=CLASSES, **OURS, **options)
    model.load_state_dict(from_torchvision(theirs.state_dict()))
    return model.to(memory_format=torch.channels_last)


def batch(side: int, size: int = 4) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Pictures of noise with seven boxes each, about COCO's number."""
    generator = torch.Generator().manual_seed(0)
    images = [torch.rand(3, side, side, generator=generator) for _ in range(size)]
    targets = []
    for _ in range(size):
        corner = torch.rand(7, 2, generator=generator) * side * 0.7
        extent = side * (0.05 + 0.25 * torch.rand(7, 2, generator=generator))
        labels = torch.randint(1, CLASSES, (7,), generator=generator)
        targets.append({"boxes": torch.cat([corner, corner + extent], dim=1), "labels": labels})
    return images, targets


def stepper(
    model: nn.Module, side: int, dtype: torch.dtype | None, *, labels_from: int = 1
) -> Callable[[], dict[str, float]]:
    images, targets = batch(side)
    for target in targets:
        target["labels"] += labels_from - 1
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=1e-4)
    model.train()

    def step() -> dict[str, float]:
        torch.manual_seed(0)  # the samplers of anchors and RoIs draw from it
        with autocast_to(torch.device("cpu"), dtype):
            losses = model(images, targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()
        return {name: loss.item() for name, loss in losses.items()}

    return step


def our_step(side: int) -> Callable[[], dict[str, float]]:
    keep_freed_memory()
    torch.manual_seed(0)
    return stepper(ours(reference(side)), side, own_precision())


def their_step(side: int) -> Callable[[], dict[str, float]]:
    torch.manual_seed(0)
    return stepper(reference(side), side, None)


def main() -> None:
    options = arguments(__doc__ or "", side=SIDE)

    def facts(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
        for name, loss in ours.items():
            print(f"{name}: ours {loss:.4f}, theirs {theirs[name]:.4f}")
        return {"side": options.side, "batch": 4, "losses": {"ours": ours, "theirs": theirs}}

    compare_apart(
        "train_step",
        functools.partial(our_step, options.side),
        functools.partial(their_step, options.side),
        threads=options.threads,
        repeats=options.repeats,
        work=Work(count_training(their_step(options.side)), own_precision()),
        facts=facts,
    )


if __name__ == "__main__":
    main()
