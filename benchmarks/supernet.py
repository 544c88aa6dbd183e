"""What a supernet costs: a training step on one of its paths against the network by itself.

    python benchmarks/supernet.py

Forward and backward of a classifier at width 0.25, 64 pixels, batch 16, in turns, channels_last and
in bf16 where that is fast, as `detnet search` trains; every run of the supernet switches to another
path first, and the network alone is that path's.
"""

import copy
import itertools
import time
from collections.abc import Callable

import numpy as np
import torch
from harness import arguments, compare
from machine import Work, count_training, own_precision
from torch import Tensor, nn

from detnet.backbones.base import Classifier
from detnet.backbones.spaces.space import Space, read_space, take_path
from detnet.engine.machine import autocast_to
from detnet.engine.processor import keep_freed_memory

WIDTH, SIDE, BATCH, CLASSES = 0.25, 64, 16, 40
PATHS = 4


def random_paths(space: Space) -> list[tuple[int, ...]]:
    """Paths drawn gene by gene."""
    counts = [len(gene.choices) for gene in space.genes]
    draws = np.random.default_rng(0).integers(counts, size=(PATHS, len(counts)))
    return [space.check(path) for path in draws.tolist()]


def step(model: nn.Module, images: Tensor, dtype: torch.dtype | None) -> None:
    """Forward and backward; gradients begin as none, as in training."""
    model.zero_grad(set_to_none=True)
    with autocast_to(images.device, dtype):
        logits = model(images)
    logits.float().square().mean().backward()


def sides(
    space: Space, dtype: torch.dtype | None
) -> tuple[Callable[[], None], Callable[[], None], Classifier, Work]:
    """One round of the supernet through all paths, and of the networks one after another."""
    paths = random_paths(space)
    images = torch.rand(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    images = images.to(memory_format=torch.channels_last)
    shared = Classifier(space.supernet(width=WIDTH), CLASSES).train()
    alone = [Classifier(space.network(path, width=WIDTH), CLASSES).train() for path in paths]
    # In fp64, where torch's own gradients of depthwise convolutions are taken.
    whole = [copy.deepcopy(model).double() for model in alone]
    macs = sum(count_training(lambda m=m: step(m, images.double(), None)) for m in whole)
    for model in (shared, *alone):
        model.to(memory_format=torch.channels_last)

    def ours() -> None:
        for path in paths:
            take_path(shared, path)
            step(shared, images, dtype)

    def theirs() -> None:
        for model in alone:
            step(model, images, dtype)

    return ours, theirs, shared, Work(macs, dtype)


def switch_s(model: nn.Module, space: Space, count: int = 200) -> float:
    """Seconds that one switch takes."""
    paths = random_paths(space)
    start = time.perf_counter()
    for path in itertools.islice(itertools.cycle(paths), count):
        take_path(model, path)
    return (time.perf_counter() - start) / count


def main() -> None:
    options = arguments(__doc__ or "", repeats=15)
    keep_freed_memory()  # as training does
    for name in ("detnas_small", "detnet"):
        space = read_space(name)
        ours, theirs, shared, work = sides(space, own_precision())
        switch = switch_s(shared, space)
        print(f"{name}: a switch {switch * 1000:.3f} ms; {PATHS} steps", end=", ")
        compare(
            "supernet",
            ours,
            theirs,
            repeats=options.repeats,
            work=work,
            facts={
                "space": name,
                "width": WIDTH,
                "side": SIDE,
                "batch": BATCH,
                "paths": PATHS,
                "switch_ms": round(switch * 1000, 4),
            },
        )


if __name__ == "__main__":
    main()
