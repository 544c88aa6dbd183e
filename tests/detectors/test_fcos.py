"""FCOS: which level and cells find an object, by hand; torchvision's outputs and losses."""

import math

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detnet.backbones.detnet import DETNET59
from detnet.backbones.spaces.space import take_path
from detnet.backbones.stages import Stage, StagedNet
from detnet.detectors import create
from detnet.detectors.fcos import FCOS, FCOSOptions
from detnet.detectors.images import ImageOptions
from detnet.detectors.weights import from_torchvision
from detnet.errors import InputError
from tests.detectors.test_parity import OURS, RENAMED, THEIRS, batch

PARITY_SIZE = {"min_size": 96, "max_size": 128}
DETNET_STRIDES = [8, 16, 16, 16, 32]


def grid(strides: list[int], height: int = 1024, width: int = 1280) -> Tensor:
    """Anchors around every cell of an image, with sides of 8 … 128 as FCOS has them."""
    levels = []
    for index, stride in enumerate(strides):
        y, x = torch.meshgrid(
            torch.arange(0.0, height, stride), torch.arange(0.0, width, stride), indexing="ij"
        )
        points, half = torch.stack([x, y], 2).reshape(-1, 2), 4.0 * 2**index
        levels.append(torch.cat([points - half, points + half], 1))
    return torch.cat(levels)


def cells_of(model: FCOS, box: list[float], strides: list[int]) -> list[int]:
    """How many cells of each level find the box."""
    cells = [(1024 // stride) * (1280 // stride) for stride in strides]
    match = model.match_cells(torch.tensor([box]), grid(strides), cells)
    return [int((part == 0).sum()) for part in match.split(cells)]


def small(backbone: str, **options: object) -> FCOS:
    torch.manual_seed(0)
    made = create(
        "fcos", backbone=backbone, num_classes=4, width=0.125, min_size=96, max_size=160, **options
    )
    assert isinstance(made, FCOS)
    return made


@pytest.mark.parametrize(
    ("backbone", "strides", "convolved"),
    [("resnet50", [8, 16, 32, 64, 128], ["p6", "p7"]), ("detnet59", DETNET_STRIDES, ["p7"])],
)
def test_levels(backbone: str, strides: list[int], convolved: list[str]) -> None:
    model = small(backbone)
    assert [level.name for level in model.backbone.feature_info] == ["p3", "p4", "p5", "p6", "p7"]
    assert [level.stride for level in model.backbone.feature_info] == strides
    assert list(model.backbone.neck.extra_convs) == convolved
    assert model.anchor_generator.sizes == ((8,), (16,), (32,), (64,), (128,))


def test_levels_of_equal_stride_find_objects_of_their_own_size() -> None:
    """Centres lie on a point of every level, (640, 512): within 1.5 strides of it are 3×3 points.

    The centre's farthest side is half the object's side away, that of its neighbours up to 16
    (P7: 32) pixels more.
    """
    model = small("detnet59")

    def square(side: float) -> list[int]:
        half = side / 2
        return cells_of(model, [640 - half, 512 - half, 640 + half, 512 + half], DETNET_STRIDES)

    assert square(80) == [9, 0, 0, 0, 0]  # 40 … 48 pixels
    assert square(160) == [0, 9, 0, 0, 0]  # 80 … 96
    assert square(320) == [0, 0, 9, 0, 0]  # 160 … 176
    assert square(640) == [0, 0, 0, 9, 0]  # 320 … 336
    assert square(1020) == [0, 0, 0, 1, 8]  # 510 in the centre, 526 and 542 beside it
    # By stride, P5 and P6 would take what P4 takes: 64 … 128 pixels.
    assert model.center_sampling_radius * 16 == 24


def test_levels_after_p7_find_what_is_farther_still() -> None:
    c7, c8 = (Stage(name, blocks=1, channels=1024, dilation=2) for name in ("c7", "c8"))
    backbone = StagedNet((*DETNET59, c7, c8), width=0.125)
    model = FCOS(backbone, 4, images=ImageOptions(), points=FCOSOptions())
    strides = [8, *[16] * 5]
    assert [level.name for level in model.head_levels] == [f"p{n}" for n in range(3, 9)]
    ends = [cells_of(model, [640 - x, 300, 640 + x, 724], strides) for x in (300, 540, 639)]
    assert ends == [[0, 0, 0, 9, 0, 0], [0, 0, 0, 0, 9, 0], [0, 0, 0, 0, 9, 0]]
    assert cells_of(model, [-400, 300, 1680, 724], strides) == [0, 0, 0, 0, 0, 9]


def test_level_is_chosen_by_the_farthest_side_and_the_centre_by_the_own_stride() -> None:
    """A box of 250×40 around (633, 520): on P4, where the farthest side is below 128 pixels."""
    model = small("detnet59")
    box = [508.0, 500.0, 758.0, 540.0]
    # P4's points within 24 pixels: x of 624, 640, 656; y of 496 (outside the box), 512, 528, 544
    # (outside). Farthest sides: 134 at 624, and 118 and 102 …, but at 640 the left is 132 away.
    # x = 624: right 134; 640: left 132; 656: left 148: all beyond 128, so P5 finds it, with 3 × 2.
    assert cells_of(model, box, DETNET_STRIDES) == [0, 0, 6, 0, 0]
    resnet = [8, 16, 32, 64, 128]
    # P5 of a ResNet reaches 48 pixels: x of 608, 640, 672; y of 512 alone, 480 and 544 are outside.
    assert cells_of(small("resnet50"), box, resnet) == [0, 0, 3, 0, 0]


def test_the_smallest_object_wins_and_labels_go_with_it() -> None:
    model = small("detnet59")
    boxes = torch.tensor([[80.0, 48.0, 240.0, 208.0], [100.0, 68.0, 220.0, 188.0]])
    boxes = torch.cat([boxes, torch.tensor([[10.0, 10.0, 40.0, 40.0]]).repeat(300, 1)])
    anchors = grid(DETNET_STRIDES, 256, 320)
    cells = [32 * 40, *[16 * 20] * 3, 8 * 10]
    match = model.match_cells(boxes, anchors, cells)
    p3, p4 = match.split(cells)[:2]
    # From the common centre it is 80 pixels to a side of the first, P4's, and 60 of the second,
    # P3's; from P3's other points 68, and from P4's eight others 76: they take the smaller one.
    assert [int((p3 == index).sum()) for index in (0, 1, 2)] == [0, 1, 9]
    assert [int((p4 == index).sum()) for index in (0, 1)] == [1, 8]
    assert match.max() == 2  # the first of equal ones, though they are compared in parts
    alone = model.match_cells(boxes[:0], anchors, cells)
    assert (alone == -1).all()


def test_a_supernet_s_path_changes_the_reach() -> None:
    model = create(
        "fcos",
        backbone="supernet",
        backbone_options={"space": "detnet"},
        num_classes=4,
        width=0.125,
    )
    reaches = []
    for path in ("1 0 12 011110 100210", "0 1 20 100210 101201"):
        take_path(model, [int(digit) for digit in path.replace(" ", "")])
        strides = [level.stride for level in model.backbone.feature_info]
        reaches.append(cells_of(model, [400.0, 300.0, 800.0, 700.0], strides))
    assert reaches[0] != reaches[1]


def test_centerness_of_a_hand_made_cell() -> None:
    """A cell 10 and 30 pixels from left and right, 20 and 20 from top and bottom: √(1/3)."""
    model = small("detnet59")
    boxes = torch.tensor([[30.0, 20.0, 70.0, 60.0]])
    anchors = torch.tensor([[[36.0, 36.0, 44.0, 44.0]]])
    target = math.sqrt(10 / 30)
    outputs = {
        "cls_logits": torch.zeros(1, 1, 3),
        "bbox_regression": torch.tensor([[[10.0, 20.0, 30.0, 20.0]]]) / 8,
        "bbox_ctrness": torch.zeros(1, 1, 1),
    }
    aims = [{"boxes": boxes, "labels": torch.tensor([0])}]
    losses = model.head.compute_loss(aims, outputs, list(anchors), [torch.tensor([0])])
    assert losses["bbox_regression"].item() == pytest.approx(0, abs=1e-5)
    outputs["bbox_ctrness"] = torch.tensor([[[math.log(target / (1 - target))]]])
    entropy = -target * math.log(target) - (1 - target) * math.log(1 - target)
    losses = model.head.compute_loss(aims, outputs, list(anchors), [torch.tensor([0])])
    assert losses["bbox_ctrness"].item() == pytest.approx(entropy, abs=1e-5)


def pair() -> tuple[nn.Module, nn.Module]:
    torch.manual_seed(3)
    theirs = torchvision.models.detection.fcos_resnet50_fpn(
        **{**THEIRS, **PARITY_SIZE, "num_classes": 4}, score_thresh=0.0, detections_per_img=100
    )
    with torch.no_grad():  # random heads hardly say anything
        for key, parameter in theirs.named_parameters():
            if "bbox_reg" in key or "cls_logits" in key or "ctrness" in key:
                parameter.normal_(0, 0.05)
    ours = create("fcos", **{**OURS, **PARITY_SIZE, "threshold_on": "score"})
    ours.load_state_dict(from_torchvision(theirs.state_dict(), finest=3))
    return theirs.double(), ours.double()


@pytest.mark.processor
def test_torchvision_s_detections_losses_and_gradients() -> None:
    theirs, ours = pair()
    images, targets = batch()
    images = [image[:, :96, :128] for image in images]
    for target in targets:
        target["boxes"] = target["boxes"] * 0.5
    with torch.no_grad():
        expected, found = theirs.eval()(images), ours.eval()(images)
    assert sum(len(each["boxes"]) for each in expected) >= 50
    for a, b in zip(expected, found, strict=True):
        assert torch.equal(a["labels"] + 1, b["labels"])
        torch.testing.assert_close(b["scores"], a["scores"], rtol=0, atol=1e-6)
        torch.testing.assert_close(b["boxes"], a["boxes"], rtol=0, atol=1e-4)

    shifted = [{**target, "labels": target["labels"] - 1} for target in targets]
    names = {**RENAMED, "bbox_ctrness": "loss_centerness"}
    losses = {names[key]: loss for key, loss in theirs.train()(images, shifted).items()}
    own = ours.train()(images, targets)
    assert own.keys() == losses.keys()
    for key, loss in losses.items():
        assert own[key].item() == pytest.approx(loss.item(), rel=1e-6), key
    torch.stack(list(losses.values())).sum().backward()
    torch.stack(list(own.values())).sum().backward()
    stem = theirs.backbone.body.conv1.weight.grad
    torch.testing.assert_close(
        ours.backbone.backbone.stem.conv.weight.grad,
        stem,
        rtol=0,
        atol=1e-6 * float(stem.abs().max()),
    )


@pytest.mark.processor
def test_bf16_and_many_objects() -> None:
    """2,100 objects, channels_last, autocast: finite losses in fp32 and gradients everywhere."""
    model = small("detnet59").to(memory_format=torch.channels_last).train()
    corner = torch.rand(2100, 2) * 60
    boxes = torch.cat([corner, corner + 2 + torch.rand(2100, 2) * 30], 1)
    target = {"boxes": boxes, "labels": torch.randint(1, 4, (2100,))}
    with torch.autocast("cpu", torch.bfloat16):
        losses = model([torch.rand(3, 96, 128)], [target])
    assert all(loss.dtype == torch.float32 and loss.isfinite() for loss in losses.values())
    torch.stack(list(losses.values())).sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


def test_images_below_the_coarsest_stride() -> None:
    model = small("resnet50", score_threshold=0.0).eval()
    model.transform.min_size, model.transform.max_size = (20,), 30
    with torch.no_grad():
        (found,) = model([torch.rand(3, 20, 30)])
    assert len(found["boxes"]) and (found["boxes"] <= torch.tensor([30, 20, 30, 20])).all()


def test_odd_widths_and_mistakes() -> None:
    model = create("fcos", num_classes=3, width=0.3)
    assert model.head.regression_head.conv[1].num_groups == 8  # of 80 channels
    with pytest.raises(InputError, match="center_radius must be positive, got 0"):
        create("fcos", num_classes=3, center_radius=0)


def judged(threshold: float, **options: object) -> dict[str, Tensor]:
    """What comes of three cells on P3 with class scores 0.5, 0.06 and 0.04 and centre-ness 0.9,
    0.02 and 0.999: the square roots are 0.67, 0.035 and 0.2.
    """
    model = small("resnet50", score_threshold=threshold, **options).eval()
    classes, middles = torch.tensor([0.5, 0.06, 0.04]), torch.tensor([0.9, 0.02, 0.999])
    logits = torch.full((1, 3, 3), -200.0)  # a score of 0
    logits[0, :, 1] = classes.logit()
    outputs = {
        "cls_logits": [logits],
        "bbox_regression": [torch.ones(1, 3, 4)],
        "bbox_ctrness": [middles.logit()[None, :, None]],
    }
    corner = torch.tensor([[16.0, 16.0], [48.0, 48.0], [80.0, 16.0]])
    anchors = torch.cat([corner - 4, corner + 4], 1)
    (found,) = model.postprocess_detections(outputs, [[anchors]], [(96, 160)])
    assert (found["labels"] == 2).all()
    return found


def test_the_threshold_is_on_the_class_score() -> None:
    """As in the authors' release: a sure class in a corner stays, a doubtful one in the middle
    does not. torchvision's threshold on the root of both says the opposite of either.
    """
    found = judged(0.05)
    assert found["scores"].tolist() == pytest.approx([0.45**0.5, 0.0012**0.5])
    assert found["boxes"][1].tolist() == [40, 40, 56, 56]
    assert judged(0.05, threshold_on="score")["scores"].tolist() == pytest.approx(
        [0.45**0.5, (0.04 * 0.999) ** 0.5]
    )
    assert judged(0.0)["scores"].tolist() == judged(0.0, threshold_on="score")["scores"].tolist()
    assert small("resnet50").class_thresh == 0.05
    with pytest.raises(InputError, match="'class' or 'score', got 'both'"):
        small("resnet50", threshold_on="both")
