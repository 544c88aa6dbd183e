"""Torch sees a picture as an export of one size does: scaled to fit, and filled up."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision.models.detection.roi_heads import paste_masks_in_image
from torchvision.transforms.v2 import functional as TF

from detnet.coco.masks import decode_masks
from detnet.detectors import create
from detnet.inference.export.plan import ExportPlan, image_input
from detnet.inference.export.reference import reference_engine


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
    picture = np.array(Image.fromarray(noise).resize((width, height), Image.Resampling.BILINEAR))
    engine = reference_engine(model, images)
    (found,) = engine.detect([picture], score_threshold=0.2)

    scaled = TF.resize(torch.from_numpy(picture).permute(2, 0, 1), [*inner], antialias=True)
    frame = torch.tensor(images.fill, dtype=torch.uint8)[:, None, None].repeat(1, 64, 96)
    frame[:, : inner[0], : inner[1]] = scaled
    model.eval().post_processor.score_thresh = 0.2
    model.transform.postprocess = lambda found, *sizes: found
    with torch.no_grad():
        (expected,) = model([frame])
    assert len(expected["boxes"]) == len(found) > 3
    boxes = expected["boxes"] * torch.tensor([width / inner[1], height / inner[0]] * 2)
    borders = np.array([width, height] * 2)
    np.testing.assert_allclose(found.boxes, boxes.numpy().clip(0, borders), atol=1e-3)
    np.testing.assert_allclose(found.scores, expected["scores"].numpy(), atol=1e-5)
    assert found.labels.tolist() == expected["labels"].tolist()
    assert found.masks is not None
    painted = decode_masks([mask["counts"].encode() for mask in found.masks], height, width)
    # Of whole boxes, also where these reach beyond the picture into what fills the frame up.
    pasted = paste_masks_in_image(expected["masks"], boxes, (height, width))[:, 0] > 0.5
    assert pasted.any() and (painted != pasted.numpy()).mean() < 1e-3
    if inner != (64, 96):
        assert (boxes.numpy() > borders + 1).any()


def test_a_detector_of_squares_sees_one_of_the_size_asked_for(tmp_path: Path) -> None:
    model = create("ssd", backbone="resnet50", num_classes=3, width=0.125, min_size=64,
                   max_size=64, resize="square")  # fmt: skip
    plan = ExportPlan(tmp_path / "m", tmp_path / "out", image_size=(96, 96))
    seen: list[tuple[int, ...]] = []
    engine = reference_engine(model, image_input(plan, model))
    engine.predictor.network.backbone.register_forward_pre_hook(
        lambda _, given: seen.append(tuple(given[0].shape))
    )
    (found,) = engine.detect([np.zeros((50, 80, 3), np.uint8)], score_threshold=0.01)
    assert seen == [(1, 3, 96, 96)] and engine.network_size(50, 80) == (96, 96)
    assert len(found) and found.boxes[:, 2].max() > 50
