"""The model in torch as an export is held to it, also where the export takes one size only."""

import copy
from typing import Any

import torch
from torch import Tensor
from torchvision.ops import clip_boxes_to_image
from torchvision.transforms.v2 import functional as TF

from detnet.detectors.base import Detector
from detnet.detectors.images import ImageTransform
from detnet.inference.engines.images import scaled_size
from detnet.inference.engines.record import ImageInput
from detnet.inference.engines.torch import TorchEngine
from detnet.inference.predictor import Predictor


def reference_engine(model: Detector, images: ImageInput) -> TorchEngine:
    """The model in torch in fp32 on the CPU, seeing pictures at the size that its export does.

    Args:
        images: of the export.
    """
    if images.size is not None:
        model = copy.deepcopy(model)
        model.transform = FramedTransform(model.transform, images, images.size)
    return TorchEngine(Predictor(model, device="cpu"))


class FramedTransform(ImageTransform):
    """Scales each picture to fit one size and fills it up, and brings what is found back from it.

    Args:
        transform: the detector's own.
        images: of the export.
        size: height and width of the frame, pixels.
    """

    def __init__(
        self, transform: ImageTransform, images: ImageInput, size: tuple[int, int]
    ) -> None:
        super().__init__(transform.options)
        self.size_divisible = transform.size_divisible
        self.images = images
        self.size = size

    def scaled_size(self, height: int, width: int) -> tuple[int, int]:
        return self.size

    def postprocess(self, result: Any, image_shapes: Any, original_image_sizes: Any) -> Any:
        """Scales by the picture within the frame, and cuts boxes at its border."""
        inner = [scaled_size(height, width, self.images) for height, width in original_image_sizes]
        result = super().postprocess(result, inner, original_image_sizes)
        for found, size in zip(result, original_image_sizes, strict=True):
            found["boxes"] = clip_boxes_to_image(found["boxes"], size)
        return result

    def _fit(self, image: Tensor) -> Tensor:
        inner = scaled_size(image.shape[-2], image.shape[-1], self.images)
        fill = torch.tensor(self.images.fill, dtype=image.dtype)[:, None, None]
        frame = fill.expand(3, *self.size).clone()
        frame[:, : inner[0], : inner[1]] = TF.resize(image, [*inner], antialias=True)
        return frame
