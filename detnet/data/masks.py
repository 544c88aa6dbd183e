"""Masks of a sample: painted at the end, one at a time, and sent from workers as bits."""

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from detnet.coco.masks import decode_masks, encode_pixels


@dataclass(frozen=True)
class Masks:
    """Masks as their file has them, and where each row and column of the sample lies in them.

    Scaling to the nearest pixel and mirroring choose rows and columns, whatever is painted there.
    So nothing is painted before a sample is done, and a crowded image never holds all its objects
    in a byte a pixel, at two sizes at once.

    Args:
        counts: compressed run lengths of each object.
        size: height and width in the file, pixels.
        rows: (H,) the file's row of each row of the sample.
        columns: (W,) likewise.
    """

    counts: list[bytes]
    size: tuple[int, int]
    rows: np.ndarray
    columns: np.ndarray

    @classmethod
    def of_file(cls, counts: list[bytes], height: int, width: int) -> "Masks":
        """Those of an image of `height` by `width` pixels that nothing was done to yet."""
        return cls(counts, (height, width), np.arange(height), np.arange(width))

    @classmethod
    def of_pixels(cls, pixels: Tensor) -> "Masks":
        """Those painted in (N, H, W), by a transform that moves more than rows and columns."""
        counts = [encode_pixels(mask)["counts"].encode() for mask in pixels.numpy() > 0]
        return cls.of_file(counts, *pixels.shape[1:])

    @property
    def shape(self) -> tuple[int, int, int]:
        """Objects, height and width of the sample, pixels."""
        return len(self.counts), len(self.rows), len(self.columns)

    def __getitem__(self, kept: Tensor) -> "Masks":
        """Those of the objects that a boolean (N,) keeps."""
        return replace(self, counts=[self.counts[at] for at in kept.nonzero()[:, 0].tolist()])

    def resized(self, height: int, width: int) -> "Masks":
        """Takes each pixel's nearest, as torch's "nearest" does."""
        rows = self.rows[_nearest(len(self.rows), height)]
        return replace(self, rows=rows, columns=self.columns[_nearest(len(self.columns), width)])

    def flip(self, dim: int) -> "Masks":
        """A mirror image for dim -1, upside down for dim -2."""
        if dim == -1:
            return replace(self, columns=self.columns[::-1])
        return replace(self, rows=self.rows[::-1])

    def pixels(self) -> Tensor:
        """Paints (N, H, W) uint8 of 0 and 1."""
        pixels = np.empty(self.shape, np.uint8)
        for mask, place in zip(self._painted(), pixels, strict=True):
            place[:] = mask
        return torch.from_numpy(pixels)

    def bits(self) -> "MaskBits":
        """Paints them as a worker sends them."""
        count, height, width = self.shape
        bits = np.empty((count, height, -(-width // 8)), np.uint8)
        for mask, place in zip(self._painted(), bits, strict=True):
            place[:] = np.packbits(mask, axis=-1)
        return MaskBits(torch.from_numpy(bits), width)

    def _painted(self) -> Iterator[np.ndarray]:
        for counts in self.counts:
            (mask,) = decode_masks([counts], *self.size)
            yield mask.take(self.columns, axis=1).take(self.rows, axis=0)


class MaskBits:
    """Masks on their way from a worker to the device, where they are made whole: a bit a pixel.

    Args:
        bits: (N, H, ceil(W / 8)) uint8, the leftmost pixel in the highest bit.
        width: W, pixels.
    """

    def __init__(self, bits: Tensor, width: int) -> None:
        self.bits, self.width = bits, width

    def pin_memory(self) -> "MaskBits":
        """Moves them to where an accelerator fetches them by itself; torch's loader calls this."""
        self.bits = self.bits.pin_memory()
        return self

    def to(self, device: torch.device, *, non_blocking: bool = False) -> Tensor:
        """Gives (N, H, W) uint8 on the device, which has received the bits alone."""
        bits = self.bits.to(device, non_blocking=non_blocking)[..., None]
        places = torch.arange(7, -1, -1, dtype=torch.uint8, device=device)
        return ((bits >> places) & 1).flatten(-2)[..., : self.width]


def _nearest(old: int, new: int) -> np.ndarray:
    """Places among `old` pixels of a line that has `new` of them."""
    places = np.arange(new, dtype=np.float32) * np.float32(old / new)
    return np.minimum(places.astype(np.int64), old - 1)
