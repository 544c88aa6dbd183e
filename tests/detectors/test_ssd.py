"""SSD's levels, default boxes and losses, and torchvision's own SSD beside ours."""

import math

import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.anchor_utils import DefaultBoxGenerator
from torchvision.models.detection.image_list import ImageList
from torchvision.models.detection.ssd import SSD, SSDHead

from detnet.detectors import create
from detnet.detectors.files import load_model, save_model
from detnet.detectors.ssd import SSDOptions, box_scales
from detnet.errors import InputError
from detnet.inference.fuse import fuse
from tests.contracts import scene

SMALL = {"width": 0.125, "min_size": 96, "max_size": 128, "norm": "batch"}


def make(backbone: str = "detnet59", **options: object) -> nn.Module:
    torch.manual_seed(0)
    return create("ssd", backbone=backbone, num_classes=4, **{**SMALL, **options})


@pytest.mark.parametrize(
    ("backbone", "strides"),
    [("resnet50", [8, 16, 32, 64, 128, 256]), ("detnet59", [8, 16, 16, 16, 32, 64])],
)
def test_levels(backbone: str, strides: list[int]) -> None:
    model = make(backbone).eval()
    info = model.backbone.feature_info
    assert [level.name for level in info] == ["c3", "c4", "c5", "c6", "c7", "c8"]
    assert [level.stride for level in info] == strides
    features = model.backbone(torch.rand(1, 3, 96, 128))
    for level in info:
        rows, columns = -(-96 // level.stride), -(-128 // level.stride)
        assert features[level.name].shape == (1, level.channels, rows, columns)
    assert list(features) == [level.name for level in info]


def test_scales_are_the_paper_s() -> None:
    paper = [0.1, 0.2, 0.375, 0.55, 0.725, 0.9, 1.0]
    assert box_scales(SSDOptions(), 300) == pytest.approx(paper)
    even = [0.2, 0.34, 0.48, 0.62, 0.76, 0.9, 1.0]  # Equation 4 over all six
    assert box_scales(SSDOptions(first_scale=None), 300) == pytest.approx(even)
    sizes = (30, 60, 111, 162, 213, 264)  # of the release for VOC at 300 pixels
    given = box_scales(SSDOptions(anchor_sizes=sizes), 300)
    assert given == pytest.approx([0.1, 0.2, 0.37, 0.54, 0.71, 0.88, 1.0])


def grids(model: nn.Module, size: tuple[int, int]) -> tuple[list[Tensor], int]:
    """The features of one image of noise, and the number of boxes they get."""
    features = list(model.backbone(torch.rand(1, 3, *size)).values())
    shapes = model.anchor_generator.num_anchors_per_location()
    cells = [feature.shape[-2] * feature.shape[-1] for feature in features]
    return features, sum(n * count for n, count in zip(cells, shapes, strict=True))


def test_default_boxes_of_detnet_by_hand() -> None:
    """Height 64, width 96: cells 8×12 on C3, 4×6 on each of C4, C5, C6, 2×3 and 1×2 behind."""
    model = make().eval()
    features, total = grids(model, (64, 96))
    (boxes,) = model.anchor_generator(ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)]), features)
    assert boxes.shape == (total, 4)
    assert total == 96 * 4 + 3 * 24 * 6 + 6 * 4 + 2 * 4
    begins = [0, 384, 528, 672, 816, 840]  # of each level
    # Cell (0, 0): the first box has the level's share of width 96 and of height 64.
    by_hand = [
        (4.0, 4.0, 9.6, 6.4),  # C3: stride 8, share 0.1
        (8.0, 8.0, 19.2, 12.8),  # C4: stride 16, 0.2
        (8.0, 8.0, 36.0, 24.0),  # C5: the same cell, 0.375
        (8.0, 8.0, 52.8, 35.2),  # C6: the same cell, 0.55
        (16.0, 16.0, 69.6, 46.4),  # stride 32, 0.725
        (32.0, 32.0, 86.4, 57.6),  # stride 64, 0.9
    ]
    for begin, (x, y, width, height) in zip(begins, by_hand, strict=True):
        expected = [x - width / 2, y - height / 2, x + width / 2, y + height / 2]
        assert boxes[begin].tolist() == pytest.approx(expected, abs=1e-4)
    # C5, row 1, column 2, sixth shape: three times as high as wide, relative to the image.
    width, height = 96 * 0.375 / 3**0.5, 64 * 0.375 * 3**0.5
    expected = [40 - width / 2, 24 - height / 2, 40 + width / 2, 24 + height / 2]
    assert boxes[528 + (1 * 6 + 2) * 6 + 5].tolist() == pytest.approx(expected, abs=1e-4)
    # The second shape of C6 lies between 0.55 and the next level's 0.725.
    side = (0.55 * 0.725) ** 0.5 * 64
    assert float(boxes[673, 3] - boxes[673, 1]) == pytest.approx(side, abs=1e-4)


def test_boxes_do_not_depend_on_the_batch() -> None:
    model = make().eval()
    features, _ = grids(model, (96, 128))
    images = ImageList(torch.zeros(2, 3, 96, 128), [(64, 96), (96, 128)])
    small, large = model.anchor_generator(images, features)
    assert (large[:, 2] - large[:, 0]).max() > (small[:, 2] - small[:, 0]).max()
    alone, _ = grids(model, (64, 96))
    (expected,) = model.anchor_generator(ImageList(torch.zeros(1, 3, 64, 96), [(64, 96)]), alone)
    # C3: of 12×16 cells the first 8×12 are the small image's own; so of the last level's 2×2.
    assert torch.equal(small[:768].view(12, 16, 4, 4)[:8, :12], expected[:384].view(8, 12, 4, 4))
    assert torch.equal(small[-16:].view(2, 2, 4, 4)[:1], expected[-8:].view(1, 2, 4, 4))


def test_boxes_are_exact_in_bf16() -> None:
    model = make().eval()
    features, _ = grids(model, (96, 128))
    images = ImageList(torch.zeros(1, 3, 96, 128), [(96, 128)])
    exact = model.anchor_generator(images, features)[0]
    half = model.anchor_generator(images, [feature.bfloat16() for feature in features])[0]
    assert half.dtype == torch.float32 and torch.equal(half, exact)


@pytest.mark.parametrize("backbone", ["resnet50", "detnet59"])
def test_torchvision_s_ssd_gives_the_same(backbone: str) -> None:
    """In fp64; images whose sides are multiples of 32 are not padded, as theirs never are."""
    ours = make(backbone, score_threshold=0.0, max_detections=60).double()
    with torch.no_grad():
        for name, value in ours.head.named_parameters():
            if name.endswith("weight"):
                value.normal_(0, 0.05)
    body = ours.backbone
    steps = [level.stride for level in body.feature_info]
    ratios = [[2], [2, 3], [2, 3], [2, 3], [2], [2]]
    boxes = DefaultBoxGenerator(ratios, scales=box_scales(SSDOptions(), 300), steps=steps)
    head = SSDHead(body.out_channels, boxes.num_anchors_per_location(), 4)
    head.load_state_dict(ours.head.state_dict())
    size = (128, 96)  # theirs is width and height
    theirs = SSD(body, boxes, size, 4, head=head, score_thresh=0.0, detections_per_img=60).double()
    generator = torch.Generator().manual_seed(1)
    images = [torch.rand(3, 96, 128, generator=generator).double() for _ in range(2)]
    with torch.no_grad():
        expected, found = theirs.eval()(images), ours.eval()(images)
    assert sum(len(image["boxes"]) for image in expected) >= 100
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a["labels"], b["labels"])
        torch.testing.assert_close(b["scores"], a["scores"], rtol=0, atol=1e-6)
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=0, atol=1e-4)
    box = torch.tensor([[10.0, 20.0, 70.0, 80.0], [60.0, 5.0, 110.0, 60.0]]).double()
    targets = [
        {"boxes": box, "labels": torch.tensor([1, 3])},
        {"boxes": box[:1], "labels": torch.tensor([2])},
    ]
    with torch.no_grad():
        expected, found = theirs.train()(images, targets), ours.train()(images, targets)
    assert found["loss_classifier"] == pytest.approx(expected["classification"].item(), rel=1e-6)
    assert found["loss_box_reg"] == pytest.approx(expected["bbox_regression"].item(), rel=1e-6)


def test_matching_and_hard_negatives_by_hand() -> None:
    """Six boxes, one object: the two over 0.5 match, and six background boxes are wanted of four;
    with negatives 1 only the two worst of them count."""
    anchors = torch.tensor(
        [
            [0.0, 0.0, 10.0, 10.0],  # the object itself
            [0.0, 0.0, 10.0, 8.0],  # overlap 0.8
            [0.0, 0.0, 10.0, 4.0],  # 0.4: background
            [20.0, 0.0, 30.0, 10.0],
            [40.0, 0.0, 50.0, 10.0],
            [60.0, 0.0, 70.0, 10.0],
        ]
    )
    model = make(negatives=1.0)
    target = {"boxes": anchors[:1], "labels": torch.tensor([2])}
    overlaps = torch.tensor([[1.0, 0.8, 0.4, 0.0, 0.0, 0.0]])
    matches = model.proposal_matcher(overlaps)
    assert matches.tolist() == [0, 0, -1, -1, -1, -1]
    logits = torch.zeros(1, 6, 4)
    logits[0, 3, 1], logits[0, 4, 1] = 5.0, 3.0  # the worst two of the background
    outputs = {"cls_logits": logits, "bbox_regression": torch.zeros(1, 6, 4)}
    losses = model.compute_loss([target], outputs, [anchors], [matches])
    nat = torch.log(torch.tensor(4.0))
    worst = [torch.log(torch.exp(torch.tensor(value)) + 3) for value in (5.0, 3.0)]
    assert losses["loss_classifier"] == pytest.approx(float((2 * nat + sum(worst)) / 2), rel=1e-5)
    # The second box must move by 1 of 8 down (weight 10) and grow by log(10 / 8) (weight 5).
    move, grow = 10 * 1 / 8, 5 * float(torch.log(torch.tensor(10 / 8)))
    expected = (move - 0.5) + (grow - 0.5 if grow > 1 else grow**2 / 2)
    assert losses["loss_box_reg"] == pytest.approx(expected / 2, rel=1e-5)


def test_an_object_too_small_for_any_box_still_gets_its_best() -> None:
    model = make()
    overlaps = torch.tensor([[0.1, 0.3, 0.0], [0.6, 0.0, 0.0]])
    assert model.proposal_matcher(overlaps).tolist() == [1, 0, -1]


def test_squares() -> None:
    """Squeezed in evaluation to min_size, in training to the short side, boxes too."""
    model = make(resize="square", min_size=64)
    images, targets = (
        [torch.rand(3, 96, 160)],
        [{"boxes": torch.tensor([[16.0, 24.0, 80.0, 96.0]])}],
    )
    batch, squeezed = model.train().transform(images, targets)
    assert batch.image_sizes == [(96, 96)] and batch.tensors.shape == (1, 3, 96, 96)
    assert squeezed[0]["boxes"].tolist() == [pytest.approx([9.6, 24.0, 48.0, 96.0])]
    assert targets[0]["boxes"].tolist() == [[16.0, 24.0, 80.0, 96.0]]  # the caller's own stay
    batch, _ = model.eval().transform(images)
    assert batch.image_sizes == [(64, 64)]
    found = model.transform.postprocess(
        [{"boxes": torch.tensor([[32.0, 16.0, 64.0, 64.0]])}], batch.image_sizes, [(96, 160)]
    )
    assert found[0]["boxes"].tolist() == [pytest.approx([80.0, 24.0, 160.0, 96.0])]


@pytest.mark.processor
@pytest.mark.parametrize("norm", [None, "batch"])
def test_bf16_training_and_fusing(norm: str | None) -> None:
    model = make(extra_norm=norm).to(memory_format=torch.channels_last)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = model.train()(*scene(masks=False))
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    images = scene(masks=False)[0]
    with torch.no_grad():
        plain, fused = model.eval()(images), fuse(model)(images)
    for a, b in zip(plain, fused, strict=True):
        torch.testing.assert_close(a["scores"], b["scores"], rtol=0, atol=1e-4)


def test_a_file_needs_nothing_else(tmp_path) -> None:
    model = make(resize="square", levels=5, score_threshold=0.0).eval()
    save_model(tmp_path / "a.safetensors", model)
    loaded = load_model(tmp_path / "a.safetensors")
    assert loaded.info == model.info and type(loaded.transform) is type(model.transform)
    images = [torch.rand(3, 80, 120)]
    with torch.no_grad():
        expected, found = model(images)[0], loaded(images)[0]
    assert len(expected["boxes"]) and all(torch.equal(expected[k], found[k]) for k in expected)


def test_class_layers_are_known_as_such() -> None:
    """They stay fresh when weights of other categories are taken over."""
    model = make()
    names = [name for name, _ in model.named_parameters()]
    known = {name for name in names if model.is_class_layer(name)}
    assert known == {name for name in names if name.startswith("head.classification_head.")}
    assert len(known) == 2 * 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"finest": 7},
            "from number 7 on.*has c2 .2., c3 .3., c4 .4., c5 .5., c6 .6.",
        ),
        ({"levels": 3}, "hold the backbone's 4 from number 3 on, got 3"),
        ({"min_scale": 0.05}, "first_scale <= min_scale"),
        ({"resize": "squash"}, "'aspect' or 'square', got 'squash'"),
        ({"negatives": 0}, "negatives must be positive, got 0"),
    ],
)
def test_mistakes_are_one_line(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make(**options)
    assert "\n" not in str(caught.value)


def test_objects_count_alike_however_many_boxes_match_them() -> None:
    """Of two objects one has two boxes, the other a single one; an image without any is there."""
    model = make(balance="objects", negatives=1.0)
    matches = [torch.tensor([1, 0, 1, -1, -1, -1]), torch.full((6,), -1)]
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(6, 1)
    boxes = anchors[:2] + torch.tensor([[0.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 1.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 2])},
        {"boxes": boxes[:0], "labels": torch.tensor([], dtype=torch.long)},
    ]
    logits = torch.zeros(2, 6, 4)
    logits[0, 0, 3] = 2.0  # the second object's first box is taken for another class
    outputs = {"cls_logits": logits, "bbox_regression": torch.zeros(2, 6, 4)}
    losses = model.compute_loss(targets, outputs, [anchors] * 2, matches)
    nat, wrong = math.log(4), math.log(math.exp(2) + 3)
    objects = (nat + (wrong + nat) / 2) / 2
    background = 3 * nat / 3  # three matched boxes, as many of the background
    assert losses["loss_classifier"] == pytest.approx(objects + background, rel=1e-5)
    off = 10 * 1 / 10  # of the second object's boxes, by a tenth of their height, weight 10
    assert losses["loss_box_reg"] == pytest.approx((0 + (off - 0.5)) / 2, rel=1e-5)


def test_background_that_runs_out_is_not_made_up_of_objects() -> None:
    model = make(negatives=3.0)
    anchors = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).repeat(3, 1)
    target = {"boxes": anchors[:1], "labels": torch.tensor([2])}
    outputs = {"cls_logits": torch.zeros(1, 3, 4), "bbox_regression": torch.zeros(1, 3, 4)}
    losses = model.compute_loss([target], outputs, [anchors], [torch.tensor([0, 0, -1])])
    assert losses["loss_classifier"] == pytest.approx(3 * math.log(4) / 2, rel=1e-5)
