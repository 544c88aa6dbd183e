"""What every engine says and does: pixels in, objects out, in numpy. Needs no torch."""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from detnet.coco.keypoints import KeypointLayout
from detnet.coco.masks import RunLengths

# (H, W, 3) RGB, of any size.
Pixels = NDArray[np.uint8]


@dataclass(frozen=True)
class Found:
    """What was found in one image, the surest first.

    Args:
        boxes: (N, 4) float32, xyxy, pixels of the image given.
        labels: (N,) int64, 1 … K.
        scores: (N,) float32 in [0, 1].
        masks: N masks of the whole image as COCO has them, or None from a detector of boxes.
        keypoints: (N, K, 3) float32, x and y in pixels of the image given and 1; None likewise.
        keypoint_scores: (N, K) float32, the larger the surer; None likewise.
    """

    boxes: NDArray[np.float32]
    labels: NDArray[np.int64]
    scores: NDArray[np.float32]
    masks: list[RunLengths] | None = None
    keypoints: NDArray[np.float32] | None = None
    keypoint_scores: NDArray[np.float32] | None = None

    def __len__(self) -> int:
        return len(self.scores)


class Engine(ABC):
    """A detector that is ready to run, with what is to be known about it.

    Args:
        name: as `--engine` takes it.
        precision: what was asked for, such as "fp32" or "int8".
        runs_as: what the machine really computes in, and with what, in words.
        category_ids: of the data set that the model was trained on, by label 1 …
        class_names: likewise.
        batch: how many images it runs together; None for any number.
        least_score: the lowest score threshold that it takes.
    """

    name: ClassVar[str]
    precision: str
    runs_as: str
    category_ids: tuple[int, ...]
    class_names: tuple[str, ...]
    layout: KeypointLayout | None = None
    batch: int | None = None
    least_score: float = 0.0

    @abstractmethod
    def detect(self, images: Sequence[Pixels], *, score_threshold: float) -> list[Found]:
        """Finds the objects in several images.

        Args:
            images: any number, of any sizes.
            score_threshold: objects below it are left out.
        """

    @abstractmethod
    def network_size(self, height: int, width: int) -> tuple[int, int]:
        """Gives height and width at which the network sees an image of that size.

        Images of one size here can be run together without padding.
        """
