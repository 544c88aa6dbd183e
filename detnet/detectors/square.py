"""Images squeezed to a square, as SSD's and YOLO's own papers feed them."""

from typing import Literal

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.transforms.v2 import functional as TF

from detnet.detectors.images import ImageOptions, ImageTransform
from detnet.errors import InputError

Resize = Literal["aspect", "square"]


class SquareTransform(ImageTransform):
    """`ImageTransform` with both sides of an image made equal, whatever its aspect was.

    In evaluation the side is the options' `min_size`. In training it is the short side of the
    image that the data pipeline hands over, so that a recipe of several `min_sizes` trains on
    squares of several sizes; boxes are squeezed with their image.
    """

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Maps (3, H, W) images to one batch of squares; targets are in pixels of the input."""
        if self.training:
            squares = [self._squeezed(image, self.size_in_training(image)[0]) for image in images]
            if targets is not None:
                pairs = zip(targets, images, squares, strict=True)
                targets = [_squeeze_boxes(*triple) for triple in pairs]
            images = squares
        return super().forward(images, targets)

    def size_in_training(self, image: Tensor) -> tuple[int, int]:
        side = min(image.shape[-2:])
        return side, side

    def _fit(self, image: Tensor) -> Tensor:
        return self._squeezed(image, self.min_size[-1])

    @staticmethod
    def _squeezed(image: Tensor, side: int) -> Tensor:
        if image.shape[-2:] == (side, side):
            return image
        return TF.resize(image, [side, side], antialias=True)


def _squeeze_boxes(target: dict[str, Tensor], image: Tensor, square: Tensor) -> dict[str, Tensor]:
    vertical = square.shape[-2] / image.shape[-2]
    horizontal = square.shape[-1] / image.shape[-1]
    boxes = target["boxes"]
    factors = torch.tensor([horizontal, vertical, horizontal, vertical])
    return {**target, "boxes": boxes * factors.to(boxes)}


def make_transform(images: ImageOptions, resize: Resize) -> ImageTransform:
    """Makes what prepares a detector's images.

    Args:
        images: what the network expects of its input.
        resize: "aspect" keeps the aspect, as all other detectors do, "square" does not.

    Raises:
        InputError: another word.
    """
    if resize not in ("aspect", "square"):
        raise InputError(f"resize must be 'aspect' or 'square', got {resize!r}")
    return (SquareTransform if resize == "square" else ImageTransform)(images)
