"""The keypoint branch: its size, what its loss counts, where a heatmap's peak lands, odd input."""

import pytest
import torch
from torch import Tensor, nn

from detnet.detectors import create
from detnet.errors import InputError
from detnet.inference.fuse import fuse

SMALL = {"width": 0.125, "num_classes": 3, "num_keypoints": 4, "min_size": 96, "max_size": 128}
FEW = {"pre_nms_train": 200, "post_nms_train": 50, "pre_nms_test": 100, "post_nms_test": 20}


def small(**options: object) -> nn.Module:
    torch.manual_seed(0)
    return create("keypoint_rcnn_fpn", **{**SMALL, **FEW, "roi_batch": 16, **options})


def target(count: int = 2) -> dict[str, Tensor]:
    """Objects of 40×50 with all four points on their corners."""
    corners = torch.tensor([[8.0, 10], [60, 30]]).repeat(-(-count // 2), 1)[:count]
    sides = torch.tensor([40.0, 50])
    boxes = torch.cat([corners, corners + sides], dim=1)
    share = torch.tensor([[0.1, 0.1], [0.9, 0.1], [0.1, 0.9], [0.9, 0.9]])
    points = torch.full((count, 4, 3), 2.0)
    points[..., :2] = corners[:, None] + share * sides
    return {"boxes": boxes, "labels": torch.ones(count, dtype=torch.int64), "keypoints": points}


def image(height: int = 96, width: int = 128) -> Tensor:
    generator = torch.Generator().manual_seed(height)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def test_the_branch_is_the_papers() -> None:
    with torch.device("meta"):
        model = create("keypoint_rcnn_fpn", backbone="resnet50", num_classes=2)
    heads = model.roi_heads
    convs = [m for m in heads.keypoint_head if isinstance(m, nn.Conv2d)]
    assert [(m.out_channels, m.kernel_size) for m in convs] == [(512, (3, 3))] * 8
    assert heads.keypoint_roi_pool.output_size == (14, 14)
    maps = heads.keypoint_predictor(torch.empty(1, 512, 14, 14, device="meta"))
    assert maps.shape == (1, 17, 56, 56)
    with pytest.raises(InputError, match="num_keypoints must be 1 or more, got 0"):
        small(num_keypoints=0)


def test_detnets_levels_of_one_stride_are_all_pooled_from() -> None:
    model = small().eval()
    pooler = model.roi_heads.keypoint_roi_pool
    assert [round(1 / scale) for scale in pooler.scales] == [4, 8, 16, 16]
    sides = torch.tensor([100.0, 130, 300, 500, 900])
    boxes = torch.stack([torch.zeros(5), torch.zeros(5), sides, sides], dim=1)
    # 224 pixels are P4's; half of that P3's, a quarter P2's, the double P5's, the last there is.
    assert pooler.map_levels([boxes]).tolist() == [0, 1, 2, 3, 3]


def test_a_peak_lands_where_the_point_was() -> None:
    """A heatmap drawn by hand comes out in the image's pixels, back through scale and RoI."""
    model = small().eval()
    heads = model.roi_heads
    drawn = torch.zeros(4, 56, 56)
    places = torch.tensor([(14, 7), (28, 28), (0, 55), (41, 20)])  # column and row
    for keypoint, (column, row) in enumerate(places.tolist()):
        drawn[keypoint, row, column] = 10.0
    heads.keypoint_predictor.forward = lambda x: drawn.expand(len(x), -1, -1, -1)
    boxes = torch.tensor([[10.0, 20, 94, 76], [4, 4, 60, 88]])  # in the enlarged image
    heads.detections = lambda *_: [{"boxes": boxes, "labels": torch.ones(2, dtype=torch.int64)}]
    with torch.no_grad():
        features = model.backbone(torch.zeros(1, 3, 96, 128))
        found = heads.detect(features, [boxes], [(96, 128)])
        (detection,) = model.transform.postprocess(found, [(96, 128)], [(48, 64)])
    for box, points in zip(boxes / 2, detection["keypoints"], strict=True):
        side = box[2:] - box[:2]
        wanted = box[:2] + (places + 0.5) / 56 * side
        # Half a cell of the heatmap, and half a pixel of the enlarged image.
        assert ((points[:, :2] - wanted).abs() <= side / 112 + 0.25).all()
        assert (points[:, 2] == 1).all()
    assert (detection["keypoints_scores"] > 5).all()


def test_what_is_not_labelled_is_not_learned() -> None:
    model = small().train()
    labelled = target()
    hidden = {**labelled, "keypoints": labelled["keypoints"].clone()}
    hidden["keypoints"][:, 2:] = 0
    elsewhere = {**hidden, "keypoints": hidden["keypoints"].clone()}
    elsewhere["keypoints"][:, 2:, :2] = 50
    losses = []
    for aim in (labelled, hidden, elsewhere):
        torch.manual_seed(1)
        losses.append(model([image()], [aim])["loss_keypoint"].item())
    assert losses[0] != losses[1] == losses[2] > 0
    none = {**labelled, "keypoints": torch.zeros_like(labelled["keypoints"])}
    found = model([image()], [none])
    assert found["loss_keypoint"] == 0 and found["loss_classifier"] > 0
    torch.stack(list(found.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@pytest.mark.processor
def test_bf16_training_and_fused_detection() -> None:
    model = small(score_threshold=0.0).to(memory_format=torch.channels_last).train()
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([image()], [target()])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    fused = fuse(model.eval(), dtype=torch.bfloat16)
    with torch.autocast("cpu", torch.bfloat16), torch.no_grad():
        (found,) = fused([image()])
    assert found["keypoints"].dtype == torch.float32 and found["keypoints"].isfinite().all()
    with torch.no_grad():
        (one,), (other,) = model([image()]), fuse(model)([image()])
    torch.testing.assert_close(one["keypoints"], other["keypoints"], rtol=0, atol=2.0)
