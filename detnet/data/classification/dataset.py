"""Batches of classified images that depend on (seed, epoch, image) alone, wherever resumed."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import get_worker_info

from detnet.data.batches import Key, KeyedDataset, WorkerInputError
from detnet.data.classification.image_folder import ClassifiedImages
from detnet.errors import InputError

Sample = tuple[np.ndarray, dict[str, Any]]
Batch = tuple[Tensor, list[dict[str, Any]]]

_SUBSTITUTES = 20  # images tried in place of one that cannot be read


class ClassificationDataset(KeyedDataset):
    """Images with their labels, read and cropped one at a time.

    An image that cannot be read is left out; in training another one takes its place, which one
    depends on the key alone.

    Args:
        images: the split.
        view: `TrainView` or `TestView`.
        seed: of the random numbers, whose stream is keyed by (seed, epoch, index, occurrence).
        substitute: put another image in the place of one that cannot be read.
    """

    def __init__(
        self, images: ClassifiedImages, view: Any, *, seed: int = 0, substitute: bool
    ) -> None:
        self.images, self.view, self.seed, self.substitute = images, view, seed, substitute

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, key: Key) -> Sample:
        """Makes one sample.

        Returns:
            (size, size, 3) uint8, and its target: image_id and label (int), what the view drew,
            and `unreadable`, (index, reason) of each image that could not be read. Where none
            takes its place, the image is black and its label -1.

        Raises:
            InputError: too many images in a row cannot be read.
        """
        epoch, index, occurrence = key
        unreadable: list[tuple[int, str]] = []
        for attempt in range(_SUBSTITUTES):
            generator = self._generator(epoch, index, occurrence)
            try:
                pixels, draws = self._read(index, generator)
            except InputError as error:
                unreadable.append((index, str(error)))
                if not self.substitute:
                    return self._nothing(index, unreadable)
                generator = self._generator(*key, attempt + 1)
                index = int(generator.integers(len(self.images)))
                continue
            target = {"image_id": index, "label": int(self.images.labels[index]), **draws}
            return pixels, target | ({"unreadable": unreadable} if unreadable else {})
        message = f"{_SUBSTITUTES} images in a row cannot be read, as {unreadable[0][1]}"
        raise InputError(message) if get_worker_info() is None else WorkerInputError(message)

    @staticmethod
    def collate(samples: list[Sample]) -> Batch:
        """Gives images (N, 3, H, W) uint8, channels_last, and a target for each."""
        pixels = torch.from_numpy(np.stack([pixels for pixels, _ in samples]))
        return pixels.permute(0, 3, 1, 2), [target for _, target in samples]

    def _generator(self, *key: int) -> np.random.Generator:
        return np.random.default_rng(np.random.SeedSequence((self.seed, *key)))

    def _read(self, index: int, generator: np.random.Generator) -> Sample:
        images = self.images
        return self.view(images.image_path(index), generator, images.content(index))

    def _nothing(self, index: int, unreadable: list[tuple[int, str]]) -> Sample:
        black = np.zeros((self.view.size, self.view.size, 3), dtype=np.uint8)
        return black, {"image_id": index, "label": -1, "unreadable": unreadable}


class ShuffledBatches:
    """Deals the images out in batches, newly shuffled each epoch, the same number to each rank.

    What does not fill the last batch of every rank is left out of the epoch, other images each
    time; images are repeated where there are fewer than one batch for every rank.

    Args:
        count: images there are.
        batch_size: images per batch and rank.
        seed: of the order.
        rank: which process this is, of `world_size`.

    Raises:
        ValueError: a number is out of range.
    """

    def __init__(
        self, count: int, *, batch_size: int, seed: int = 0, rank: int = 0, world_size: int = 1
    ) -> None:
        if count < 1 or batch_size < 1 or not 0 <= rank < world_size:
            raise ValueError(f"{count=}, {batch_size=}, {rank=}, {world_size=}")
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.rank, self.world_size = rank, world_size
        self._steps = max(1, count // (batch_size * world_size))

    def __len__(self) -> int:
        """Batches per epoch on this rank, the same for every epoch and rank."""
        return self._steps

    def keys(self, epoch: int) -> Sequence[list[Key]]:
        """This rank's batches of an epoch, in order."""
        # The tag keeps the order's stream apart from the images' own.
        entropy = np.random.SeedSequence((self.seed, epoch), spawn_key=(1,))
        order = np.random.default_rng(entropy).permutation(self.count)
        shape = (self._steps, self.world_size, self.batch_size)
        places = np.arange(np.prod(shape)).reshape(shape)[:, self.rank]
        return _Epoch(epoch, order, places)


class _Epoch(Sequence[list[Key]]):
    """The batches of an epoch, without a Python object for each of millions of images."""

    def __init__(self, epoch: int, order: np.ndarray, places: np.ndarray) -> None:
        self.epoch, self.order, self.places = epoch, order, places

    def __len__(self) -> int:
        return len(self.places)

    def __getitem__(self, which: Any) -> Any:
        if isinstance(which, slice):
            return _Epoch(self.epoch, self.order, self.places[which])
        times, where = np.divmod(self.places[which], len(self.order))
        pairs = zip(self.order[where].tolist(), times.tolist(), strict=True)
        return [(self.epoch, index, time) for index, time in pairs]
