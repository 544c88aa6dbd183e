from pathlib import Path

import torch

from detnet.engine.agreement import require_same, require_shared
from detnet.engine.distributed import Process

ALONE = Process(0, 1, torch.device("cpu"))


def test_one_alone_agrees_with_itself(tmp_path: Path) -> None:
    require_same("settings", {"lr": 0.1})
    require_shared(tmp_path / "nowhere", ALONE)
    assert not list(tmp_path.iterdir())
