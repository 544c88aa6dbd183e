"""Trains a detector: a run that can be interrupted and resumed to the same bits."""

from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from detnet.data.batches import stream
from detnet.data.reading import fingerprint_files
from detnet.detectors.base import Detector
from detnet.detectors.files import save_model
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.engine.machine import is_accelerator
from detnet.engine.runs import RunFolder
from detnet.evaluation.files import write_scores
from detnet.training.detection.box_sizes import tell_levels, with_anchors
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.evaluate import evaluate_model, validation_losses
from detnet.training.detection.model_and_data import (
    build_detector,
    load_data,
    make_batches,
    make_dataset,
)
from detnet.training.pretrained import load_detector_weights
from detnet.training.run import run_task
from detnet.training.run_state import OnEvent
from detnet.training.task import Measured, RunData, Task


def train(config: TrainConfig, output: Path, *, on_event: OnEvent) -> bool:
    """Starts a run in a new folder; see `detnet.training.run.run_task`."""
    return run_task(DetectionTask(config), output, resume=False, on_event=on_event)


def resume(output: Path, *, on_event: OnEvent) -> bool:
    """Goes on with the run in a folder, to the same bits as if it had never stopped."""
    config = TrainConfig.read(RunFolder.open(output).config)
    return run_task(DetectionTask(config), output, resume=True, on_event=on_event)


class DetectionTask(Task):
    """A detector on a data set in COCO's format."""

    config: TrainConfig

    def read_data(self, process: Process) -> None:
        self.process = process
        self.config.batch_of(process.world_size)  # refused before the reading, not after it
        self.annotations = data = load_data(self.config)
        self.config, notes = with_anchors(self.config, data.train)
        self.data = RunData(
            data.train.path,
            "annotations",
            len(data.train),
            len(data.val) if data.val else 0,
            data.fingerprint,
            [*data.notes, *notes],
            data.train.categories.names,
            fingerprint_files(data.split) if data.split else "",
        )
        self._dataset = make_dataset(self.config, data.train)
        self._batches = make_batches(self.config, data.train, process)
        self.batches_per_epoch = len(self._batches)

    def make_model(self) -> tuple[Detector, list[str]]:
        train = self.annotations.train
        model = build_detector(self.config, train.categories, train.keypoint_layout)
        self.fixed_size = model.transform.square and len(self.config.min_sizes) == 1
        notes = tell_levels(model, self.config, train)
        weights, self.weights = self.weights, None  # many, and not needed again
        return model, notes + (load_detector_weights(model, weights) if weights is not None else [])

    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        return stream(
            self._dataset,
            self._batches,
            start=start,
            stop=stop,
            workers=self.config.workers,
            pin_memory=is_accelerator(self.process.device),
        )

    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        assert self.annotations.val is not None  # asked by the caller
        assert isinstance(model, Detector)  # as make_model gave it
        scores = evaluate_model(
            model,
            self.annotations.val,
            truths=self.annotations.truths,
            split=self.annotations.split,
            process=self.process,
            autocast=autocast,
            workers=self.config.workers,
        )
        numbers = dict(scores.headline)
        if self.config.val_loss:
            losses = validation_losses(
                model,
                self.annotations.val,
                self._batches.batch_size,
                process=self.process,
                autocast=autocast,
                workers=self.config.workers,
                seed=self.config.seed,
            )
            numbers |= {f"val_{name}": value for name, value in losses.items()}
        return Measured(numbers, partial(write_scores, scores))

    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        save_model(path, model, state)

    def names_of(self, image_ids: Iterable[int]) -> list[str]:
        return self.annotations.file_names(image_ids)
