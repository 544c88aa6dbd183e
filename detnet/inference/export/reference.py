"""The model in torch as an export is held to it, also where the export takes one size only."""

import copy
from collections.abc import Sequence

import numpy as np
from PIL import Image

from detnet.coco.masks import RunLengths, decode_masks, encode_pixels
from detnet.detectors.base import Detector
from detnet.inference.engines.base import Found, Pixels
from detnet.inference.engines.images import prepare, scaled_size
from detnet.inference.engines.record import ImageInput
from detnet.inference.engines.torch import TorchEngine
from detnet.inference.predictor import Predictor


def reference_engine(model: Detector, images: ImageInput) -> TorchEngine:
    """The model in torch in fp32 on the CPU, seeing pictures at the size that its export does.

    Args:
        images: of the export.
    """
    if images.size is None:
        return TorchEngine(Predictor(model, device="cpu"))
    fitted = copy.deepcopy(model)
    fitted.transform.min_size, fitted.transform.max_size = (min(images.size),), max(images.size)
    return FittedTorchEngine(Predictor(fitted, device="cpu"), images)


class FittedTorchEngine(TorchEngine):
    """Fits each picture into one size before torch sees it.

    Args:
        predictor: leaves pictures of that size as they are.
        images: with the size.
    """

    def __init__(self, predictor: Predictor, images: ImageInput) -> None:
        super().__init__(predictor)
        self.images = images

    def detect(self, images: Sequence[Pixels], *, score_threshold: float) -> list[Found]:
        frames = [prepare([image], self.images)[0].transpose(1, 2, 0) for image in images]
        found = super().detect(frames, score_threshold=score_threshold)
        return [
            self._unfitted(each, image.shape[0], image.shape[1])
            for each, image in zip(found, images, strict=True)
        ]

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        return self.images.size or super().network_size(height, width)

    def _unfitted(self, found: Found, height: int, width: int) -> Found:
        """Brings objects from the frame's pixels to the picture's."""
        inner = scaled_size(height, width, self.images)
        x, y = width / inner[1], height / inner[0]
        boxes = (found.boxes * np.array([x, y, x, y])).clip(0, [width, height, width, height])
        masks, points = found.masks, found.keypoints
        return Found(
            boxes=boxes.astype(np.float32),
            labels=found.labels,
            scores=found.scores,
            masks=None if masks is None else [_cut(one, inner, (width, height)) for one in masks],
            keypoints=None if points is None else (points * [x, y, 1]).astype(np.float32),
            keypoint_scores=found.keypoint_scores,
        )


def _cut(mask: RunLengths, inner: tuple[int, int], size: tuple[int, int]) -> RunLengths:
    """A mask of the frame as one of the picture, `size` being its width and height."""
    painted = decode_masks([mask["counts"].encode()], *mask["size"])[0][: inner[0], : inner[1]]
    picture = Image.fromarray(painted * np.uint8(255)).resize(size, Image.Resampling.BILINEAR)
    return encode_pixels(np.asarray(picture) > 127)
