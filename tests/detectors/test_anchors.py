import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detnet.detectors import DETECTORS, create
from detnet.detectors.anchors import ExactAnchors


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_corners_far_from_the_origin_are_exact(dtype: torch.dtype) -> None:
    images = ImageList(torch.zeros(1, 3, 64, 1200), [(64, 1200)])
    (anchors,) = ExactAnchors(((32,),), ((0.5, 1.0),))(images, [torch.zeros(1, 8, 4, 75).to(dtype)])
    expected = ExactAnchors(((32,),), ((0.5, 1.0),))(images, [torch.zeros(1, 8, 4, 75)])[0]
    assert anchors.dtype == torch.float32
    assert torch.equal(anchors, expected)
    assert anchors[1].tolist() == [-16, -16, 16, 16]
    assert anchors[-1].tolist() == [74 * 16 - 16, 32, 74 * 16 + 16, 64]


def test_double_precision_stays() -> None:
    images = ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)])
    (anchors,) = ExactAnchors(((32,),), ((1.0,),))(images, [torch.zeros(1, 8, 4, 6).double()])
    assert anchors.dtype == torch.float64


@pytest.mark.parametrize("name", list(DETECTORS))
def test_a_thin_object_far_right_has_finite_losses_in_bf16(name: str) -> None:
    """In bf16 the corners 325.3 and 326.5 are both 326: a box without width."""
    torch.manual_seed(0)
    options = {"width": 0.125, "min_size": 96, "max_size": 400}
    detector = create(name, backbone="detnet59", num_classes=3, **options).train()
    box = torch.tensor([[325.3, 20.0, 326.5, 22.2]])
    target = {"boxes": box, "labels": torch.tensor([1]), "masks": torch.ones(1, 96, 384).byte()}
    target["keypoints"] = torch.tensor([325.9, 21.0, 2.0]).expand(1, 17, 3)
    with torch.autocast("cpu", torch.bfloat16):
        losses = detector([torch.rand(3, 96, 384)], [target])
    assert all(torch.isfinite(loss) for loss in losses.values()), losses
