"""What a training takes on so many devices, by arithmetic, before any of them is asked.

Nothing here is measured on a device, so everything is an estimate. Two things come from one forward
pass of a training step on the CPU: how many bytes it keeps for the backward pass (the tensors that
autograd saves, each storage once), and its multiply-adds, heads included. Both are a constant and a
share of the pixels, so that two small images tell what a large one takes.
"""

import os
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from detnet.coco.categories import Categories
from detnet.detectors.base import Detector
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.engine.machine import choose_precision, drawing_from, precision_name
from detnet.errors import InputError
from detnet.text import gibibytes
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.network import build_classifier
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector
from detnet.training.estimate import (
    CLASSES,
    IMAGENET_CLASSES,
    pictures,
    scenes,
    shown_images,
)
from detnet.training.run_config import RunConfig

_SETTING = "DETNET_MEMORY_CHECK"
_CPU = torch.device("cpu")
_SIDES = (192, 320)  # pixels of the short sides at which a detector's step is looked at
_PAIR = 2  # images, which a classifier's last batch norms need
_STEP = 32  # pixels; images are padded to multiples of it
_FULL, _HALF = 4, 2  # bytes of a number
_BACKWARD = 3  # multiply-adds of a training step over those of its forward pass
_PASSES = 8  # over what is kept: written, read, normalised; gradients of it the same once more
# A second and device: what is taken for what a training step makes of an A100's 312 and 1.6.
TFLOPS, TBYTES = 60.0, 0.8
_RESERVE, _SHARE = 2**30, 0.1  # context and workspaces; fragments, of what is kept


@dataclass(frozen=True)
class ImageCost:
    """What one image of the largest size takes in a training step's forward pass.

    Args:
        saved_bytes: kept for the backward pass.
        macs: multiply-adds, those of the heads included.
        params: of the whole model.
        trained: those that have a gradient.
    """

    saved_bytes: float
    macs: float
    params: int
    trained: int


@dataclass(frozen=True)
class StepMemory:
    """Bytes of one device's memory at the height of a training step, estimated.

    Args:
        images: at once.
        weights: with buffers, their copies in half precision, and averages.
        gradients: with the buckets in which processes exchange them.
        optimizer: its momentum.
        activations: what is kept for the backward pass.
        reserve: for the device's context, workspaces and fragments.
    """

    images: int
    weights: float
    gradients: float
    optimizer: float
    activations: float
    reserve: float

    @property
    def needed(self) -> float:
        """Without the reserve."""
        return self.weights + self.gradients + self.optimizer + self.activations

    @property
    def total(self) -> float:
        return self.needed + self.reserve


@dataclass(frozen=True)
class DevicePlan:
    """What a training takes on so many devices, estimated.

    Args:
        devices: how many share a step.
        images: of a device at once.
        accumulate: batches of a step.
        lr: at this batch.
        memory: of each device.
        fits: batches to be accumulated for it to fit; None where it does not at all.
        shown: images of the whole run.
        macs: of the whole run, all devices together.
        image_s: seconds of a device for each image, by arithmetic of its multiply-adds and of the
            memory's traffic; reading and waiting for others are not in it.
    """

    devices: int
    images: int
    accumulate: int
    lr: float
    memory: StepMemory
    fits: int | None
    shown: float
    macs: float
    image_s: float

    @property
    def seconds(self) -> float:
        """Of the whole run."""
        return self.image_s * self.shown / self.devices


def image_cost(config: TrainConfig | PretrainConfig) -> ImageCost:
    """Takes the forward pass of a training step on made-up images, to see what it keeps.

    Raises:
        InputError: an unknown name or option.
    """
    with drawing_from(0, _CPU):
        if isinstance(config, PretrainConfig):
            names = tuple(map(str, range(IMAGENET_CLASSES)))
            model: nn.Module = build_classifier(config, names)
            kept, macs = _look(model, pictures(config, _PAIR), config.precision)
            kept, macs = kept / _PAIR, macs / _PAIR
        else:
            categories = Categories(tuple(range(1, CLASSES + 1)), tuple(map(str, range(CLASSES))))
            detector = model = build_detector(config, categories)
            kept, macs = _at_largest(detector, config)
    parameters = list(model.parameters())
    return ImageCost(
        saved_bytes=kept,
        macs=macs,
        params=sum(each.numel() for each in parameters),
        trained=sum(each.numel() for each in parameters if each.requires_grad),
    )


def _at_largest(model: Detector, config: TrainConfig) -> tuple[float, float]:
    """Bytes kept and multiply-adds of the largest image, by those of two small ones."""
    largest = (max(config.min_sizes), config.max_size)
    if largest[0] <= _SIDES[-1] or model.transform.square:
        return _look(model, scenes(config, largest, 1), config.precision)
    found, pixels = [], _padded(largest)
    for short in _SIDES:
        height, width = (round(short / largest[0] * side / _STEP) * _STEP for side in largest)
        seen = _look(model, scenes(config, (height, width), 1), config.precision)
        found.append((height * width, *seen))
    (few, kept, macs), (more, kept_more, macs_more) = found
    ahead = (pixels - few) / (more - few)
    return kept + ahead * (kept_more - kept), macs + ahead * (macs_more - macs)


def _padded(size: tuple[int, int]) -> int:
    """Pixels of an image whose sides are filled up to multiples of 32."""
    height, width = (-(-side // _STEP) * _STEP for side in size)
    return height * width


def _look(model: nn.Module, batch: Batch, precision: str) -> tuple[float, float]:
    """Bytes that the forward pass of a step keeps, and its multiply-adds.

    It computes in fp32, which every processor does quickly, and takes what is kept for half as much
    in half precision: losses and pooling stay in fp32 there, which is a little of it.
    """
    own = {each.untyped_storage().data_ptr() for each in model.state_dict().values()}
    kept: dict[int, Tensor] = {}  # held, or another would get the same place

    def keep(tensor: Tensor) -> Tensor:
        tensor = tensor.detach()  # an output that its own step keeps would never be let go
        kept.setdefault(tensor.untyped_storage().data_ptr(), tensor)
        return tensor

    model.train()
    with (
        FlopCounterMode(display=False) as counter,
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
    ):
        model(*batch)
    nbytes = 0.0
    for place, tensor in kept.items():
        if place not in own:
            halved = precision != "fp32" and tensor.dtype == torch.float32
            nbytes += tensor.untyped_storage().nbytes() / (2 if halved else 1)
    return nbytes, counter.get_total_flops() / 2


def step_memory(
    cost: ImageCost, config: TrainConfig | PretrainConfig, *, images: int, processes: int
) -> StepMemory:
    """Adds up what a device holds at the height of a step.

    Args:
        images: at once.
        processes: that train together; several exchange gradients in buckets.
    """
    copies = 0 if config.precision == "fp32" else _HALF
    average = _FULL if config.ema else 0
    gradients = _FULL * cost.trained
    activations = images * cost.saved_bytes
    return StepMemory(
        images=images,
        weights=(_FULL + copies + average) * cost.params,
        gradients=gradients * (2 if processes > 1 else 1),
        optimizer=gradients,
        activations=activations,
        reserve=_RESERVE + _SHARE * activations,
    )


def plan_training(
    config: TrainConfig | PretrainConfig, *, devices: int, limit: float | None = None
) -> DevicePlan:
    """Says what each of several devices gets of a training, and whether that fits its memory.

    Args:
        limit: bytes of each device's memory.

    Raises:
        InputError: the batch cannot be divided among the devices, or an option is unknown.
    """
    images, cost = config.batch_of(devices), image_cost(config)
    memory = step_memory(cost, config, images=images, processes=devices)
    shown = shown_images(config)
    seconds = _BACKWARD * 2 * cost.macs / (TFLOPS * 1e12)
    seconds += _PASSES * cost.saved_bytes / (TBYTES * 1e12)
    return DevicePlan(
        devices=devices,
        images=images,
        accumulate=config.accumulate,
        lr=config.lr * config.batch_size / (config.lr_batch or config.batch_size),
        memory=memory,
        fits=_fitting(cost, config, devices, limit) if limit else config.accumulate,
        shown=shown,
        macs=_BACKWARD * cost.macs * shown,
        image_s=seconds,
    )


def _fitting(
    cost: ImageCost, config: TrainConfig | PretrainConfig, processes: int, limit: float
) -> int | None:
    """The fewest accumulated batches of which each fits."""
    whole = config.batch_size // processes
    for accumulate in range(config.accumulate, whole + 1):
        if whole % accumulate == 0:
            images = whole // accumulate
            if step_memory(cost, config, images=images, processes=processes).total <= limit:
                return accumulate
    return None


def check_memory(config: RunConfig, process: Process) -> list[str]:
    """Makes sure that a step fits into what this process's CUDA device has free, if it has one.

    Returns:
        A line that tells what a step takes; nothing for other devices.

    Raises:
        InputError: as `require_memory`.
    """
    if isinstance(config, TrainConfig | PretrainConfig) and process.device.type == "cuda":
        free, _ = torch.cuda.mem_get_info(process.device)
        # What is left to the device is settled: one without bf16 keeps twice as much.
        kind: Any = precision_name(choose_precision(config.precision, process.device))
        settled = replace(config, precision=kind)
        return [require_memory(settled, processes=process.world_size, limit=free)]
    return []


def require_memory(config: TrainConfig | PretrainConfig, *, processes: int, limit: float) -> str:
    """Makes sure, before a training begins, that a step fits into a device.

    Only what cannot fit is refused: by weights, gradients, momentum and what is kept for the
    backward pass alone, without the reserve. `DETNET_MEMORY_CHECK=never` begins all the same.

    Args:
        limit: bytes that the device has free.

    Returns:
        A line that tells what a step takes.

    Raises:
        InputError: it does not fit; names what does, and the option for it.
    """
    cost, images = image_cost(config), config.batch_of(processes)
    memory = step_memory(cost, config, images=images, processes=processes)
    told = (
        f"about {gibibytes(memory.total)} of the device's {gibibytes(limit)} of memory (estimated)"
    )
    if memory.needed <= limit or os.environ.get(_SETTING) == "never":
        return f"a step of {images} images at once takes {told}"
    fits = _fitting(cost, config, processes, limit)
    if fits is None:
        remedy = "not even one image fits; take smaller ones (min_sizes, max_size, image_size)"
    else:
        fewer = step_memory(
            cost, config, images=config.batch_size // processes // fits, processes=processes
        )
        remedy = f"--accumulate {fits} takes {fewer.images} at once and {gibibytes(fewer.total)}"
        if config.norm != "frozen":
            remedy += ", which batch norm is then over"
    raise InputError(f"a step of {images} images at once would take {told}: {remedy}")
