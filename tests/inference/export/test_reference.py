"""Torch sees a picture as an export of one size does: scaled to fit, and filled up."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from detnet.coco.masks import decode_masks
from detnet.detectors import create
from detnet.inference.export.plan import ExportPlan, image_input
from detnet.inference.export.reference import reference_engine
from detnet.inference.predictor import Predictor

BILINEAR = Image.Resampling.BILINEAR


@pytest.mark.parametrize(
    ("height", "width", "inner"),
    [(60, 120, (48, 96)), (64, 96, (64, 96)), (128, 60, (64, 30)), (50, 60, (64, 76))],
)
def test_objects_lie_where_torch_finds_them_in_the_frame(
    height: int, width: int, inner: tuple[int, int], tmp_path: Path
) -> None:
    torch.manual_seed(0)
    model = create(
        "mask_rcnn_fpn", backbone="resnet50", num_classes=3, width=0.125, min_size=64, max_size=96,
        pre_nms_test=50, post_nms_test=10,
    )  # fmt: skip
    plan = ExportPlan(tmp_path / "m", tmp_path / "out", image_size=(64, 96))
    images = image_input(plan, model)
    noise = np.random.default_rng(0).integers(0, 256, (height // 4, width // 4, 3), dtype=np.uint8)
    picture = Image.fromarray(noise).resize((width, height), BILINEAR)
    engine = reference_engine(model, images)
    (found,) = engine.detect([np.asarray(picture)], score_threshold=0.2)

    frame = np.empty((64, 96, 3), np.uint8)
    frame[:] = images.fill
    scaled = picture.resize((inner[1], height), BILINEAR).resize(inner[::-1], BILINEAR)
    frame[: inner[0], : inner[1]] = scaled
    expected = Predictor(model, score_threshold=0.2).predict(frame)
    assert expected.size == (96, 64) and len(expected) == len(found) > 3
    factors = np.array([width / inner[1], height / inner[0]] * 2)
    boxes = (expected.boxes.numpy() * factors).clip(0, [width, height] * 2)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    np.testing.assert_allclose(found.scores, expected.scores.numpy(), atol=1e-6)
    assert found.labels.tolist() == expected.labels.tolist()
    assert found.masks is not None and expected.masks is not None
    painted = decode_masks([mask["counts"].encode() for mask in found.masks], height, width)
    shares = expected.masks.numpy()[:, : inner[0], : inner[1]].mean(axis=(1, 2))
    np.testing.assert_allclose(painted.mean(axis=(1, 2)), shares, atol=0.05)
