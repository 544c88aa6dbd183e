from pathlib import Path
from typing import Any

import pytest
import torch

from detnet.detectors import create, option_defaults
from detnet.detectors.files import load_model, save_model
from detnet.errors import InputError
from tests.contracts import scene

SMALL: dict[str, Any] = {"num_classes": 4, "width": 0.125, "min_size": 96, "max_size": 160}


@pytest.mark.parametrize(
    ("backbone", "options", "levels", "strides"),
    [
        ("detnet59", {}, ["c4", "c6"], [4, 8, 16, 16, 16]),
        ("detnet59", {"proposal_level": "c6"}, ["c6"], [4, 8, 16, 16, 16]),
        ("resnet50", {}, ["c4", "c5"], [4, 8, 16, 16]),
        ("resnet50", {"dilate": False}, ["c4"], [4, 8, 16]),
        ("detnasnet_300m", {}, ["c4", "c5"], [4, 8, 16, 16]),
    ],
)
def test_levels(
    backbone: str, options: dict[str, Any], levels: list[str], strides: list[int]
) -> None:
    model = create("rfcn", backbone=backbone, **SMALL, **options)
    assert [info.name for info in model.backbone.feature_info] == levels
    assert [info.stride for info in model.backbone.backbone.feature_info] == strides
    assert (model.rpn.level, model.roi_heads.level) == (levels[0], levels[-1])
    assert model.roi_heads.box_roi_pool.scales == [1 / 16]


def test_the_paper_s_numbers() -> None:
    defaults = option_defaults("rfcn")
    assert (defaults["post_nms_train"], defaults["post_nms_test"]) == (300, 300)
    assert (defaults["ohem"], defaults["roi_batch"], defaults["nms_threshold"]) == (True, 128, 0.3)
    with torch.device("meta"):
        model = create("rfcn", backbone="resnet101", num_classes=81)
    heads = model.roi_heads
    assert heads.vote_scale == 7
    assert heads.box_head[0].weight.shape == (1024, 2048, 1, 1)
    assert heads.box_predictor.cls_score.out_channels == 7 * 7 * 81
    assert heads.box_predictor.bbox_pred.out_channels == 7 * 7 * 4


@pytest.mark.parametrize(
    "options", [{"ohem": False}, {"pooling": "pool", "bins": 3, "vote": "mean"}]
)
def test_options(options: dict[str, Any], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = create("rfcn", backbone="resnet50", **SMALL, **options)
    losses = model(*scene(masks=False))
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None for p in model.parameters())
    save_model(tmp_path / "a.safetensors", model.eval())
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.info == model.info
    with torch.no_grad():
        image = torch.rand(3, 80, 120)
        expected, found = model([image])[0], loaded([image])[0]
    assert len(expected["boxes"]) and all(torch.equal(expected[k], found[k]) for k in expected)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pooling": "max"}, "'align' or 'pool', got 'max'"),
        ({"vote": "sum"}, "'scaled' or 'mean', got 'sum'"),
        ({"bins": 0}, "1 or more, got 0 and 128"),
        ({"level": "c6"}, "one level, c6, at stride 16; the backbone has c2 at 4"),
        ({"proposal_level": "c3"}, "one level, c3, at stride 16"),
        ({"frozen": ("c5",), "dilate": False}, "cannot freeze c5"),
    ],
)
def test_mistakes_are_one_line(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create("rfcn", backbone="resnet50", **SMALL, **options)
    assert "\n" not in str(caught.value)
