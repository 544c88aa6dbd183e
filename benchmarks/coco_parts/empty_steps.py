"""Steps with an empty model, images not decoded: what grows, and who gets which image."""

import argparse
import select
import statistics
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from coco_parts.made import MadeData
from coco_parts.processes import Crowd, children, crowd, handles, pss_mb, table
from coco_parts.start import told_of
from coco_parts.task import make_task
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.data.dataset import DetectionDataset
from detnet.engine.loop import train_steps
from detnet.engine.optim import Schedule

_EVERY_S = 5.0  # between two looks at memory and handles
_ASKED_EVERY = 50  # steps, after which the processes agree on whether the time is up
_SIDES = {"min_sizes": [64], "max_size": 107}  # small, for more epochs in the time


class Blank(DetectionDataset):
    """Everything but decoding: pictures of the right size without content."""

    def _read(self, index: int) -> Tensor:
        width, height = self.annotations.sizes[index].tolist()
        return torch.zeros((3, height, width), dtype=torch.uint8)


class Empty(nn.Module):
    """One weight, and a loss that counts which images it was given.

    Args:
        images: of the data set.
    """

    def __init__(self, images: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))
        self.seen = torch.zeros(images, dtype=torch.int32)

    def forward(self, images: list[Tensor], targets: list[Any]) -> dict[str, Tensor]:
        for target in targets:
            self.seen[target["index"]] += 1
        return {"loss": self.weight * len(images)}


def steps(told: dict[str, Any], tell: Callable[..., None]) -> None:
    """Takes steps in one process until the time is up, and tells of every epoch."""
    dist.init_process_group("gloo")
    task = make_task(told)
    task._dataset.__class__ = Blank
    empty = Empty(task.data.images)
    per_epoch = task.batches_per_epoch
    last = 1_000_000 * per_epoch
    tell(per_epoch=per_epoch, images=task.data.images)
    ends, epochs = time.monotonic() + 60 * told["minutes"], list[list[int]]()
    for step in train_steps(
        DistributedDataParallel(empty),
        task.stream(start=0, stop=last),
        torch.optim.SGD(empty.parameters(), lr=1e-4),
        Schedule(last),
        start=0,
        iterations=last,
        device=torch.device("cpu"),
    ):
        if step.iteration % per_epoch == 0:
            dist.all_reduce(empty.seen)
            epochs.append([int(empty.seen.max()), int((empty.seen == 0).sum())])
            empty.seen.zero_()
        if step.iteration % _ASKED_EVERY == 0:
            over = torch.tensor(float(time.monotonic() > ends))
            dist.all_reduce(over)
            if over:
                break
    dist.all_reduce(empty.seen)
    tell(steps=step.iteration, epochs=epochs, begun=int(empty.seen.max()))


def measure_steps(made: MadeData, asked: argparse.Namespace) -> dict[str, Any]:
    """Memory and handles of all processes while they take steps, and what each epoch dealt."""
    told = told_of(made, asked, "steps", masks=False, minutes=asked.minutes, **_SIDES)
    with crowd("training_process", asked.processes, told) as group:
        ready = group.heard()[0]
        seen = _watch(group)
        found = group.heard()[0]
    third = len(seen) // 3  # in the first one processes still come to what they need
    rows, facts = [], dict[str, Any]()
    for name, place in (("memory_mb", 0), ("largest_process_mb", 1), ("handles", 2)):
        values = [look[place] for look in seen]
        early, late = values[third : 2 * third + 1], values[2 * third :]
        facts[f"{name}_early"] = round(statistics.median(early))
        facts[f"{name}_late"] = round(statistics.median(late))
        facts[f"{name}_most"] = round(max(values))
        rows.append([name, *(facts[f"{name}_{when}"] for when in ("early", "late", "most"))])
    print(table(["", "second third", "last third", "most"], rows))
    batch = 2 * asked.processes
    left_out = ready["images"] - ready["per_epoch"] * batch
    gaps = [epoch for epoch in found["epochs"] if epoch != [1, left_out]]
    print(
        f"{found['steps']:,} steps, {len(found['epochs'])} whole epochs of {ready['images']:,} "
        f"images: {len(gaps)} with an image twice or left out but for the last {left_out}"
    )
    return {
        **facts,
        "minutes": asked.minutes,
        "steps": found["steps"],
        "epochs": len(found["epochs"]),
        "epochs_with_gaps": len(gaps),
        "left_out_of_an_epoch": left_out,
        "twice_in_the_last": found["begun"] > 1,
    }


def _watch(group: Crowd) -> list[tuple[float, float, int]]:
    """Memory of all, that of the largest, and handles of all, until the processes are done."""
    seen, first, wait = [], group.processes[0].stdout, 0.0
    while not select.select([first], [], [], wait)[0]:
        wait = _EVERY_S
        everyone = [each for main in group.ids for each in (main, *children(main))]
        memory = [pss_mb(each) for each in everyone]
        seen.append((sum(memory), max(memory), sum(map(handles, everyone))))
    return seen or [(0.0, 0.0, 0)]
