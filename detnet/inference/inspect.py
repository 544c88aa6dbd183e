"""Looks into a backbone: what its stages keep of an image, and how far their cells look.

    inspection = inspect_model(load_model(path), read_image(image), name="detnet59")
    [(stage.name, stage.size, stage.effective) for stage in inspection.stages]

Paper: Li et al. 2018, arXiv:1804.06215, Section 3.1 (why the deep stages of a detector should keep
their resolution); Luo et al. 2016, arXiv:1701.04128 (the effective receptive field).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.errors import InputError

SHARES = (0.68, 0.95)


@dataclass(frozen=True)
class StageView:
    """What one stage of a backbone makes of one image.

    Args:
        name: of the level, `c2` ….
        channels: of the level.
        stride: input pixels per cell.
        size: height and width of the level over the image, cells; padding is left out.
        activation: (height, width) float32, mean over the channels of the absolute activation.
        energy: (H, W) float64 of the network's input without padding, see `receptive_energy`; it
            sums to 1, or is zero everywhere if the cell is dead.
        centre: (y, x) of the cell that looks, input pixels.
        receptive_field: side in input pixels of what the cell can see in theory; 0 if not known.
        effective: for each of `SHARES` the side in input pixels of the smallest square around
            `centre` that holds so much of `energy`; None if the cell is dead.
    """

    name: str
    channels: int
    stride: int
    size: tuple[int, int]
    activation: NDArray[np.float32]
    energy: NDArray[np.float64]
    centre: tuple[int, int]
    receptive_field: int
    effective: tuple[int | None, ...]


@dataclass(frozen=True)
class Inspection:
    """The stages of one model on one image, fine to coarse.

    Args:
        name: of the model, for people.
        backbone: its published name, "" if not known.
        width: factor on its channel counts.
        picture: (H, W, 3) uint8 RGB, the image as scaled for the network, without padding.
        stages: see `StageView`.
    """

    name: str
    backbone: str
    width: float
    picture: NDArray[np.uint8]
    stages: tuple[StageView, ...]


def inspect_model(
    model: nn.Module,
    image: Tensor,
    *,
    name: str = "model",
    step: int = 0,
    draws: int = 18,
    seed: int = 0,
) -> Inspection:
    """Measures activations and effective receptive fields of every stage on one image.

    The model runs as it is in evaluation; its weights, gradients and mode are left as they were.

    Args:
        model: a detector, or anything else with a backbone.
        image: (3, H, W) uint8 RGB.
        name: for people.
        step: the cell that looks lies at multiples of this, in input pixels; give the coarsest
            stride of all models to be compared, so that they look from the same place. 0 takes
            the model's own.
        draws: see `receptive_energy`.
        seed: of the draws.

    Raises:
        InputError: the image is smaller than a cell of the coarsest stage, or the weights are such
            that features are no finite numbers.
    """
    backbone = backbone_of(model)
    inputs, size = network_input(model, image)
    centre, offsets = places(size, step or coarsest_stride(model))
    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            features: dict[str, Tensor] = backbone(inputs)
        _refuse_broken(features, name)
        views = []
        for info in backbone.feature_info:
            energy = _energy(
                backbone, inputs, info, centre=centre, offsets=offsets, draws=draws, seed=seed
            )
            views.append(_view(info, features[info.name], energy[: size[0], : size[1]], centre))
    finally:
        model.train(training)
    return Inspection(
        name=name,
        backbone=str(getattr(getattr(model, "info", None), "backbone", "")),
        width=float(backbone.width),
        picture=_picture(model, inputs, size),
        stages=tuple(views),
    )


def backbone_of(model: nn.Module) -> Any:
    """The backbone inside a detector or classifier, or the model itself if it is one.

    Raises:
        InputError: there is none.
    """
    found: Any = model
    while isinstance(getattr(found, "backbone", None), nn.Module):
        found = found.backbone
    if not hasattr(found, "feature_info"):
        raise InputError(f"a {type(model).__name__} has no backbone with named stages to look into")
    return found


def coarsest_stride(model: nn.Module) -> int:
    """Input pixels per cell of the coarsest stage."""
    return max(info.stride for info in backbone_of(model).feature_info)


def network_input(model: nn.Module, image: Tensor) -> tuple[Tensor, tuple[int, int]]:
    """Prepares an image as the model does in evaluation, on the model's device.

    Args:
        model: its own `transform` is used; without one the image keeps its size.
        image: (3, H, W) uint8 RGB.

    Returns:
        (1, 3, H, W) normalised and padded, and height and width without the padding.

    Raises:
        InputError: the image is smaller than a cell of the coarsest stage, as it is or as scaled.
    """
    device = next(model.parameters()).device
    _refuse_small((image.shape[1], image.shape[2]), model, "the image is")
    transform = _transform(model, image)
    training = transform.training
    transform.eval()
    try:
        batch, _ = transform([image.to(device)])
    finally:
        transform.train(training)
    size = batch.image_sizes[0]
    _refuse_small(size, model, "the image is scaled to")
    return batch.tensors.detach().clone(), size


def _transform(model: nn.Module, image: Tensor) -> nn.Module:
    own = getattr(model, "transform", None)
    if isinstance(own, nn.Module):
        return own
    height, width = image.shape[-2:]
    return ImageTransform(ImageOptions(min_size=min(height, width), max_size=max(height, width)))


def _refuse_small(size: tuple[int, int], model: nn.Module, subject: str) -> None:
    stride = coarsest_stride(model)
    if min(size) < stride:
        raise InputError(
            f"{subject} {size[1]}×{size[0]} pixels, smaller than one cell of the coarsest stage "
            f"({stride}×{stride}); take a larger image"
        )


def _refuse_broken(features: dict[str, Tensor], name: str) -> None:
    for level, feature in features.items():
        if not bool(feature.isfinite().all()):
            raise InputError(
                f"{name}: its {level} holds values that are no finite numbers; its weights are "
                "broken, as after a training that diverged"
            )


def _energy(
    backbone: Any,
    inputs: Tensor,
    info: Any,
    *,
    centre: tuple[int, int],
    offsets: Sequence[tuple[int, int]],
    draws: int,
    seed: int,
) -> NDArray[np.float64]:
    """The energy over the whole input, computed on the part that the cells can see in theory.

    Nothing outside of it moves them, and shallow stages see little: this is three times faster.
    """
    energy = np.zeros(inputs.shape[-2:])
    reach = info.receptive_field // 2 or max(energy.shape)
    reach += max(abs(offset) for pair in offsets for offset in pair)
    coarsest = max(level.stride for level in backbone.feature_info)
    # Cut at a multiple of every stride, or the cells would lie elsewhere.
    top, left = (max(0, (middle - reach) // coarsest * coarsest) for middle in centre)
    window = np.s_[top : centre[0] + reach + 1, left : centre[1] + reach + 1]
    with torch.enable_grad():
        part = inputs[(..., *window)].detach().clone().requires_grad_()
        energy[window] = receptive_energy(
            backbone(part)[info.name],
            part,
            centre=(centre[0] - top, centre[1] - left),
            stride=info.stride,
            offsets=offsets,
            draws=draws,
            seed=seed,
        )
    return energy


def _view(
    info: Any, feature: Tensor, energy: NDArray[np.float64], centre: tuple[int, int]
) -> StageView:
    cells = math.ceil(energy.shape[0] / info.stride), math.ceil(energy.shape[1] / info.stride)
    strength = feature.detach()[0].abs().mean(0)[: cells[0], : cells[1]]
    total = energy.sum()
    return StageView(
        name=info.name,
        channels=info.channels,
        stride=info.stride,
        size=cells,
        activation=strength.float().cpu().numpy(),
        energy=energy / total if total > 0 else energy,
        centre=centre,
        receptive_field=info.receptive_field,
        effective=tuple(side_holding(energy, centre, share) for share in SHARES),
    )


def _picture(model: nn.Module, inputs: Tensor, size: tuple[int, int]) -> NDArray[np.uint8]:
    """Undoes the normalisation of the input, so that the picture is what the network was given."""
    options = getattr(getattr(model, "transform", None), "options", ImageOptions())
    pixels = inputs.detach()[0, :, : size[0], : size[1]].cpu()
    std, mean = (torch.tensor(v).view(3, 1, 1) for v in (options.pixel_std, options.pixel_mean))
    pixels = pixels * std + mean
    pixels = pixels.flip(0) if options.channel_order == "bgr" else pixels
    return (pixels.clamp(0, 1) * 255).round().byte().permute(1, 2, 0).numpy()


def places(size: tuple[int, int], step: int) -> tuple[tuple[int, int], list[tuple[int, int]]]:
    """Where cells look from: the place nearest the image's centre, and its neighbours.

    Cell i of a level with stride s has its middle at input pixel i · s, since all convolutions and
    poolings are padded evenly. So a multiple of the coarsest stride is a middle at every stage.

    Args:
        size: height and width, input pixels.
        step: multiples of this are chosen from.

    Returns:
        (y, x) of the centre, and the offsets (dy, dx) to it and to those of its eight neighbours
        that are inside the image, itself first.
    """
    counts = [math.ceil(side / step) for side in size]
    indices = [
        min(round(side / 2 / step), count - 1) for side, count in zip(size, counts, strict=True)
    ]
    steps = [
        [k for k in (0, -1, 1) if 0 <= index + k < count]
        for index, count in zip(indices, counts, strict=True)
    ]
    offsets = [(dy * step, dx * step) for dy in steps[0] for dx in steps[1]]
    return (indices[0] * step, indices[1] * step), offsets


def receptive_energy(
    feature: Tensor,
    inputs: Tensor,
    *,
    centre: tuple[int, int],
    stride: int,
    offsets: Sequence[tuple[int, int]] = ((0, 0),),
    draws: int = 18,
    seed: int = 0,
) -> NDArray[np.float64]:
    """Says of every input pixel how strongly it moves one cell of a feature map.

    A draw gives every channel of the cell a random sign and takes the gradient of the sum with
    respect to the input. The mean over draws of its square estimates, without bias, the sum of
    squared gradients over all channels, at the price of a few backward passes rather than one for
    each channel. Draws take turns among the places of `offsets` and are moved back onto `centre`:
    what belongs to the network stays, what belongs to one spot of the image is averaged out.

    Departs from the paper: squares rather than signed means, since signs of channels cancel; and
    the one image that was asked about rather than random ones.

    Args:
        feature: (1, C, h, w), computed from `inputs`, whose graph is kept.
        inputs: (1, 3, H, W), requires a gradient.
        centre: (y, x) of the cell's middle, input pixels.
        stride: of the feature map.
        offsets: (dy, dx) in input pixels of the places to look from, only (0, 0) by default.
        draws: how many, at least 1.
        seed: of the signs.

    Returns:
        (H, W), sums to 1; zeros if the cell is dead, which is to say that no gradient leaves it.

    Raises:
        InputError: `draws` is below 1.

    Paper: Luo et al. 2016, arXiv:1701.04128, Section 3.1.
    """
    if draws < 1:
        raise InputError(f"draws must be 1 or more, got {draws}")
    generator = torch.Generator().manual_seed(seed)
    height, width = inputs.shape[-2:]
    energy = np.zeros((height, width))
    for draw in range(draws):
        dy, dx = offsets[draw % len(offsets)]
        cell = feature[0, :, (centre[0] + dy) // stride, (centre[1] + dx) // stride]
        signs = torch.randint(0, 2, cell.shape, generator=generator).to(cell) * 2 - 1
        (gradient,) = torch.autograd.grad((cell * signs).sum(), inputs, retain_graph=True)
        squares = gradient[0].double().square().sum(0).cpu().numpy()
        _add_moved(energy, squares, dy, dx)
    total = energy.sum()
    return energy / total if total > 0 else energy


def side_holding(energy: NDArray[np.float64], centre: tuple[int, int], share: float) -> int | None:
    """Side of the smallest square around a pixel that holds this share of the energy.

    Args:
        energy: (H, W), not negative.
        centre: (y, x), pixels.
        share: in (0, 1].

    Returns:
        An odd number of pixels, of which some may lie beyond the border; None without any energy.
    """
    rows, columns = np.indices(energy.shape)
    distance = np.maximum(np.abs(rows - centre[0]), np.abs(columns - centre[1]))
    held = np.bincount(distance.ravel(), weights=energy.ravel()).cumsum()
    if held[-1] <= 0:
        return None
    # Rounding in a sum over a million pixels must not move the last ring.
    return 2 * int(np.searchsorted(held, share * held[-1] * (1 - 1e-12))) + 1


def _add_moved(total: NDArray[np.float64], part: NDArray[np.float64], dy: int, dx: int) -> None:
    """Adds `part` moved up by `dy` and left by `dx`; what leaves the border is dropped."""
    height, width = total.shape
    into = np.s_[max(0, -dy) : height - max(0, dy), max(0, -dx) : width - max(0, dx)]
    out_of = np.s_[max(0, dy) : height - max(0, -dy), max(0, dx) : width - max(0, -dx)]
    total[into] += part[out_of]
