"""Whole runs on the device."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from detnet.training.detection.config import TrainConfig
from detnet.training.detection.train import resume, train
from tests.pretended.device import register
from tests.training.runs import Kill, assert_same_run, killed_after, metrics, quiet

PLACE = register()


@pytest.mark.slow
@pytest.mark.parametrize("detector", ["retinanet", "faster_rcnn_fpn"])
def test_a_whole_run_and_its_resume(detector: str, tiny: TrainConfig, tmp_path: Path) -> None:
    """Trained, evaluated and saved on the device; killed in between, to the same bits."""
    config = replace(tiny, detector=detector, precision="fp32", device="auto")
    if detector != "faster_rcnn_fpn":
        config = replace(config, detector_options={})
    events: list[dict[str, Any]] = []
    assert train(config, tmp_path / "whole", on_event=events.append)
    start = next(event for event in events if event["event"] == "start")
    assert start["device"] == str(PLACE)
    with pytest.raises(Kill):
        train(config, tmp_path / "killed", on_event=killed_after(3))
    assert resume(tmp_path / "killed", on_event=quiet)
    assert_same_run(tmp_path / "whole", tmp_path / "killed", "best.safetensors")
    assert [e for e in metrics(tmp_path / "whole") if e["event"] == "evaluation"]
