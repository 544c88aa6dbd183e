"""The effective receptive field: which pixels really move a cell, of all those it could see.

Paper: Luo et al. 2016, arXiv:1701.04128.
"""

import math
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from detnet.errors import InputError


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
