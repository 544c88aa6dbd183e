from pathlib import Path

import pytest
import torch

from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import train
from tests.conftest import TINY
from tests.training.runs import quiet


@pytest.fixture(scope="session")
def whole(tmp_path_factory: pytest.TempPathFactory, scenes: Path) -> Path:
    """A run of six steps that was never interrupted."""

    folder = tmp_path_factory.mktemp("whole") / "run"
    torch.set_num_threads(1)
    assert train(TrainConfig.make(None, {"data": str(scenes), **TINY}), folder, on_event=quiet)
    return folder
