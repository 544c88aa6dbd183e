"""Trains a supernet, as a classifier and then under a detector: one path a step."""

from pathlib import Path

from torch import nn

from detnet.backbones.spaces.supernet import find_supernet
from detnet.detectors.supernet import take_path
from detnet.engine.distributed import Process
from detnet.search.paths import PathSampler
from detnet.training.classification.config import PretrainConfig
from detnet.training.classification.train import PretrainTask
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import DetectionTask
from detnet.training.run import run_task
from detnet.training.run_state import Watch


def pretrain_supernet(
    config: PretrainConfig, run: Path, sampler: PathSampler, *, resume: bool, watch: Watch
) -> bool:
    """Trains a supernet on classes of images.

    Args:
        config: an ordinary classification run's, its backbone "supernet".
        run: the run's folder; new unless resumed.

    Returns:
        True when the run is complete, False when it was interrupted and can be resumed.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.1, step 1.
    """
    return run_task(
        config, run, lambda p: SupernetPretraining(config, p, sampler), resume=resume, watch=watch
    )


def finetune_supernet(
    config: TrainConfig, run: Path, sampler: PathSampler, *, resume: bool, watch: Watch
) -> bool:
    """Trains a supernet under a detector.

    Args:
        config: an ordinary detection run's, its backbone "supernet".
        run: the run's folder; new unless resumed.

    Returns:
        True when the run is complete, False when it was interrupted and can be resumed.

    Paper: Chen et al. 2019, arXiv:1903.10979, Section 3.1, step 2.
    """
    return run_task(
        config, run, lambda p: SupernetFinetuning(config, p, sampler), resume=resume, watch=watch
    )


class SupernetPretraining(PretrainTask):
    """A supernet on images in class folders."""

    partial = True

    def __init__(self, config: PretrainConfig, process: Process, sampler: PathSampler) -> None:
        super().__init__(config, process)
        self._sampler = sampler

    def prepare(self, model: nn.Module, iteration: int) -> None:
        _walk(model, self._sampler, iteration)


class SupernetFinetuning(DetectionTask):
    """A supernet under a detector."""

    partial = True

    def __init__(self, config: TrainConfig, process: Process, sampler: PathSampler) -> None:
        super().__init__(config, process)
        self._sampler = sampler

    def prepare(self, model: nn.Module, iteration: int) -> None:
        _walk(model, self._sampler, iteration)


def _walk(model: nn.Module, sampler: PathSampler, iteration: int) -> None:
    if sampler.single and iteration == sampler.single:
        supernet = find_supernet(model)
        assert supernet is not None  # or there was no path to take until now
        supernet.spread()
    take_path(model, sampler.path(iteration))
