"""Trains a detector: one function that can be interrupted and resumed to the same bits."""

from collections.abc import Iterable, Iterator
from pathlib import Path

import torch
from torch import Tensor, nn

from detnet.data.loaders import stream
from detnet.detectors import DETECTORS
from detnet.detectors.base import Detector
from detnet.detectors.files import save_model
from detnet.engine.distributed import Process
from detnet.engine.loop import Batch
from detnet.engine.runs import RunFolder
from detnet.evaluation.files import write_scores
from detnet.evaluation.metrics import column_names
from detnet.training.detection.anchors import with_anchors
from detnet.training.detection.config import TrainConfig, read_config
from detnet.training.detection.evaluate import evaluate_model
from detnet.training.detection.model_and_data import (
    load_material,
    make_batches,
    make_dataset,
    make_model,
)
from detnet.training.detection.validation import validation_losses
from detnet.training.pretrained import as_built
from detnet.training.run import run_task
from detnet.training.run_state import OnEvent
from detnet.training.task import Measured, Source, Task, require_metric


def train(config: TrainConfig, output: Path, *, on_event: OnEvent) -> bool:
    """Starts a run in a new folder; see `detnet.training.run.run_task`."""
    return _run(config, output, resume=False, on_event=on_event)


def resume(output: Path, *, on_event: OnEvent) -> bool:
    """Goes on with the run in a folder, to the same bits as if it had never stopped."""
    return _run(begun_config(output), output, resume=True, on_event=on_event)


def begun_config(run: Path) -> TrainConfig:
    """Reads the settings of a run that was begun."""
    return read_config(RunFolder.open(run).config)


def _run(config: TrainConfig, output: Path, *, resume: bool, on_event: OnEvent) -> bool:
    def make_task(process: Process) -> Task:
        return DetectionTask(config, process)

    return run_task(config, output, make_task, resume=resume, on_event=on_event)


class DetectionTask(Task):
    """A detector on a data set in COCO's format."""

    config: TrainConfig

    def __init__(self, config: TrainConfig, process: Process) -> None:
        kinds = {"boxes": "bbox", "masks": "segm", "keypoints": "keypoints"}
        found = [kinds[target] for target in DETECTORS[config.detector].targets]
        require_metric(config.best_metric, column_names(found))
        self.material = material = load_material(config)
        config, notes = with_anchors(config, material.train)
        self.config, self.process = config, process
        self.source = Source(
            material.train.path,
            "annotations",
            len(material.train),
            len(material.val) if material.val else 0,
            material.fingerprint,
            [*material.notes, *notes],
        )
        self._dataset = make_dataset(config, material.train)
        self._batches = make_batches(config, material.train, process)
        self.batches_per_epoch = len(self._batches)

    def make_model(self, *, carry: bool) -> tuple[nn.Module, list[str]]:
        train = self.material.train
        model, notes = make_model(
            self.config, train.categories, layout=train.keypoint_layout, carry=carry
        )
        self.config = as_built(self.config, model)
        return model, notes

    def stream(self, *, start: int, stop: int) -> Iterator[Batch]:
        return stream(
            self._dataset,
            self._batches,
            start_iteration=start,
            iterations=stop,
            workers=self.config.workers,
            pin_memory=self.process.device.type == "cuda",
        )

    def evaluate(self, model: nn.Module, autocast: torch.dtype | None) -> Measured:
        assert self.material.val is not None  # asked by the caller
        assert isinstance(model, Detector)  # as make_model gave it
        scores = evaluate_model(
            model,
            self.material.val,
            truths=self.material.truths,
            split=self.material.split,
            process=self.process,
            autocast=autocast,
            workers=self.config.workers,
        )
        losses = self._losses(model, autocast) if self.config.val_loss else {}
        numbers = {**scores.headline, **{f"val_{name}": value for name, value in losses.items()}}
        return Measured(numbers, lambda folder: write_scores(scores, folder))

    def _losses(self, model: nn.Module, autocast: torch.dtype | None) -> dict[str, float]:
        assert self.material.val is not None
        return validation_losses(
            model,
            self.material.val,
            self._batches.batch_size,
            process=self.process,
            autocast=autocast,
            workers=self.config.workers,
            seed=self.config.seed,
        )

    def save_model(self, path: Path, model: nn.Module, state: dict[str, Tensor] | None) -> None:
        save_model(path, model, state)

    def names_of(self, image_ids: Iterable[int]) -> list[str]:
        return self.material.file_names(image_ids)
