"""Pre-trains a supernet without the images that its networks are scored on as classifiers."""

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path

import numpy as np

from detnet.coco.flat import FlatBytes
from detnet.data.classification.image_folder import ImageFolder
from detnet.engine.distributed import Process
from detnet.search.paths import PathSampler
from detnet.search.supernet import SupernetPretraining
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.train import Split
from detnet.training.run import run_task
from detnet.training.run_state import Watch


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
    return run_task(
        config,
        run,
        lambda process: _GuidePretraining(config, process, sampler, left_out),
        resume=resume,
        watch=watch,
    )


class _GuidePretraining(SupernetPretraining):
    def __init__(
        self,
        config: PretrainConfig,
        process: Process,
        sampler: PathSampler,
        left_out: Collection[int],
    ) -> None:
        self._left_out = left_out  # asked for by what follows
        super().__init__(config, process, sampler)

    def read_folders(self) -> tuple[Split, Split | None]:
        train, val = super().read_folders()
        return without(train, self._left_out), val


def without(images: Split, left_out: Collection[int]) -> Split:
    """The same listing but for some of its images."""
    kept = np.setdiff1d(np.arange(len(images)), np.array(sorted(left_out), dtype=np.int64))
    names = FlatBytes.of(images.names[int(index)] for index in kept)
    if isinstance(images, ImageFolder):
        return replace(images, labels=images.labels[kept], names=names)
    columns = {name: getattr(images, name)[kept] for name in ("shard_of", "offsets", "sizes")}
    return replace(images, labels=images.labels[kept], names=names, **columns)
