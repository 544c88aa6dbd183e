"""How pictures become the network's input: scale, channel order, normalisation, padding."""

import math
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from torchvision.transforms.v2 import functional as TF

from detnet.backbones import LARGEST_SIDE, PIXEL_MEAN, PIXEL_STD
from detnet.errors import InputError
from detnet.kinds import require_choice


@dataclass(frozen=True)
class ImageOptions:
    """What the network expects of its input; kept in the model file.

    Args:
        min_size: in evaluation the short side is scaled to this, in pixels …
        max_size: … unless the long side would exceed this.
        pixel_mean: per channel in `channel_order`, of values in [0, 1].
        pixel_std: per channel, likewise; 1/255 each and means of 0 give raw values 0 … 255.
        channel_order: "rgb", or "bgr" for Caffe's and DetNAS's weights.

    Raises:
        InputError: sizes or numbers of colours cannot be.
    """

    min_size: int = 800
    max_size: int = 1333
    pixel_mean: tuple[float, float, float] = PIXEL_MEAN
    pixel_std: tuple[float, float, float] = PIXEL_STD
    channel_order: Literal["rgb", "bgr"] = "rgb"

    def __post_init__(self) -> None:
        if not 0 < self.min_size <= self.max_size <= LARGEST_SIDE:
            raise InputError(
                f"need 0 < min_size <= max_size <= {LARGEST_SIDE}, got min_size {self.min_size} "
                f"and max_size {self.max_size}"
            )
        for name in ("pixel_mean", "pixel_std"):
            if len(getattr(self, name)) != 3:
                raise InputError(f"{name} must be 3 numbers, got {getattr(self, name)}")
        if not all(0 < value < math.inf for value in self.pixel_std):
            raise InputError(f"pixel_std must be positive, got {self.pixel_std}")


class ImageTransform(GeneralizedRCNNTransform):
    """torchvision's transform with the resizing moved to where it belongs.

    In training images come resized from the data pipeline, under its keyed random stream, and
    are not touched again. In evaluation they are resized here, so that boxes come out in pixels of
    the images given; with antialiasing, as in training. Pads with zeros at right and bottom.

    Args:
        options: see `ImageOptions`.

    Attributes:
        paste: puts (N, 1, M, M) masks into (N, 4) boxes of an image of this height and width.
    """

    square: ClassVar[bool] = False  # whether both sides of an image are made equal
    paste: Any = staticmethod(paste_masks_in_image)

    def __init__(self, options: ImageOptions) -> None:
        super().__init__(
            options.min_size,
            options.max_size,
            list(options.pixel_mean),
            list(options.pixel_std),
        )
        self.options = options

    def forward(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None = None
    ) -> tuple[ImageList, list[dict[str, Tensor]] | None]:
        """Maps (3, H, W) images to one padded batch; targets are in pixels of the input.

        Raises:
            ValueError: no images, one that is not (3, H, W), another number of targets, or labels
                that do not count from 1; those on a GPU are not looked at, it would have to wait.
        """
        given = len(images) if targets is None else len(targets)
        if not len(images) or given != len(images):
            raise ValueError(
                "need one image or more, and a target for each, got "
                f"{len(images)} images and {given} targets"
            )
        if self.training:
            for labels in (each["labels"] for each in targets or () if "labels" in each):
                if labels.device.type == "cpu" and (labels < 1).any():
                    raise ValueError(f"labels count from 1, got {int(labels.min())} in a target")
            images, targets = self.reshaped(images, targets)
        prepared = []
        for image in images:
            if image.ndim != 3 or image.shape[0] != 3:
                raise ValueError(f"images must be (3, H, W), got {tuple(image.shape)}")
            image = image if self.training else self._fit(image)
            image = image.float() / 255 if image.dtype == torch.uint8 else image
            image = image.flip(0) if self.options.channel_order == "bgr" else image
            prepared.append(self.normalize(image))
        sizes = [(image.shape[-2], image.shape[-1]) for image in prepared]
        batch = self.batch_images(prepared, self.size_divisible)
        return ImageList(batch.contiguous(memory_format=torch.channels_last), sizes), targets

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Gives what was found in the pixels of the images as they were given, in evaluation."""
        if self.training:
            return result
        masks = [found.pop("masks", None) for found in result]
        result = super().postprocess(result, image_shapes, original_image_sizes)
        for found, own, size in zip(result, masks, original_image_sizes, strict=True):
            if own is not None:
                found["masks"] = self.paste(own, found["boxes"], size)
        return result

    def normalize(self, image: Tensor) -> Tensor:
        """Does as torchvision does, which has the host wait for the device at every image.

        Raises:
            TypeError: the image is of whole numbers.
        """
        if not image.is_floating_point():
            raise TypeError(f"images must be uint8 or floats in [0, 1], got {image.dtype}")
        values = torch.tensor([self.image_mean, self.image_std], dtype=image.dtype)
        mean, std = values.to(image.device, non_blocking=True)[..., None, None]
        return (image - mean) / std

    def reshaped(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[dict[str, Tensor]] | None]:
        """Gives images that come resized, and their targets, the shape that training has."""
        return images, targets

    def size_in_training(self, image: Tensor) -> tuple[int, int]:
        """Height and width at which the network gets an image that comes resized, unpadded."""
        return image.shape[-2], image.shape[-1]

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that evaluation gives an image of that size, padding left out."""
        scale = min(self.min_size[-1] / min(height, width), self.max_size / max(height, width))
        return max(1, int(height * scale)), max(1, int(width * scale))

    def _fit(self, image: Tensor) -> Tensor:
        height, width = image.shape[-2:]
        size = self.scaled_size(height, width)
        return image if size == (height, width) else TF.resize(image, [*size], antialias=True)


def full_precision(values: Tensor) -> Tensor:
    """Raises half-precision values to fp32, where losses, softmax and boxes are computed."""
    return values if values.dtype == torch.float64 else values.float()


Resize = Literal["aspect", "square"]


class SquareTransform(ImageTransform):
    """`ImageTransform` with both sides of an image made equal, whatever its aspect was.

    In evaluation the side is the options' `min_size`. In training it is the short side of the
    image that the data pipeline hands over, so that a recipe of several `min_sizes` trains on
    squares of several sizes; boxes are squeezed with their image.
    """

    square = True

    def reshaped(
        self, images: list[Tensor], targets: list[dict[str, Tensor]] | None
    ) -> tuple[list[Tensor], list[dict[str, Tensor]] | None]:
        squares = [self._squeezed(image, self.size_in_training(image)[0]) for image in images]
        if targets is not None:
            triples = zip(targets, images, squares, strict=True)
            targets = [_squeeze_boxes(*triple) for triple in triples]
        return squares, targets

    def size_in_training(self, image: Tensor) -> tuple[int, int]:
        side = min(image.shape[-2:])
        return side, side

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        side = int(self.min_size[-1])  # the options', or a view's of several
        return side, side

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
    return {**target, "boxes": boxes * factors.to(boxes, non_blocking=True)}


def make_transform(images: ImageOptions, resize: Resize) -> ImageTransform:
    """Makes what prepares a detector's images.

    Args:
        images: what the network expects of its input.
        resize: "aspect" keeps the aspect, as all other detectors do, "square" does not.

    Raises:
        InputError: another word.
    """
    require_choice("resize", resize, ("aspect", "square"))
    return (SquareTransform if resize == "square" else ImageTransform)(images)
