"""One training step of RetinaNet and of FCOS, R50-FPN, ours against torchvision's own in fp32.

    python benchmarks/one_stage.py
    python benchmarks/one_stage.py --side 128 --repeats 1

320 x 320 pixels, batch 4, the same weights on both sides, otherwise as `train_step.py`: ours runs
as `detnet train` does, channels_last, in bf16 where that is fast. Each runs in a process of its
own, in turns.
"""

import functools
from collections.abc import Callable
from typing import Any

import torch
from harness import arguments, compare_apart
from machine import Work, count_training, own_precision
from torch import nn
from torchvision.models.detection import FCOS, RetinaNet
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.ops.feature_pyramid_network import LastLevelP6P7
from torchvision.ops.misc import FrozenBatchNorm2d
from train_step import CLASSES, SIDE, stepper

import detnet
from detnet.detectors.weights import from_torchvision
from detnet.engine.processor import keep_freed_memory

DETECTORS = {"retinanet": RetinaNet, "fcos": FCOS}


def reference(detector: str, side: int) -> nn.Module:
    """torchvision's `…_resnet50_fpn` as it is with pre-trained weights, but drawn."""
    torch.manual_seed(0)
    body = resnet_fpn_backbone(
        backbone_name="resnet50",
        weights=None,
        norm_layer=FrozenBatchNorm2d,
        trainable_layers=3,
        returned_layers=[2, 3, 4],
        extra_blocks=LastLevelP6P7(256, 256),
    )
    for name, value in body.named_buffers():
        if name.endswith("bn3.weight"):
            value.fill_(0.2)  # or sixteen blocks of drawn weights add up to huge features
    # One class fewer than ours, which count a background; these have no channel for it.
    return DETECTORS[detector](body, CLASSES - 1, min_size=side, max_size=1333)


def our_step(detector: str, side: int) -> Callable[[], dict[str, float]]:
    keep_freed_memory()
    model = detnet.create(
        detector,
        backbone="resnet50",
        num_classes=CLASSES,
        stride_in="3x3",
        norm="frozen",
        frozen=("stem", "c2"),
        coarse_from="p",
        anchor_strides="torchvision",
        min_size=side,
        max_size=1333,
    )
    model.load_state_dict(from_torchvision(reference(detector, side).state_dict(), finest=3))
    return stepper(model.to(memory_format=torch.channels_last), side, own_precision())


def their_step(detector: str, side: int) -> Callable[[], dict[str, float]]:
    return stepper(reference(detector, side), side, None, labels_from=0)


def main() -> None:
    options = arguments(__doc__ or "", side=SIDE)

    def facts(ours: dict[str, float], theirs: dict[str, float]) -> dict[str, Any]:
        print(f"losses: ours {sum(ours.values()):.4f}, theirs {sum(theirs.values()):.4f}")
        return {"side": options.side, "batch": 4, "losses": {"ours": ours, "theirs": theirs}}

    for detector in DETECTORS:
        compare_apart(
            f"train_step_{detector}",
            functools.partial(our_step, detector, options.side),
            functools.partial(their_step, detector, options.side),
            threads=options.threads,
            repeats=options.repeats,
            work=Work(count_training(their_step(detector, options.side)), own_precision()),
            facts=facts,
        )


if __name__ == "__main__":
    main()
