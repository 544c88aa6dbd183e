"""Supernets trained by two processes: one path for both, synchronised batch norms."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from detnet.backbones.supernet import find_supernet
from detnet.detectors.files import load_model
from detnet.engine.runs import RunFolder
from tests.recipes.search.small_search import settings, write_classes, write_data

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("detector", ["faster_rcnn_fpn", "retinanet"])
def test_both_trainings(tmp_path: Path, detector: str) -> None:
    data, classes = write_data(tmp_path / "data"), write_classes(tmp_path / "classes")
    config = settings(data, classes) | {"detector": detector}
    if detector == "retinanet":
        config["finetune"] = {**config["finetune"], "detector_options": {}}
        config["retrain"] = {**config["retrain"], "detector_options": {}}
    (tmp_path / "search.yaml").write_text(yaml.safe_dump(config))
    begin = ["--config", str(tmp_path / "search.yaml"), "--output", str(tmp_path / "run")]
    for phase, words in (("pretrain", begin), ("finetune", ["--resume", str(tmp_path / "run")])):
        command = [
            sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2",
            "-m", "detnet", "search", *words, "--phase", phase, "--no-estimate",
        ]  # fmt: skip
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr[-3000:]
        events = RunFolder.open(tmp_path / "run" / phase).read_metrics()
        assert sum(event["event"] == "step" for event in events) == 4
    model = load_model(tmp_path / "run" / "finetune" / "model.safetensors")
    supernet = find_supernet(model)
    assert supernet is not None
    supernet.take([1] * len(supernet.space.genes))
    found = model.eval()([torch.rand(3, 96, 128)])
    assert found[0]["boxes"].isfinite().all()
