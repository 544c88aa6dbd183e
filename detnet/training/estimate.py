"""Measures a training step of a recipe on this machine, and says what the whole run would take."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from detnet.backbones.cost import count_macs, count_params
from detnet.coco.categories import Categories
from detnet.detectors import DETECTORS
from detnet.engine import distributed
from detnet.engine.loop import Batch, train_steps
from detnet.engine.machine import (
    choose_precision,
    is_accelerator,
    wait_for,
)
from detnet.engine.optim import Schedule, sgd
from detnet.engine.processor import keep_freed_memory
from detnet.engine.watch import Step
from detnet.training.catalogue import RECIPES
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import TrainedClassifier, build_classifier
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector
from detnet.training.run_config import RunConfig

MEASURED_IMAGES = {PretrainConfig: 16, TrainConfig: 2}  # of a step, at most, in a forecast
_OBJECTS = 7  # in a COCO image, on average
CLASSES = 80
_KEYPOINTS = 17  # of COCO's persons
_ASPECT = 4 / 3  # of most COCO images
_IMAGENET = 1_281_167  # training images
IMAGENET_CLASSES = 1000


@dataclass(frozen=True)
class Estimate:
    """What a recipe costs here.

    Args:
        macs: multiply-adds on one image of `image_size`.
        counted: what `macs` counts.
        params: of the whole model.
        image_size: height and width of the measured images in pixels.
        images: of the measured step, at once.
        step_s: seconds of that step.
        peak_bytes: largest memory, of the process on a CPU or of a GPU.
        device: "cpu" or the GPU's name.
        total_s: seconds of the whole run at that pace, reading and evaluation not counted.
    """

    macs: int
    counted: str
    params: int
    image_size: tuple[int, int]
    images: int
    step_s: float
    peak_bytes: int
    device: str
    total_s: float


def estimate(name: str, *, images: int = 1, device: str | None = None, steps: int = 2) -> Estimate:
    """Takes a few training steps on noise of the recipe's image size and times the last.

    The network, its losses and the optimizer's step are the recipe's; only the pictures are made
    up, with seven objects each as COCO has on average.

    Args:
        name: of `RECIPES`.
        images: per step. A run reaches its batch by accumulating, at the same pace.
        device: "cpu" or "cuda"; None takes what is there.
        steps: the first of which only warms up.
    """
    keep_freed_memory()
    place = distributed.single_process(device).device
    return measure_steps(_config(name), place, images=images, steps=steps)


def measured_size(name: str) -> tuple[int, int]:
    """Tells height and width of the images that `estimate` measures a recipe on, pixels."""
    config = _config(name)
    if isinstance(config, TrainConfig):
        return _image_size(config)
    return config.image_size, config.image_size


def _config(name: str) -> TrainConfig | PretrainConfig:
    detect = RECIPES[name].command == "train"
    kind: type[TrainConfig | PretrainConfig] = TrainConfig if detect else PretrainConfig
    return kind.make(name, {})


def measure_steps(
    config: TrainConfig | PretrainConfig,
    place: torch.device,
    *,
    images: int,
    steps: int,
    classes: int | None = None,
) -> Estimate:
    """Measures a training of any settings as `estimate` does that of a recipe.

    Args:
        classes: of the data, without background; COCO's or ImageNet's by default. SSD on three
            takes a third of the time of SSD on eighty.
    """
    if isinstance(config, TrainConfig):
        size, classes = _image_size(config), classes or CLASSES
        categories = Categories(tuple(range(1, classes + 1)), tuple(map(str, range(classes))))
        model: nn.Module = build_detector(config, categories)
        batch, counted = scenes(config, size, images, classes), "of backbone and pyramid"
    else:
        size, classes = (config.image_size, config.image_size), classes or IMAGENET_CLASSES
        model = build_classifier(config, tuple(map(str, range(classes))))
        batch, counted = pictures(config, images, classes), "with the classifier"
    seconds = _time_steps(model, batch, config, place, steps)
    return Estimate(
        macs=_macs(model, size, place),
        counted=counted,
        params=count_params(model),
        image_size=size,
        images=images,
        step_s=seconds,
        peak_bytes=_peak(place),
        device=device_name(place),
        total_s=seconds / images * shown_images(config),
    )


def trial_steps(
    model: nn.Module, batches: Iterable[Batch], config: RunConfig, device: torch.device, steps: int
) -> Iterator[Step]:
    """Takes first steps of a training on a network that is then thrown away, to time them."""
    return train_steps(
        model.to(device).to(memory_format=torch.channels_last),
        batches,
        sgd(model, lr=1e-6, momentum=config.momentum, weight_decay=config.weight_decay),
        Schedule(steps, kind="constant", warmup="none"),
        start=0,
        iterations=steps,
        device=device,
        clip_norm=1.0,
        autocast=choose_precision(config.precision, device),
    )


def _time_steps(
    model: nn.Module, batch: Batch, config: RunConfig, place: torch.device, steps: int
) -> float:
    """Seconds of the last step."""
    taken = trial_steps(model, [batch] * steps, config, place, steps)
    return [_timed(lambda: next(taken), place) for _ in range(steps)][-1]


def shown_images(config: TrainConfig | PretrainConfig) -> float:
    """Images that the whole run shows; an epoch is COCO's or ImageNet's."""
    length = config.length
    if "iterations" in length:
        return length["iterations"] * config.batch_size
    epoch = 118_287 if isinstance(config, TrainConfig) else _IMAGENET
    return length["epochs"] * epoch


def _image_size(config: TrainConfig) -> tuple[int, int]:
    """A landscape image as the recipe resizes it, the middle one of its scales."""
    short = sorted(config.min_sizes)[len(config.min_sizes) // 2]
    return short, min(config.max_size, round(short * _ASPECT))


def scenes(
    config: TrainConfig, size: tuple[int, int], images: int, classes: int = CLASSES
) -> Batch:
    """Makes up a detector's batch: noise of a size, height and width, with seven objects each."""
    generator = torch.Generator().manual_seed(0)
    height, width = size
    pictures, targets = [], []
    for image in range(images):
        pictures.append(
            torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)
        )
        corners = torch.rand(_OBJECTS, 2, generator=generator) * 0.5
        sides = torch.rand(_OBJECTS, 2, generator=generator) * 0.4 + 0.05
        scale = torch.tensor([width, height, width, height])
        target: dict[str, Any] = {
            "boxes": torch.cat([corners, corners + sides], 1) * scale,
            "labels": torch.randint(1, classes + 1, (_OBJECTS,), generator=generator),
            "image_id": image,
        }
        if "masks" in DETECTORS[config.detector].targets:
            target["masks"] = torch.ones(_OBJECTS, height, width, dtype=torch.uint8)
        if "keypoints" in DETECTORS[config.detector].targets:
            corner, side = target["boxes"][:, None, :2], (sides * scale[:2])[:, None]
            places = corner + side * torch.rand(_OBJECTS, _KEYPOINTS, 2, generator=generator)
            target["keypoints"] = torch.cat([places, torch.full_like(places[..., :1], 2)], 2)
        targets.append(target)
    return pictures, targets


def pictures(config: PretrainConfig, images: int, classes: int = IMAGENET_CLASSES) -> Batch:
    """Makes up a classifier's batch of noise."""
    side = config.image_size
    generator = torch.Generator().manual_seed(0)
    plain = {"color": (1.0, 1.0, 1.0, 0), "light": (0.0, 0.0, 0.0), "share": 1.0}
    pixels = torch.randint(0, 256, (images, 3, side, side), dtype=torch.uint8, generator=generator)
    targets = [{"image_id": i, "label": i % classes, **plain} for i in range(images)]
    return pixels, targets


def _timed(step: Callable[[], Any], place: torch.device) -> float:
    began = time.perf_counter()
    step()
    wait_for(place)
    return time.perf_counter() - began


def _macs(model: nn.Module, size: tuple[int, int], place: torch.device) -> int:
    """Of a classifier, or of a detector's backbone and pyramid: its heads' depend on the image."""
    body: Any = model if isinstance(model, TrainedClassifier) else model.backbone
    image = torch.zeros(1, 3, *size, device=place)
    model.eval()
    return count_macs(lambda: body(image))


def device_name(device: torch.device) -> str:
    """What the device calls itself, for people; a processor is "cpu"."""
    if not is_accelerator(device):
        return device.type
    return str(torch.get_device_module(device).get_device_name(device))


def _peak(place: torch.device) -> int:
    if is_accelerator(place):
        return int(torch.get_device_module(place).max_memory_allocated(place))
    import resource  # Windows has none, and trains without

    unit = 1 if sys.platform == "darwin" else 1024  # the system counts bytes there, KiB elsewhere
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit
