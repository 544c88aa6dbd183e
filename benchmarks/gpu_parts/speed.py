"""The parts of `gpu.py` that time ours beside torchvision's, on one device in one precision."""

import statistics
from collections.abc import Callable, Iterator
from functools import partial
from itertools import repeat
from typing import Any

import torch
from gpu_parts.place import Found, Place, loop_steps, turns
from inference import agreement, networks, picture, runner, width_of
from roi_align import STRIDES, proposals, pyramid, step, with_backward
from torch import Tensor, nn
from torchvision.ops import MultiScaleRoIAlign
from train_step import CLASSES, ours, reference

from detnet.detectors.roi import LevelPooler
from detnet.engine.loop import Batch
from detnet.engine.machine import autocast_to, configure_cuda, precision_name
from detnet.engine.optim import sgd
from detnet.engine.scale import LossScale
from detnet.inference.fuse import fuse

TRAINING_TARGET, INFERENCE_TARGET = 1.2, 1.3  # times torchvision's pace, in the same precision
_IMAGES = 2  # of a step, as the papers have them on a device


def part_train_step(place: Place) -> Found:
    """A training step of Faster R-CNN R50-FPN, each side as its own program takes it."""
    configure_cuda(place.device, tf32=False, fixed_size=False)
    return _beside(place, _training, TRAINING_TARGET, "steps/s", place.steps)


def part_inference(place: Place) -> Found:
    """Faster R-CNN R50-FPN on a picture, with the same weights."""
    configure_cuda(place.device, tf32=False, fixed_size=False)
    return _beside(place, _predicting, INFERENCE_TARGET, "images/s", 1)


Sides = tuple[Callable[[], Any], Callable[[], Any]]


def _beside(
    place: Place,
    make: Callable[[Place, torch.dtype | None], Sides],
    target: float,
    unit: str,
    each: int,
) -> Found:
    """Ours and theirs in turns, in fp32 and in half precision, and what the half gains."""
    lines, pace, held = [], dict[str, float](), True
    for dtype in (None, place.half):
        name = precision_name(dtype)
        one, other = make(place, dtype)
        turns(one, place, 1), turns(other, place, 1)
        times: tuple[list[float], list[float]] = [], []
        for _ in range(place.repeats):
            for found, run in zip(times, (one, other), strict=True):
                found += turns(run, place, 1, warm=False)
        mine, theirs = (each / statistics.median(found) for found in times)
        ratio = mine / theirs
        held = held and (ratio >= target or place.tiny)
        pace |= {f"{name} ours": mine, f"{name} torchvision": theirs, f"{name} ratio": ratio}
        lines.append(
            f"{name}: {mine:.2f} {unit}, torchvision {theirs:.2f}: {ratio:.2f} times as fast "
            f"(aim {target:g})"
        )
    half = precision_name(place.half)
    gain = pace[f"{half} ours"] / pace["fp32 ours"]
    lines.append(f"{half} is {gain:.2f} times as fast as fp32")
    return Found(held, lines, pace | {"half over fp32": gain})


def _training(place: Place, dtype: torch.dtype | None) -> Sides:
    torch.manual_seed(0)
    theirs = reference(place.side)
    mine = ours(theirs).to(place.device)
    optimizer = sgd(mine, lr=1e-4, momentum=0.9, weight_decay=1e-4, fused=True)
    scale = LossScale(place.first) if dtype is torch.float16 else None
    batch = _scenes(place)
    steps = loop_steps(mine, repeat(batch), optimizer, place, stop=10_000, dtype=dtype, scale=scale)
    their_steps = _their_steps(theirs.to(place.device), batch, place, dtype)

    def several(source: Iterator[Any]) -> Callable[[], None]:
        def run() -> None:
            for _ in range(place.steps):
                next(source)

        return run

    return several(steps), several(their_steps)


def _scenes(place: Place) -> Batch:
    """Pictures of noise in bytes, as a loader gives them, with seven boxes each."""
    generator = torch.Generator().manual_seed(0)
    height, width = place.side, width_of(place.side)
    images, targets = [], []
    for number in range(_IMAGES):
        pixels = torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        images.append(pixels.pin_memory())
        corner = torch.rand(7, 2, generator=generator) * height * 0.7
        extent = height * (0.05 + 0.25 * torch.rand(7, 2, generator=generator))
        labels = torch.randint(1, CLASSES, (7,), generator=generator)
        boxes = torch.cat([corner, corner + extent], dim=1)
        targets.append({"boxes": boxes, "labels": labels, "image_id": number})
    return images, targets


def _their_steps(
    model: nn.Module, batch: Batch, place: Place, dtype: torch.dtype | None
) -> Iterator[None]:
    """The loop of torchvision's own reference training, which reads the loss at each step."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    optimizer = torch.optim.SGD(trained, lr=1e-4, momentum=0.9, weight_decay=1e-4)
    scaled = dtype is torch.float16
    scaler = torch.amp.GradScaler(place.device.type, enabled=scaled)
    pictures = [(image / 255).pin_memory() for image in batch[0]]
    model.train()
    while True:
        images = [picture.to(place.device) for picture in pictures]
        targets = [
            {name: target[name].to(place.device) for name in ("boxes", "labels")}
            for target in batch[1]
        ]
        with autocast_to(place.device, dtype):
            losses = sum(model(images, targets).values())
        if not torch.isfinite(losses).item():
            raise ArithmeticError("torchvision's loss is not finite")
        optimizer.zero_grad()
        if scaled:
            scaler.scale(losses).backward()
            scaler.step(optimizer)
            scaler.update()
        else:
            losses.backward()
            optimizer.step()
        yield


def _predicting(place: Place, dtype: torch.dtype | None) -> Sides:
    mine, theirs = networks("r50", place.side)
    image = picture(place.side).to(place.device)
    one = runner(fuse(mine.to(place.device), dtype=dtype), image, dtype)
    other = runner(theirs.to(place.device), image, dtype)
    found, expected = (
        {name: value.float().cpu() for name, value in run().items()} for run in (one, other)
    )
    share = agreement(found, expected)["agreement_75"]
    if dtype is None and share < 0.95:
        raise ArithmeticError(f"only {share:.0%} of torchvision's detections are found in fp32")
    return one, other


def part_roi_align(place: Place) -> Found:
    """RoIAlign forward and backward over four levels."""
    rois = 64 if place.tiny else 2048
    boxes = [each.to(place.device) for each in proposals(rois)]
    levels = [f"p{i}" for i in range(2, 6)]
    mine = LevelPooler(levels, STRIDES, output_size=7)
    theirs = MultiScaleRoIAlign(levels, 7, 2)
    lines, figures, held = [], dict[str, float](), True
    for dtype in (None, place.half):
        features = _on(place, pyramid(dtype or torch.float32, torch.channels_last))
        plain = _on(place, pyramid(torch.float32, torch.contiguous_format))
        one = partial(_pooled, place, mine, features, boxes, dtype)
        other = partial(_pooled, place, theirs, plain, boxes, None)
        away = (one().float() - other()).abs().max().item()
        held = held and away < (1e-3 if dtype is None else 0.1)
        runs = [with_backward(run) for run in (one, other)]
        took = [statistics.median(turns(run, place, place.repeats)) for run in runs]
        name = precision_name(dtype)
        figures |= {f"{name} ours_s": took[0], f"{name} torchvision_s": took[1], name: away}
        lines.append(
            f"{name}: {1000 * took[0]:.2f} ms, torchvision in fp32 {1000 * took[1]:.2f} ms: "
            f"{took[1] / took[0]:.2f} times as fast; at most {away:.1e} apart"
        )
    return Found(held, lines, figures)


def _pooled(
    place: Place,
    pooler: nn.Module,
    features: dict[str, Tensor],
    boxes: list[Tensor],
    dtype: torch.dtype | None,
) -> Tensor:
    with autocast_to(place.device, dtype):
        return step(pooler, features, boxes)


def _on(place: Place, features: dict[str, Tensor]) -> dict[str, Tensor]:
    return {
        name: level.detach().to(place.device).requires_grad_() for name, level in features.items()
    }
