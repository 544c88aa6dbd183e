"""What compared detectors cost: multiply-adds, parameters, and images per second here and now."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from detnet.backbones.cost import count_macs, count_params
from detnet.data.images import read_image
from detnet.detectors.base import Detector
from detnet.detectors.files import load_model
from detnet.engine.machine import (
    autocast_to,
    choose_precision,
    wait_for,
)
from detnet.engine.processor import keep_freed_memory
from detnet.evaluation.comparison.compare import ComparedCost, ModelCost
from detnet.evaluation.comparison.sources import Compared
from detnet.inference.engines.record import is_export
from detnet.inference.fuse import fuse
from detnet.inference.models import MODEL_FILES, find_model
from detnet.inference.predictor import usable_device
from detnet.training.estimate import device_name

_PATIENCE_S = 6.0  # of one model


def add_cost(
    compared: Compared,
    sources: Sequence[Path],
    *,
    models: Sequence[str] | None = None,
    count: int = 12,
    precision: str = "auto",
    device: str = "auto",
) -> None:
    """Puts "cost" into a comparison (see `measure`), or a note on why it is not there.

    Args:
        sources: what was compared; run folders have their models in them.
        models: run folders or model files to take instead, "-" for none.
        count: how many images, evenly over all there are.

    Raises:
        InputError: a model that was asked for is not there or cannot be read.
    """
    files = _model_files(sources, models)
    exports = [] if models else [source for source in sources if is_export(source)]
    if exports:
        notes = compared.comparison.setdefault("notes", [])
        named = " ".join(map(str, exports))
        notes.append(f"what exports cost is not told here: `detnet bench {named}` times them")
    if not any(files):
        return
    ground = compared.ground_truth
    folder = ground.images
    paths = [folder / name for name in ground.file_names.values()] if folder else []
    chosen = spread(paths, count)
    if not chosen or not all(path.is_file() for path in chosen):
        missing = next((str(path) for path in chosen if not path.is_file()), "no image folder")
        notes = compared.comparison.setdefault("notes", [])
        notes.append(f"no multiply-adds, parameters and speed: images are not found ({missing})")
        return
    compared.comparison["cost"] = measure(files, chosen, precision=precision, device=device)


def _model_files(sources: Sequence[Path], models: Sequence[str] | None) -> list[Path | None]:
    if models:
        return [None if model == "-" else find_model(model) for model in models]
    return [
        next((file for name in MODEL_FILES if (file := source / name).is_file()), None)
        for source in sources
    ]


def measure(
    models: Sequence[Path | None],
    images: Sequence[Path],
    *,
    precision: str = "auto",
    device: str = "auto",
    clock: Callable[[], float] = time.perf_counter,
) -> ComparedCost:
    """Counts and times each model on the same images, one image at a time.

    The models take turns at every image, so that a machine that slows down slows all of them, and
    each is run once before. Images are in memory, reading them is not timed; a slow model stops
    when some seconds are over.

    Args:
        models: their files; None where there is none at hand.
        images: at least one.
        precision: "fp32", "bf16", or "auto" for bf16 where it is fast.
        device: "cpu", "cuda", or "auto" for CUDA where there is some.

    Raises:
        InputError: a model or an image cannot be read.
    """
    keep_freed_memory()
    place = usable_device(None if device == "auto" else device)
    dtype = choose_precision(precision, place)
    pictures = [read_image(path) for path in images]
    networks = [None if path is None else load_model(path).eval() for path in models]
    costs = [None if network is None else _count(network, pictures[0]) for network in networks]
    fused = [
        None if network is None else fuse(network.to(place), dtype=dtype) for network in networks
    ]
    seconds = _take_turns(fused, [picture.to(place) for picture in pictures], dtype, clock)
    return ComparedCost(
        images=max(map(len, seconds), default=0),
        precision="bf16" if dtype is torch.bfloat16 else "fp32",
        device=device_name(place),
        threads=torch.get_num_threads(),
        models=[
            cost and {**cost, "images_per_s": len(taken) / sum(taken)}
            for cost, taken in zip(costs, seconds, strict=True)
        ],
    )


def spread(paths: Sequence[Path], count: int) -> list[Path]:
    """So many of the paths, evenly over all of them."""
    places = np.linspace(0, len(paths) - 1, min(count, len(paths))).round().astype(int)
    return [paths[place] for place in places.tolist()]


def _count(detector: Detector, picture: Tensor) -> ModelCost:
    """Multiply-adds in fp32 on the CPU, where torch's counter sees all of them."""
    with torch.no_grad():
        scaled, _ = detector.transform([picture])
    height, width = scaled.image_sizes[0]
    return ModelCost(
        macs=count_macs(lambda: detector([picture])),
        body_macs=count_macs(lambda: detector.backbone(scaled.tensors)),
        params=count_params(detector),
        input_size=(int(height), int(width)),
        images_per_s=0.0,
    )


@torch.inference_mode()
def _take_turns(
    networks: Sequence[nn.Module | None],
    pictures: Sequence[Tensor],
    dtype: torch.dtype | None,
    clock: Callable[[], float],
) -> list[list[float]]:
    """Seconds of each network for each picture, until its time is over."""

    def run(network: nn.Module, picture: Tensor) -> float:
        began = clock()
        with autocast_to(picture.device, dtype):
            network([picture])
        wait_for(picture.device)
        return clock() - began

    taken: list[list[float]] = [[] for _ in networks]
    for network in networks:
        if network is not None:
            run(network, pictures[0])
    for picture in pictures:
        for network, own in zip(networks, taken, strict=True):
            if network is not None and sum(own) < _PATIENCE_S:
                own.append(run(network, picture))
    return taken
