"""What is done to an image, its boxes, masks and keypoints before the network, in 8 bits.

Every random number comes from the generator that is handed in, so a sample depends on its key
alone and never on which worker made it or what came before.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

# What `DetectionDataset` gives, with masks still to be painted: `Masks`.
Target = dict[str, Any]
Transform = Callable[[Tensor, Target, np.random.Generator], tuple[Tensor, Target]]


@dataclass(frozen=True)
class Augmentation:
    """What training does to an image; the defaults are the paper's.

    Args:
        min_sizes: lengths of the short side, pixels; one of several is drawn for each image, and
            without any its size is left alone.
        max_size: the long side's limit, which wins over the short side.
        flip_h: probability of a mirror image.
        flip_v: probability of turning it upside down.
        color_jitter: brightness, contrast and saturation are each multiplied by a factor drawn
            from 1 - color_jitter … 1 + color_jitter.

    Raises:
        ValueError: a size is not positive, or a probability not within 0 … 1.

    Paper: Li et al. 2018, arXiv:1804.06215, Section 4.1.
    """

    min_sizes: tuple[int, ...] = (800,)
    max_size: int = 1333
    flip_h: float = 0.5
    flip_v: float = 0.0
    color_jitter: float = 0.0

    def __post_init__(self) -> None:
        if min((*self.min_sizes, self.max_size)) < 1:
            sizes = f"min_sizes={self.min_sizes}, max_size={self.max_size}"
            raise ValueError(f"sizes must be positive, got {sizes}")
        for name in ("flip_h", "flip_v", "color_jitter"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must be within 0 … 1, got {getattr(self, name)}")

    def __call__(
        self, image: Tensor, target: Target, generator: np.random.Generator
    ) -> tuple[Tensor, Target]:
        # All are drawn always, so that switching one option on leaves the others' draws alone.
        size, mirror, overturn, *colors = generator.random(6)
        if self.min_sizes:
            min_size = self.min_sizes[int(size * len(self.min_sizes))]
            image, target = resize(image, target, min_size=min_size, max_size=self.max_size)
        if mirror < self.flip_h:
            image, target = flip_horizontal(image, target)
        if overturn < self.flip_v:
            image, target = flip_vertical(image, target)
        if self.color_jitter:
            factors = [1 + self.color_jitter * (2 * color - 1) for color in colors]
            image = F.adjust_brightness(image, factors[0])
            image = F.adjust_contrast(image, factors[1])
            image = F.adjust_saturation(image, factors[2])
        return image, target


def eval_transform(*, min_size: int | None = None, max_size: int = 1333) -> Transform:
    """Builds what evaluation does: nothing, or only the resizing.

    Args:
        min_size: length of the short side, pixels; None leaves the image as it is, for
            detectors that resize by themselves.
    """
    return Augmentation((min_size,) if min_size else (), max_size, flip_h=0.0)


def resized_shape(height: int, width: int, *, min_size: int, max_size: int) -> tuple[int, int]:
    """Says the size torchvision's detectors give an image, to the pixel: rounded down.

    Returns:
        height and width, pixels.
    """
    scale = min(min_size / min(height, width), max_size / max(height, width))
    return max(1, int(height * scale)), max(1, int(width * scale))


def resize(image: Tensor, target: Target, *, min_size: int, max_size: int) -> tuple[Tensor, Target]:
    """Scales the short side to `min_size`, or the long one to `max_size` if it would exceed it."""
    height, width = image.shape[-2:]
    new = resized_shape(height, width, min_size=min_size, max_size=max_size)
    if new == (height, width):
        return image, target
    image = F.resize(image, list(new), interpolation=F.InterpolationMode.BILINEAR, antialias=True)
    vertical, horizontal = new[0] / height, new[1] / width
    scale = torch.tensor([horizontal, vertical, horizontal, vertical], dtype=torch.float32)
    changed: Target = {"boxes": target["boxes"] * scale}
    if "area" in target:
        changed["area"] = target["area"] * (horizontal * vertical)
    if "masks" in target:
        changed["masks"] = target["masks"].resized(*new)
    if "keypoints" in target:
        changed["keypoints"] = target["keypoints"] * torch.tensor([horizontal, vertical, 1.0])
    return image, {**target, **changed}


def flip_horizontal(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    return _flip(image, target, 0)


def flip_vertical(image: Tensor, target: Target) -> tuple[Tensor, Target]:
    return _flip(image, target, 1)


def _flip(image: Tensor, target: Target, axis: int) -> tuple[Tensor, Target]:
    """A mirror image: x is counted from the other side for axis 0, y for axis 1."""
    dim = (-1, -2)[axis]
    side = image.shape[dim]
    boxes = target["boxes"].clone()
    boxes[:, [axis, axis + 2]] = side - target["boxes"][:, [axis + 2, axis]]
    changed: Target = {"boxes": boxes}
    if "masks" in target:
        changed["masks"] = target["masks"].flip(dim)
    if "keypoints" in target:
        # Upside down is a mirror, too: a left hand becomes a right one either way.
        points = target["keypoints"][:, target["keypoint_mirror"]].clone()
        points[..., axis] = side - points[..., axis]
        changed["keypoints"] = points
    return image.flip(dim), {**target, **changed}
