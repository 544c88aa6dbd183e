"""Trains a backbone as a classifier: a run that can be interrupted and resumed."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from detnet.backbones.cost import backbone_cost
from detnet.backbones.files import save_classifier
from detnet.data.batches import stream
from detnet.data.classification.dataset import ClassificationDataset, ShuffledBatches
from detnet.data.classification.image_folder import ImageFolder, require_same_classes
from detnet.data.classification.shards import ShardedImages, index_images
from detnet.data.classification.transforms import TrainView
from detnet.engine.distributed import Process, all_gather
from detnet.engine.loop import Batch
from detnet.engine.machine import is_accelerator
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.evaluation.classification import FIVE, has_top5
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.evaluate import (
    measure,
    require_readable,
    split_folder,
    write_scores,
)
from detnet.training.classification.network import build_classifier, describe
from detnet.training.pretrained import load_classifier_weights
from detnet.training.run import run_task
from detnet.training.run_state import OnEvent
from detnet.training.task import (
    Measured,
    RunData,
    Task,
    training_schedule,
)

Split = ImageFolder | ShardedImages
_OTHERS: dict[type[Split], str] = {  # in the words of a note
    ImageFolder: "files that are no images by their names",
    ShardedImages: "images whose names hold a further dot or repeat a key",
}


def pretrain(config: PretrainConfig, output: Path, *, on_event: OnEvent) -> bool:
    """Starts a run in a new folder; see `detnet.training.run.run_task`."""
    return run_task(PretrainTask(config), output, resume=False, on_event=on_event)


def resume(output: Path, *, on_event: OnEvent) -> bool:
    """Goes on with the run in a folder, to the same bits as if it had never stopped."""
    config = PretrainConfig.read(RunFolder.open(output).config)
    return run_task(PretrainTask(config), output, resume=True, on_event=on_event)


class PretrainTask(Task):
    """A classifier on images in class folders."""

    config: PretrainConfig
    fixed_size = True

    def read_data(self, process: Process) -> None:
        config = self.config
        self.process = process
        batch_size = config.batch_of(process.world_size)
        self.train, self.val = self.read_folders()
        if config.best_metric == "top5" and not has_top5(len(self.train.classes)):
            raise InputError(
                f"best_metric top5 takes more than {FIVE} classes, {self.train.path} has "
                f"{len(self.train.classes)}; take top1"
            )
        self.info = describe(config, self.train.classes)
        self._dataset = ClassificationDataset(
            self.train, train_view(config), seed=config.seed, substitute=True
        )
        self._batches = ShuffledBatches(
            len(self.train),
            batch_size=batch_size,
            seed=config.seed,
            rank=process.rank,
            world_size=process.world_size,
        )
        self.batches_per_epoch = len(self._batches)
        self.data = RunData(
            self.train.path,
            "images",
            len(self.train),
            len(self.val) if self.val else 0,
            self.train.fingerprint(),
            _notes(self.train, self.val),
            self.train.classes,
            self.val.fingerprint() if self.val else "",
        )
        self._unreadable: dict[int, str] = {}  # seen by this process
        self._told: dict[int, str] = {}  # seen by any process

    def read_folders(self) -> tuple[Split, Split | None]:
        """The images to train and to evaluate on.

        Raises:
            InputError: no data is named, or none is there.
        """
        return _read_folders(self.config)

    def make_model(self) -> tuple[nn.Module, list[str]]:
        model = build_classifier(self.config, self.train.classes)
        weights, self.weights = self.weights, None  # many, and not needed again
        notes = [] if weights is None else load_classifier_weights(model, self.info, weights)
        return model, [self._cost(), *notes]

    def _cost(self) -> str:
        side = self.config.image_size
        width, others = self.config.width, {**self.info.options}
        others.pop("width", None)
        macs = backbone_cost(
            self.config.backbone,
            image_size=(side, side),
            width=width,
            num_classes=len(self.info.classes),
            options=others,
        ).classifier.macs
        schedule = training_schedule(self.config, self.batches_per_epoch)
        shown = schedule.total * self.config.batch_size
        return (
            f"{self.config.backbone} of width {self.config.width:g}: {macs / 1e9:.3g} G "
            f"multiply-adds an image of {side}×{side}; the run shows {shown:,} images, about "
            f"{3 * macs * shown:.2g} multiply-adds"
        )

    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        batches = stream(
            self._dataset,
            self._batches,
            start=start,
            stop=stop,
            workers=self.config.workers,
            pin_memory=is_accelerator(self.process.device),
        )
        for images, targets in batches:
            for target in targets:
                self._unreadable |= dict(target.pop("unreadable", []))
            yield images, targets

    def new_notes(self) -> list[str]:
        """Says which images could not be read."""
        seen: dict[int, str] = {}
        for part in all_gather(self._unreadable):
            seen |= part
        new = sorted(seen.keys() - self._told.keys())
        self._told |= seen
        require_readable(sorted(self._told.items()), len(self.train))
        count = len(self._told)
        return [f"{self._told[index]}; another image takes its place" for index in new] + (
            [f"{count} of {len(self.train)} images cannot be read so far"] if new else []
        )

    def state(self) -> dict[str, Any]:
        return {"unreadable": dict(self._unreadable), "told": dict(self._told)}

    def restore(self, state: dict[str, Any]) -> None:
        self._unreadable, self._told = dict(state["unreadable"]), dict(state["told"])

    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        assert self.val is not None  # asked by the caller
        scores = measure(
            model,
            self.info,
            self.val,
            process=self.process,
            autocast=autocast,
            workers=self.config.workers,
        )
        return Measured(scores.headline, partial(write_scores, scores, data=self.val.path))

    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        save_classifier(path, self.info, model.state_dict() if state is None else state)

    def names_of(self, image_ids: Iterable[int]) -> list[str]:
        return [self.train.name(index) for index in image_ids]


def train_view(config: PretrainConfig) -> TrainView:
    """What a run's settings make of an image."""
    return TrainView(
        config.image_size,
        min_area=config.min_area,
        flip=config.flip,
        color_jitter=config.color_jitter,
        lighting=config.lighting,
        mixup=config.mixup,
    )


def _read_folders(config: PretrainConfig) -> tuple[Split, Split | None]:
    if not config.data:
        raise InputError("no data: give --data FOLDER with train/CLASS/image.jpg and val/…")
    data = Path(config.data)
    if not data.is_dir():
        raise InputError(f"{data}: no such folder")
    train = index_images(split_folder(data, config.train_split))
    if config.val_split == "none" or config.val_split == "val" and not (data / "val").is_dir():
        return train, None
    val = index_images(split_folder(data, config.val_split))
    require_same_classes(val, train)
    return train, val


def _notes(train: Split, val: Split | None) -> list[str]:
    notes = [
        f"{folder.path}: {folder.others} {_OTHERS[type(folder)]} are left alone"
        for folder in (train, val)
        if folder is not None and folder.others
    ]
    if val is None:
        notes.append("no validation split: nothing is evaluated, no best model is kept")
    return [f"{len(train.classes)} classes", *notes]
