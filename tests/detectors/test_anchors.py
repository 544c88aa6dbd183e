import pytest
import torch
from torchvision.models.detection.image_list import ImageList

from detnet.detectors import DETECTORS, create
from detnet.detectors.anchors import ExactAnchors
from detnet.errors import InputError


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


@pytest.mark.processor
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


# Height and width, none of them a multiple of 128 or square, and a batch of two sizes.
SIZES = [(200, 330), (330, 200)]
STRIDES = {
    ("retinanet", "resnet50"): [8, 16, 32, 64, 128],
    ("retinanet", "detnet59"): [8, 16, 16, 16, 32],
    ("retinanet", "shufflenetv2_20"): [8, 16, 32, 64, 128],
    ("fcos", "resnet50"): [8, 16, 32, 64, 128],
    ("fcos", "detnet59"): [8, 16, 16, 16, 32],
    ("faster_rcnn_fpn", "resnet50"): [4, 8, 16, 32, 64],
    ("cascade_rcnn_fpn", "shufflenetv2_20"): [4, 8, 16, 32, 64],
    ("faster_rcnn_fpn", "detnet59"): [4, 8, 16, 16, 16],
    ("faster_rcnn", "resnet50"): [16],
    ("rfcn", "detnet59"): [16],
}


def centres_of(model: torch.nn.Module, sizes: list[tuple[int, int]]) -> list[torch.Tensor]:
    """Centres of the anchors of each level that a detector makes for a batch, (H, W, A, 2)."""
    made: list[torch.Tensor] = []
    body = model.backbone
    generator = getattr(model, "anchor_generator", None) or model.rpn.anchor_generator
    grids: list[torch.Size] = []

    def note(module: object, given: tuple, found: list[torch.Tensor]) -> None:
        made.append(found[0])
        grids.extend(feature.shape[-2:] for feature in given[1])

    handle = generator.register_forward_hook(note)
    model.transform.min_size, model.transform.max_size = (200,), 330
    with torch.no_grad():
        model.eval()([torch.rand(3, *size) for size in sizes])
    handle.remove()
    counts = generator.num_anchors_per_location()
    parts = made[0].split([g[0] * g[1] * n for g, n in zip(grids, counts, strict=True)])
    centres = [(part[:, :2] + part[:, 2:]) / 2 for part in parts]
    assert len(parts) == len(grids) and body is not None
    return [
        each.view(*grid, count, 2) for each, grid, count in zip(centres, grids, counts, strict=True)
    ]


def expected_centres(shape: torch.Size, step_y: int, step_x: int) -> torch.Tensor:
    """By hand: the cell in row i and column j lies at (j, i) times the step."""
    found = torch.zeros(*shape)
    for row in range(shape[0]):
        for column in range(shape[1]):
            found[row, column, :] = torch.tensor([float(column * step_x), float(row * step_y)])
    return found


@pytest.mark.parametrize(("detector", "backbone"), STRIDES)
def test_anchors_lie_where_their_cells_are(detector: str, backbone: str) -> None:
    torch.manual_seed(0)
    model = create(detector, backbone=backbone, num_classes=3, width=0.125)
    levels = centres_of(model, SIZES)
    for level, stride in zip(levels, STRIDES[detector, backbone], strict=True):
        assert level.shape[:2] == (-(-352 // stride), -(-352 // stride))  # padded to 32
        assert torch.equal(level, expected_centres(level.shape, stride, stride))


def test_torchvision_s_rule_is_an_option() -> None:
    """352 pixels have 3 cells of 128: 117 apart, and 6 of 64: 58 apart."""
    torch.manual_seed(0)
    options = {"backbone": "resnet50", "num_classes": 3, "width": 0.125}
    model = create("retinanet", **options, anchor_strides="torchvision")
    levels = centres_of(model, [(200, 330)])  # padded to 224 × 352
    steps = [(224 // rows, 352 // columns) for rows, columns in ((28, 44), (14, 22), (7, 11))]
    steps += [(224 // 4, 352 // 6), (224 // 2, 352 // 3)]
    assert steps[-2:] == [(56, 58), (112, 117)]
    for level, (step_y, step_x) in zip(levels, steps, strict=True):
        assert torch.equal(level, expected_centres(level.shape, step_y, step_x))
    with pytest.raises(InputError, match="'fixed' or 'torchvision', got 'detectron'"):
        create("retinanet", **options, anchor_strides="detectron")
    with pytest.raises(InputError, match="'fixed' or 'torchvision', got 'detectron'"):
        create("faster_rcnn_fpn", **options, anchor_strides="detectron")
    with pytest.raises(ValueError, match="2 levels but anchors for 1"):
        ExactAnchors([[32]], [[1.0]], levels=model.backbone.feature_info[:2])
