"""What a prediction is: objects in one image, to be drawn or written as COCO has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Union

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from detnet.coco.keypoints import KeypointLayout
from detnet.coco.masks import RunLengths, decode_masks
from detnet.data.images import read_pixels
from detnet.errors import InputError
from detnet.evaluation.results import to_results
from detnet.inference.draw import draw, to_picture

if TYPE_CHECKING:
    from torch import Tensor

Array = Union["Tensor", NDArray[Any]]
ImageLike = Union[str, Path, Image.Image, NDArray[np.uint8], "Tensor"]


@dataclass(frozen=True)
class Prediction:
    """What was found in one image, the surest first.

    Args:
        boxes: (N, 4) float32, xyxy, pixels of the image.
        labels: (N,) int64, 1 … K.
        scores: (N,) float32 in [0, 1].
        names: N class names.
        category_ids: N ids of the data set that the model was trained on.
        size: width and height of the image, pixels.
        run_lengths: N masks as COCO has them, or None from a detector of boxes.
        keypoints: (N, K, 3) float32, x and y in pixels as boxes have them and 1; all that the data
            set knows, of which `layout` tells which are a class's own; None likewise.
        keypoint_scores: (N, K) float32, the larger the surer; their scale is the network's own.
        layout: what the keypoints are.

    Arrays are torch's from a `Predictor` and numpy's from an export, which runs without torch.
    """

    boxes: Array
    labels: Array
    scores: Array
    names: tuple[str, ...]
    category_ids: tuple[int, ...]
    size: tuple[int, int]
    run_lengths: list[RunLengths] | None = None
    keypoints: Array | None = None
    keypoint_scores: Array | None = None
    layout: KeypointLayout | None = None

    def __len__(self) -> int:
        return len(self.names)

    @cached_property
    def masks(self) -> Array | None:
        """The masks, (N, H, W) bool, or None from a detector of boxes.

        They are painted when they are first asked for: as many bytes as pixels in all of them.
        """
        if self.run_lengths is None:
            return None
        painted = paint_masks(self.run_lengths, self.size[::-1])
        if isinstance(self.boxes, np.ndarray):
            return painted
        from torch import from_numpy  # as the boxes are torch's, it is there

        return from_numpy(painted)

    def draw(self, image: ImageLike) -> Image.Image:
        """Draws the objects onto a copy of the image they were found in.

        Raises:
            InputError: the image has another size.
        """
        picture = to_picture(pixels_of(image))
        if picture.size != self.size:
            sizes = ["×".join(map(str, size)) for size in (picture.size, self.size)]
            raise InputError(
                "the image is {}, but the objects were found in one of {}".format(*sizes)
            )
        return draw(
            picture,
            self.boxes,
            names=self.names,
            labels=self.labels,
            scores=self.scores,
            masks=self.run_lengths,
            **self._skeletons(),
        )

    def to_coco(self, image_id: int) -> list[dict[str, Any]]:
        """Gives the objects as records of a COCO results file, as evaluation writes them."""
        found = {
            "boxes": self.boxes,
            "labels": range(1, len(self) + 1),  # each object has its category id at its own place
            "scores": self.scores,
            "masks": self.run_lengths,
            "keypoints": self.keypoints,
        }
        own = self._own(self.layout.of_label) if self.layout else None
        return list(to_results([found], [image_id], self.category_ids, own))

    def _skeletons(self) -> dict[str, Any]:
        """What `draw` takes of keypoints: those of each object's own class."""
        if self.keypoints is None or self.layout is None:
            return {}
        places = np.asarray(self.keypoints).copy()
        for points, own in zip(places, self._own(self.layout.of_label), strict=True):
            others = np.ones(len(points), dtype=bool)
            others[list(own)] = False
            points[others, 2] = 0
        return {"keypoints": places, "skeletons": self._own(self.layout.edges)}

    def _own(self, by_label: Sequence[Any]) -> list[Any]:
        """What each object has by its label."""
        return [by_label[label - 1] for label in self.labels.tolist()]


def paint_masks(masks: Sequence[RunLengths], size: Sequence[int]) -> NDArray[np.bool_]:
    """Paints masks as COCO has them, (N, H, W), `size` being height and width."""
    counts = [mask["counts"].encode() for mask in masks]
    return decode_masks(counts, size[0], size[1]).view(bool)


def pixels_of(image: ImageLike) -> "Tensor | NDArray[np.uint8] | Image.Image":
    """Reads an image that is given by its path, upright; others stay as they are.

    Raises:
        InputError: several are given, or a file cannot be read.
    """
    if isinstance(image, list | tuple):
        raise InputError(f"one image is wanted, got {len(image)}; `predict_batch` takes several")
    return read_pixels(Path(image)) if isinstance(image, str | Path) else image
