"""Images with their boxes, each a sample that depends on (seed, epoch, image) alone."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from detnet.coco.annotations import Annotations
from detnet.coco.keypoints import to_pixels
from detnet.data.batches import Key, KeyedDataset, WorkerInputError
from detnet.data.images import read_image
from detnet.data.masks import Masks
from detnet.data.transforms import Target, Transform
from detnet.errors import InputError

Sample = tuple[Tensor, Target]
Batch = tuple[list[Tensor], list[Target]]

# Thinner than this after resizing, a box only makes its logarithmic offsets explode.
_THINNEST = 0.1
# Replaced, not removed: a run that is resumed wants the images that it began with.
_MEND = "mend or replace it; training then goes on by --resume; `detnet check DATA` finds all such"


class DetectionDataset(KeyedDataset):
    """Images with their boxes, read, augmented and turned into tensors one at a time.

    A sample's key is (epoch, index) or (epoch, index, occurrence), where `occurrence` counts how
    often the epoch had this image before; a plain index means epoch 0.

    Args:
        annotations: from `load_annotations`, with masks if `masks`, with keypoints if `keypoints`.
        transform: from `Augmentation` or `eval_transform`.
        seed: of the augmentation; its stream is keyed by (seed, epoch, index, occurrence).
        masks: give masks, too.
        keypoints: give keypoints, too.

    Raises:
        ValueError: masks or keypoints are asked for that were not loaded.
    """

    def __init__(
        self,
        annotations: Annotations,
        transform: Transform,
        *,
        seed: int,
        masks: bool = False,
        keypoints: bool = False,
    ) -> None:
        for what, wanted in (("masks", masks), ("keypoints", keypoints)):
            if wanted and getattr(annotations, what) is None:
                raise ValueError(f"{what} were asked for, but the annotations were loaded without")
        self.annotations, self.transform, self.seed = annotations, transform, seed
        self.masks, self.keypoints = masks, keypoints

    def __len__(self) -> int:
        return len(self.annotations)

    def __getitem__(self, key: int | tuple[int, ...]) -> Sample:
        """Makes one sample.

        Returns:
            (3, H, W) uint8 image, and its target: boxes (N, 4) float32 xyxy pixels, labels (N,)
            int64, area (N,) float32, iscrowd (N,) int64, masks (N, H, W) uint8 if asked for (from
            a loader's worker `MaskBits`), keypoints (N, K, 3) float32 if asked for, x and y in
            pixels as boxes have them, and keypoint_mirror (K,) int64, which each becomes in a
            mirror, image_id and index (int), original_size (height, width before the transform).

        Raises:
            WorkerInputError: the image cannot be read or has not the size the annotations say.
        """
        epoch, index, occurrence = _full_key(key)
        generator = np.random.default_rng(
            np.random.SeedSequence((self.seed, epoch, index, occurrence))
        )
        try:
            image = self._read(index)
        except InputError as error:
            raise WorkerInputError(f"{error}; {_MEND}") from None
        image, target = self.transform(image, self._target(index), generator)
        target = _without_slivers(target)
        if self.masks:
            in_worker = get_worker_info() is not None
            target["masks"] = target["masks"].bits() if in_worker else target["masks"].pixels()
        return image, target

    @staticmethod
    def collate(samples: list[Sample]) -> Batch:
        """Gives the images and their targets, a list each: images differ in size."""
        return [image for image, _ in samples], [target for _, target in samples]

    def _read(self, index: int) -> Tensor:
        path = self.annotations.image_path(index)
        image = read_image(path)
        width, height = self.annotations.sizes[index]
        if image.shape[-2:] != (height, width):
            seen = f"{image.shape[-1]}x{image.shape[-2]}"
            told = f"{self.annotations.path} says {width}x{height}"
            raise InputError(f"{path}: the image is {seen} (upright), but {told}")
        return image

    def _target(self, index: int) -> Target:
        notes = self.annotations
        rows = np.arange(*notes.rows(index).indices(len(notes.boxes)))
        rows = rows[~notes.crowd[rows]]  # training must not take crowds for objects
        width, height = (int(side) for side in notes.sizes[index])
        target: Target = {
            "boxes": torch.from_numpy(notes.boxes[rows]),
            "labels": torch.from_numpy(notes.labels[rows].astype(np.int64)),
            "area": torch.from_numpy(notes.areas[rows].astype(np.float32)),
            "iscrowd": torch.from_numpy(notes.crowd[rows].astype(np.int64)),
            "image_id": int(notes.image_ids[index]),
            "index": index,
            "original_size": (height, width),
        }
        if self.masks and notes.masks is not None:
            counts = [notes.masks[int(row)] for row in rows]
            target["masks"] = Masks.of_file(counts, height, width)
        if self.keypoints and notes.keypoints is not None and notes.keypoint_layout is not None:
            target["keypoints"] = torch.from_numpy(to_pixels(notes.keypoints[rows]))
            target["keypoint_mirror"] = torch.from_numpy(notes.keypoint_layout.mirrored)
        return target


def _full_key(key: int | tuple[int, ...]) -> Key:
    if isinstance(key, int):
        return 0, key, 0
    epoch, index, *rest = key
    return epoch, index, rest[0] if rest else 0


def _without_slivers(target: Target) -> Target:
    """Drops boxes that resizing made too thin, or single precision closed."""
    boxes = target["boxes"]
    kept = (boxes[:, 2:] - boxes[:, :2] >= _THINNEST).all(dim=1)
    if bool(kept.all()):
        return target
    columns = ("boxes", "labels", "area", "iscrowd", "masks", "keypoints")
    return {**target, **{name: target[name][kept] for name in columns if name in target}}
