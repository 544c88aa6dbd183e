"""An engine that can be foretold: it finds the red, green and blue of an image, one object each."""

import time
from collections.abc import Callable, Sequence

import numpy as np

from detnet.coco.masks import encode_pixels
from detnet.inference.engines.base import Engine, Found, Pixels

NAMES = ("red", "green", "blue")


class BrightEngine(Engine):
    """Finds where one channel is above 200 and the others are below 100.

    Args:
        seconds: that each call takes, asleep.
        masks: whether it has them.
        held: asked again and again by each call, which goes on once it says no.
    """

    name = "bright"
    precision = "exact"
    runs_as = "exact by numpy"
    category_ids = (7, 8, 90)
    class_names = NAMES

    def __init__(
        self,
        *,
        seconds: float = 0.0,
        masks: bool = True,
        held: Callable[[], bool] = lambda: False,
    ) -> None:
        self.seconds = seconds
        self.masks = masks
        self.held = held
        self.calls: list[list[tuple[int, ...]]] = []

    def detect(self, images: Sequence[Pixels], *, score_threshold: float) -> list[Found]:
        self.calls.append([image.shape for image in images])
        time.sleep(self.seconds)
        while self.held():
            time.sleep(0.005)
        return [self._detect(image, score_threshold) for image in images]

    def network_size(self, height: int, width: int) -> tuple[int, int]:
        return height // 32 * 32, width // 32 * 32

    def _detect(self, image: Pixels, score_threshold: float) -> Found:
        found = []
        for label in (1, 2, 3):
            others = np.delete(image, label - 1, axis=2)
            inside = (image[:, :, label - 1] > 200) & (others < 100).all(axis=2)
            rows, columns = np.nonzero(inside)
            score = 1 - label / 10
            if len(rows) and score >= score_threshold:
                box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
                found.append((box, label, score, encode_pixels(inside)))
        return Found(
            boxes=np.array([box for box, *_ in found], np.float32).reshape(-1, 4),
            labels=np.array([label for _, label, *_ in found], np.int64),
            scores=np.array([score for *_, score, _ in found], np.float32),
            masks=[mask for *_, mask in found] if self.masks else None,
        )


def colours(width: int = 96, height: int = 64) -> np.ndarray:
    """A grey image with a red and a blue rectangle."""
    image = np.full((height, width, 3), 128, np.uint8)
    image[8:24, 10:50] = (255, 0, 0)
    image[30:60, 40:70] = (0, 0, 255)
    return image
