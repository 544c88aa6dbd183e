"""From an image file to a classifier's input: crops on the processor, colours on the device.

A crop is cut and scaled in one go while the image is read, and stays in 8 bits. Everything that
happens to its colours (jitter, lighting, normalisation) is one matrix per image and is applied to
the whole batch at once. Random numbers come from the generator that is handed in.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from detnet.data.images import opened_image, orientation_of, to_rgb

_ATTEMPTS = 10
_ASPECT = (3 / 4, 4 / 3)
_GRAY = (0.299, 0.587, 0.114)
# Principal components of the colours of ImageNet's pixels; values times vectors, a row each.
_COMPONENTS = (
    (0.2175 * -0.5675, 0.2175 * -0.5808, 0.2175 * -0.5836),
    (0.0188 * 0.7192, 0.0188 * -0.0045, 0.0188 * -0.6948),
    (0.0045 * 0.4009, 0.0045 * -0.8140, 0.0045 * 0.4203),
)
_ORDERS = tuple(permutations(range(3)))

Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class TrainView:
    """What training sees of an image: a random part of it, scaled to a square.

    The part covers `min_area` … 1 of the image at an aspect ratio of 3/4 … 4/3; where ten draws do
    not fit into the image, the largest square in its middle is taken.

    Args:
        size: side of the square, pixels.
        min_area: smallest share of the image.
        flip: probability of a mirror image.
        color_jitter: brightness, contrast and saturation are each changed by a factor from
            1 - color_jitter … 1 + color_jitter, in random order.
        lighting: standard deviation of the shift along the colours' principal components.
        mixup: of the beta distribution that an image's share is drawn from; 0 mixes nothing.

    Paper: Xie et al. 2016, arXiv:1611.05431, Section 5, with the authors' released settings.
    Departs from the paper: parts are scaled bilinearly with antialiasing, not bicubically without.
    """

    size: int = 224
    min_area: float = 0.08
    flip: float = 0.5
    color_jitter: float = 0.4
    lighting: float = 0.1
    mixup: float = 0.0

    def __call__(
        self, path: Path, generator: np.random.Generator, content: IO[bytes] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads one image.

        Returns:
            (size, size, 3) uint8, and the random numbers that `prepare` goes by: `color`, three
            factors and the place of their order; `light`, red, green and blue; `share` for mixup.

        Raises:
            InputError: the image cannot be read.
        """
        # All are drawn always, so that switching one option on leaves the others' draws alone.
        crops = generator.random((_ATTEMPTS, 5))
        mirror, order, *colors = generator.random(5).tolist()
        light = self.lighting * generator.standard_normal(3) @ np.array(_COMPONENTS)
        share = generator.beta(self.mixup, self.mixup) if self.mixup else 1.0

        def choose(width: int, height: int) -> Box:
            return random_box(width, height, crops, min_area=self.min_area)

        pixels = _read(path, content, choose, self.size, reduce=True)
        if mirror < self.flip:
            pixels = pixels[:, ::-1]
        factors = [1 + self.color_jitter * (2 * color - 1) for color in colors]
        draws = {
            "color": (*factors, int(order * len(_ORDERS))),
            "light": tuple(light.tolist()),
            "share": max(share, 1 - share),
        }
        return pixels, draws


@dataclass(frozen=True)
class TestView:
    """What evaluation sees of an image: the square in its middle, scaled.

    Args:
        size: side of the square, pixels.
        short_side: of the whole image at that scale.
    """

    __test__ = False  # pytest would take the class for a test

    size: int = 224
    short_side: int = 256

    def __call__(
        self, path: Path, generator: Any = None, content: IO[bytes] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        """Reads one image as (size, size, 3) uint8."""

        def choose(width: int, height: int) -> Box:
            return centre_box(width, height, min(1.0, self.size / self.short_side))

        return _read(path, content, choose, self.size, reduce=False), {}


def random_box(width: int, height: int, draws: np.ndarray, *, min_area: float) -> Box:
    """Chooses the part of an image that training sees.

    Args:
        draws: (attempts, 5) in [0, 1): area, aspect ratio, which side it favours, x, y.

    Returns:
        left, top, right, bottom in whole pixels.
    """
    low, high = _ASPECT
    for area_draw, aspect_draw, side, x, y in draws.tolist():
        area = (min_area + (1 - min_area) * area_draw) * width * height
        aspect = low + (high - low) * aspect_draw
        wide, tall = round((area * aspect) ** 0.5), round((area / aspect) ** 0.5)
        if side < 0.5:
            wide, tall = tall, wide
        if 0 < wide <= width and 0 < tall <= height:
            left, top = int(x * (width - wide + 1)), int(y * (height - tall + 1))
            return left, top, left + wide, top + tall
    return centre_box(width, height, 1.0)


def centre_box(width: int, height: int, fraction: float) -> Box:
    """The square in the middle whose side is a fraction of the short side."""
    side = fraction * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def _read(
    path: Path, content: IO[bytes] | None, choose: Any, size: int, *, reduce: bool
) -> np.ndarray:
    """Reads the chosen part of an image at the size asked for.

    Args:
        choose: gives the part from the upright image's width and height.
        reduce: let the JPEG decoder halve what is more than twice as large as needed.
    """
    with opened_image(path, content) as image:
        if orientation_of(image) != 1 or image.mode not in ("RGB", "L"):
            image = Image.fromarray(to_rgb(image))
        width, height = image.size
        box = choose(width, height)
        if reduce:
            scale = int(min(box[2] - box[0], box[3] - box[1]) // size)
            if scale > 1 and image.draft(None, (width // scale, height // scale)):
                across, down = image.width / width, image.height / height
                right, bottom = min(box[2] * across, image.width), min(box[3] * down, image.height)
                box = (box[0] * across, box[1] * down, right, bottom)
        part = image.resize((size, size), Image.Resampling.BILINEAR, box=box)
        return np.asarray(part if part.mode == "RGB" else part.convert("RGB"))


def prepare(
    images: Tensor,
    draws: Sequence[dict[str, Any]] = (),
    *,
    mean: Sequence[float],
    std: Sequence[float],
) -> Tensor:
    """Turns crops into a network's input: colours changed as drawn, then normalised.

    Args:
        images: (N, 3, H, W) uint8 or float in [0, 1].
        draws: what `TrainView` drew for each image; nothing is changed without.
        mean: per channel, of values in [0, 1].
        std: per channel, likewise.

    Returns:
        (N, 3, H, W) float32, channels_last.
    """
    with torch.autocast(images.device.type, enabled=False):
        values = images.float()
        unit = 255 if images.dtype == torch.uint8 else 1
        matrix, shift = _colour_maps(values.mean((2, 3)) / unit, draws)
        scale = 1 / _sent(std, images)
        matrix = scale[:, None] * matrix / unit
        shift = scale * (shift - _sent(mean, images))
        pixels = values.permute(0, 2, 3, 1).flatten(1, 2)
        done = torch.baddbmm(shift[:, None, :], pixels, matrix.transpose(1, 2))
        return done.unflatten(1, images.shape[-2:]).permute(0, 3, 1, 2)


def _colour_maps(mean: Tensor, draws: Sequence[dict[str, Any]]) -> tuple[Tensor, Tensor]:
    """The (N, 3, 3) matrix and (N, 3) shift that change each image's colours as drawn.

    Every change is linear in a pixel's colour, given the image's mean colour; nothing is clipped.

    Args:
        mean: (N, 3), of each image, in [0, 1].
    """
    count, device = len(mean), mean.device
    matrix = torch.eye(3, device=device).repeat(count, 1, 1)
    shift = torch.zeros(count, 3, device=device)
    if not draws:
        return matrix, shift
    drawn = _sent([draw["color"] for draw in draws], mean)
    factors = drawn[:, :3]
    gray = _sent(_GRAY, mean)
    to_gray = gray.expand(3, 3)  # each of red, green and blue becomes the gray value
    for which in _sent(_ORDERS, mean).long()[drawn[:, 3].long()].unbind(1):
        factor = factors.gather(1, which[:, None])
        saturates = (which == 2)[:, None]
        # Brightness (0) and contrast (1) scale all channels alike, saturation (2) away from gray.
        step = factor[:, :, None] * torch.eye(3, device=device)
        step = step + (saturates * (1 - factor))[:, :, None] * to_gray
        moved = (matrix @ mean[:, :, None]).squeeze(2) + shift
        level = (moved @ gray)[:, None]
        offset = (which == 1)[:, None] * (1 - factor) * level
        matrix = step @ matrix
        shift = (step @ shift[:, :, None]).squeeze(2) + offset
    return matrix, shift + _sent([draw["light"] for draw in draws], mean)


def _sent(values: Sequence[Any], like: Tensor) -> Tensor:
    """Numbers in fp32 where a tensor is; made there at once, they would have the host wait."""
    return torch.tensor(values, dtype=torch.float32).to(like.device, non_blocking=True)
