"""Pre-trains a supernet without the images that its networks are scored on as classifiers."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from detnet.data.classification.image_folder import ImageFolder
from detnet.data.classification.loaders import ClassificationDataset, ShuffledBatches
from detnet.data.classification.shards import ShardedImages
from detnet.data.flat import FlatBytes
from detnet.engine.distributed import Process
from detnet.recipes.classification.config import PretrainConfig
from detnet.recipes.classification.pretrain import train_view
from detnet.recipes.run_state import Watch
from detnet.recipes.running import run_task
from detnet.recipes.search.paths import PathSampler
from detnet.recipes.search.supernet import _SupernetPretraining
from detnet.recipes.task import Task, batch_per_process


def pretrain_guide(
    config: PretrainConfig,
    run: Path,
    sampler: PathSampler,
    left_out: Collection[int],
    *,
    resume: bool,
    watch: Watch,
) -> bool:
    """Trains a supernet on classes of images but for some; see `pretrain_supernet`.

    Args:
        left_out: indices of images in the folder's listing.
    """

    def make_task(process: Process) -> Task:
        return _GuidePretraining(config, process, sampler, left_out)

    return run_task(config, run, make_task, resume=resume, watch=watch)


class _GuidePretraining(_SupernetPretraining):
    def __init__(
        self,
        config: PretrainConfig,
        process: Process,
        sampler: PathSampler,
        left_out: Collection[int],
    ) -> None:
        super().__init__(config, process, sampler)
        self.train = without(self.train, left_out)
        self._dataset = ClassificationDataset(
            self.train, train_view(config), seed=config.seed, substitute=True
        )
        self._batches = ShuffledBatches(
            len(self.train),
            batch_size=batch_per_process(config, process),
            seed=config.seed,
            rank=process.rank,
            world_size=process.world_size,
        )
        self.batches_per_epoch = len(self._batches)
        self.source = replace(
            self.source, images=len(self.train), fingerprint=self.train.fingerprint()
        )


def without(
    images: ImageFolder | ShardedImages, left_out: Collection[int]
) -> ImageFolder | ShardedImages:
    """The same listing but for some of its images."""
    kept = np.setdiff1d(np.arange(len(images)), np.array(sorted(left_out), dtype=np.int64))
    names = FlatBytes.of(images.names[int(index)] for index in kept)
    if isinstance(images, ImageFolder):
        return replace(images, labels=images.labels[kept], names=names)
    columns = {name: getattr(images, name)[kept] for name in ("shard_of", "offsets", "sizes")}
    return replace(images, labels=images.labels[kept], names=names, **columns)
