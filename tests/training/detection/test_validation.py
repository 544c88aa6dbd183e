import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torch import nn
from torchvision.transforms.v2 import functional as TF

from detnet.data.folders import find_split
from detnet.data.reading import load_annotations
from detnet.detectors import create
from detnet.engine.distributed import Process
from detnet.training.detection.evaluate import validation_losses

ALONE = Process(0, 1, torch.device("cpu"))


def small_detector() -> Any:
    torch.manual_seed(0)
    options = {"pre_nms_test": 100, "post_nms_test": 20, "rpn_batch": 32, "roi_batch": 16}
    return create(
        "faster_rcnn_fpn", num_classes=4, width=0.125, min_size=96, max_size=120, **options
    ).eval()


def by_hand(model: Any, scenes: Path, batches: list[list[int]], seed: int) -> dict[str, float]:
    """Means over images of the losses that the detector gives for each batch, read from the files:
    images of 160×120 pixels at three quarters of their size, neither mirrored nor shuffled.
    """
    raw = json.loads((scenes / "annotations" / "instances_val.json").read_text())
    kinds = {category["id"]: label for label, category in enumerate(raw["categories"], start=1)}
    model.train()
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eval()
    torch.manual_seed(seed)
    sums: dict[str, float] = {}
    for batch in batches:
        images, targets = [], []
        for record in (raw["images"][index] for index in batch):
            picture = TF.pil_to_tensor(Image.open(scenes / "val" / record["file_name"]))
            assert picture.shape == (3, 120, 160)
            images.append(TF.resize(picture, [90, 120], antialias=True))
            own = [a for a in raw["annotations"] if a["image_id"] == record["id"]]
            own = [a for a in own if not a["iscrowd"]]
            boxes = torch.tensor([a["bbox"] for a in own]).reshape(-1, 4)
            boxes = torch.cat([boxes[:, :2], boxes[:, :2] + boxes[:, 2:]], 1) * 0.75
            labels = torch.tensor([kinds[a["category_id"]] for a in own])
            targets.append({"boxes": boxes, "labels": labels.long()})
        with torch.no_grad():
            losses = model(images, targets)
        for name, loss in losses.items():
            sums[name] = sums.get(name, 0.0) + float(loss) * len(batch)
    model.eval()
    count = sum(len(batch) for batch in batches)
    means = {name: value / count for name, value in sums.items()}
    return {"loss": sum(means.values()), **means}


@pytest.mark.parametrize(("size", "batches"), [(2, [[0, 1], [2]]), (1, [[0], [1], [2]])])
def test_validation_losses_are_those_of_the_detector(
    scenes: Path, size: int, batches: list[list[int]]
) -> None:
    annotations, _ = load_annotations(find_split(scenes, "val"))
    model = small_detector()
    found = validation_losses(
        model, annotations, size, process=ALONE, autocast=None, workers=0, seed=3
    )
    expected = by_hand(model, scenes, batches, seed=3)
    assert len(found) == 5 and found["loss"] > 0.5
    assert found == pytest.approx(expected, rel=1e-5)


def test_validation_losses_leave_everything_as_it_was(scenes: Path) -> None:
    annotations, _ = load_annotations(find_split(scenes, "val"))
    model = small_detector()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    torch.manual_seed(5)
    state = torch.get_rng_state()
    losses = [
        validation_losses(model, annotations, 2, process=ALONE, autocast=None, workers=0, seed=1)
        for _ in range(2)
    ]
    assert torch.equal(state, torch.get_rng_state())
    assert losses[0] == losses[1]
    assert not model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
