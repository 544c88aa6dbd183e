"""What each of eight processes does; `test_eight_processes.py` starts them and judges it."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torchvision.models.detection._utils import Matcher

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.detectors import create
from detnet.engine.distributed import Process, barrier, joined, leave
from detnet.engine.loop import Batch, train_steps
from detnet.engine.optim import Schedule, sgd
from tests.forked import fork, places, wait

COUNT = 8
STEPS = 3
LR = 0.001
HEIGHT, WIDTH = 64, 96
CLASSES = 3
ALL = 10**6  # more than there is of anything


class Pictures(nn.Module):
    """A classifier that takes what detectors take; the label is that of the first object."""

    def __init__(self) -> None:
        super().__init__()
        self.net = Classifier(BACKBONES["detnet59"](width=0.125, norm="sync"), CLASSES + 1)

    def forward(self, images: list[Tensor], targets: list[dict[str, Any]]) -> dict[str, Tensor]:
        labels = torch.stack([target["labels"][0] for target in targets])
        logits = self.net(torch.stack(images))
        return {"loss_classifier": nn.functional.cross_entropy(logits, labels)}


def detector(name: str, **options: Any) -> nn.Module:
    sizes = {"min_size": HEIGHT, "max_size": WIDTH}
    made = create(name, num_classes=CLASSES + 1, width=0.125, norm="sync", **sizes, **options)
    return made


def tame(model: nn.Module) -> nn.Module:
    """Lets residual branches say little at first, as trained ones do.

    Drawn at random, forty blocks whose norms see some hundred values amplify what rounding does:
    already one process, given the images in another order, comes to other losses by percents.
    """
    for name, layer in model.named_modules():
        if name.endswith("bn3"):
            nn.init.constant_(layer.weight, 0.1)  # type: ignore[arg-type]
    return model


def two_stages(name: str) -> nn.Module:
    """One whose samplers take every anchor and every proposal of every image.

    An anchor between object and background would count in no loss, and other images have others:
    here there are none, nor is a proposal left out. Only the objects themselves are positive
    regions, so that each image has as many.
    """
    everything = ("pre_nms_train", "post_nms_train", "rpn_batch", "roi_batch")
    model: Any = detector(name, anchor_sizes=(16, 24, 32, 48, 64), **dict.fromkeys(everything, ALL))
    model.rpn.nms_thresh = 1.0
    model.rpn.proposal_matcher = Matcher(0.5, 0.5, allow_low_quality_matches=True)
    model.roi_heads.proposal_matcher = Matcher(0.99, 0.99, allow_low_quality_matches=False)
    found: nn.Module = model
    return found


def all_negatives() -> nn.Module:
    """SSD, which takes every background box; sure of them, or the objects would not count."""
    model: Any = detector("ssd", negatives=ALL, resize="aspect")
    for part in (model.head.classification_head, model.head.regression_head):
        for layer in part.module_list:
            nn.init.normal_(layer.weight, std=0.01)
    for layer in model.head.classification_head.module_list:
        nn.init.constant_(layer.bias[:: CLASSES + 1], 6.0)
    found: nn.Module = model
    return found


# Builds the network; whether its images may have different numbers of objects, even none.
NETWORKS: dict[str, tuple[Callable[[], nn.Module], bool]] = {
    "classifier": (Pictures, False),
    "faster_rcnn_fpn": (lambda: two_stages("faster_rcnn_fpn"), False),
    "mask_rcnn_fpn": (lambda: two_stages("mask_rcnn_fpn"), False),
    "retinanet": (lambda: detector("retinanet", anchor_sizes=(16, 24, 32, 48, 64)), True),
    "fcos": (lambda: detector("fcos"), True),
    "ssd": (all_negatives, True),
    "yolo": (lambda: detector("yolo", anchor_sizes=((16, 16), (32, 32))), True),
}


def batch_of_all(step: int, *, uneven: bool) -> Batch:
    """Eight pictures of one size with two objects each; uneven, the sixth has none at all."""
    generator = torch.Generator().manual_seed(step)
    images, targets = [], []
    for number in range(COUNT):
        count = (1, 2, 3, 2, 1, 0, 4, 2)[number] if uneven else 2
        corner = torch.rand(count, 2, generator=generator) * torch.tensor([50.0, 25.0])
        side = 14 + 20 * torch.rand(count, 2, generator=generator)
        boxes = torch.cat([corner, corner + side], dim=1)
        image = torch.rand(3, HEIGHT, WIDTH, generator=generator)
        masks = torch.zeros(count, HEIGHT, WIDTH, dtype=torch.uint8)
        labels = torch.randint(1, CLASSES + 1, (count,), generator=generator)
        for box, mask, label in zip(boxes.long().tolist(), masks, labels, strict=True):
            mask[box[1] : box[3], box[0] : box[2]] = 1
            image[:, box[1] : box[3], box[0] : box[2]] *= 0.3 * label
        images.append(image)
        targets.append({"boxes": boxes, "labels": labels, "masks": masks, "image_id": number})
    return images, targets


def take_steps(name: str, process: Process) -> dict[str, Any]:
    """Three steps on this process's share of each batch: the losses, and all tensors afterwards."""
    build, uneven = NETWORKS[name]
    torch.manual_seed(0)
    model = tame(build()).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    share = COUNT // process.world_size
    mine = slice(share * process.rank, share * (process.rank + 1))
    batches = (batch_of_all(step, uneven=uneven) for step in range(STEPS))
    steps = train_steps(
        DistributedDataParallel(model) if process.world_size > 1 else model,
        ((images[mine], targets[mine]) for images, targets in batches),
        sgd(model, lr=LR),
        Schedule(STEPS),
        start=0,
        iterations=STEPS,
        device=process.device,
    )
    losses = [step.losses for step in steps]
    return {"losses": losses, "before": before, "after": dict(model.state_dict())}


def digest(state: dict[str, Tensor]) -> list[float]:
    return [float(value.double().sum()) for value in state.values()]


def main(folder: Path) -> None:
    torch.set_num_threads(1)
    with joined("cpu") as process:
        for name in NETWORKS:
            found = take_steps(name, process)
            sums: list[Any] = [None] * COUNT
            dist.all_gather_object(sums, digest(found["after"]))
            if process.main:
                torch.save({**found, "sums": sums}, folder / f"{name}.pt")
        barrier()
    leave(0)


if __name__ == "__main__":
    given = Path(sys.argv[1])
    started = [
        fork(lambda: main(given), place, given / f"rank{place['RANK']}.log")
        for place in places(COUNT)
    ]
    sys.exit(any(wait(started, timeout_s=500)))
