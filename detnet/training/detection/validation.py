"""The training losses on a validation split."""

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from detnet.coco.annotations import Annotations
from detnet.data.loaders import DetectionDataset, eval_loader
from detnet.data.transforms import train_transform
from detnet.engine.distributed import Process, all_gather
from detnet.engine.precision import autocast_to


@torch.no_grad()
def validation_losses(
    model: nn.Module,
    annotations: Annotations,
    batch_size: int,
    *,
    process: Process,
    autocast: torch.dtype | None,
    workers: int,
    seed: int,
) -> dict[str, float]:
    """Averages the training losses over a split, as `loss`, `loss_classifier` …

    The losses are those of training, their random samples of anchors and regions included, drawn
    from a stream of their own: the run's is left where it was. Batch norm goes by its running
    statistics.
    """
    detector: Any = model
    images = detector.transform.options
    transform = train_transform(min_sizes=(images.min_size,), max_size=images.max_size, flip_h=0.0)
    dataset = DetectionDataset(
        annotations,
        transform,
        seed=seed,
        masks=annotations.masks is not None,
        keypoints=annotations.keypoints is not None,
    )
    loader = eval_loader(
        dataset,
        batch_size=max(1, batch_size),
        workers=workers,
        rank=process.rank,
        world_size=process.world_size,
    )
    sums: dict[str, float] = {}
    count = 0
    cuda = [process.device] if process.device.type == "cuda" else []
    with torch.random.fork_rng(devices=cuda), _losses_without_learning(model):
        torch.manual_seed(seed)
        for images, targets in loader:
            inputs = [image.to(process.device) for image in images]
            aims = [
                {k: v.to(process.device) if hasattr(v, "to") else v for k, v in target.items()}
                for target in targets
            ]
            with autocast_to(process.device, autocast):
                losses = model(inputs, aims)
            for name, value in losses.items():
                sums[name] = sums.get(name, 0.0) + float(value) * len(images)
            count += len(images)
    parts = all_gather((sums, count))
    images_seen = max(1, sum(part[1] for part in parts))
    names = {name for part in parts for name in part[0]}
    means = {
        name: sum(part[0].get(name, 0.0) for part in parts) / images_seen for name in sorted(names)
    }
    return {"loss": sum(means.values()), **means}


@contextlib.contextmanager
def _losses_without_learning(model: nn.Module) -> Iterator[None]:
    """Train mode for the losses, but normalisation and dropout as in evaluation."""
    still = (nn.modules.batchnorm._NormBase, nn.modules.dropout._DropoutNd)
    model.train()
    for layer in model.modules():
        if isinstance(layer, still):
            layer.eval()
    try:
        yield
    finally:
        model.eval()
