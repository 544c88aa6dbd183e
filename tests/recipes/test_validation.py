from pathlib import Path

import pytest
import torch

from detnet.data.coco import load_annotations
from detnet.data.folders import find_split
from detnet.detectors import create
from detnet.engine.distributed import Process
from detnet.recipes.validation import validation_losses

ALONE = Process(0, 1, 0, torch.device("cpu"))


def test_validation_losses_leave_everything_as_it_was(scenes: Path) -> None:
    annotations, _ = load_annotations(find_split(scenes, "val"))
    torch.manual_seed(0)
    options = {"pre_nms_test": 100, "post_nms_test": 20}
    model = create(
        "faster_rcnn_fpn", num_classes=4, width=0.125, min_size=96, max_size=128, **options
    ).eval()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    losses = [
        validation_losses(model, annotations, 2, process=ALONE, autocast=None, workers=0, seed=1)
        for _ in range(2)
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert losses[0] == losses[1]
    assert losses[0]["loss"] == pytest.approx(
        sum(value for name, value in losses[0].items() if name != "loss")
    )
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
