"""Every detector of `DETECTORS` on every backbone through the contract."""

import functools
import itertools
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from detnet.backbones import BACKBONES
from detnet.backbones.base import Backbone
from detnet.backbones.detnet import DETNET59
from detnet.backbones.stages import Stage, StagedNet
from detnet.detectors import DETECTORS, create, option_defaults, option_kinds
from detnet.detectors.faster_rcnn_fpn import FasterRCNNFPN
from detnet.errors import InputError
from tests.contracts import check_detector, check_extremes, scene

SMALL = {"width": 0.125, "min_size": 96, "max_size": 160}


def pairs() -> Iterator[Any]:
    """All detectors on all backbones; without `make test-all` each on one of every family."""
    families = ("resnet50", "detnet59", "detnasnet_300m")
    for detector, backbone in itertools.product(DETECTORS, BACKBONES):
        usual = detector == "faster_rcnn_fpn" or backbone in families
        yield pytest.param(detector, backbone, marks=[] if usual else pytest.mark.slow)


@pytest.mark.parametrize(("detector", "backbone"), list(pairs()))
def test_contract(detector: str, backbone: str) -> None:
    check_detector(
        lambda: create(detector, backbone=backbone, num_classes=4, **SMALL),
    )


@pytest.mark.parametrize(
    ("detector", "backbone"),
    [
        pytest.param(detector, backbone, marks=[] if backbone == "resnet50" else pytest.mark.slow)
        for detector, backbone in itertools.product(DETECTORS, ("resnet50", "detnet59"))
    ],
)
def test_tiny_images_and_crowded_ones_work(detector: str, backbone: str) -> None:
    check_extremes(
        functools.partial(create, detector, backbone=backbone, num_classes=4, width=0.125),
    )


@pytest.mark.parametrize(
    "options",
    [
        {"box_head": "4conv1fc", "pyramid_norm": "sync", "norm": "sync"},
        {"proposals": "per_level", "roi_levels": 5, "box_loss_beta": 1 / 9},
        {"norm": "frozen", "frozen": ("stem", "c2"), "channel_order": "bgr"},
    ],
)
def test_options(options: dict) -> None:
    torch.manual_seed(0)
    model = create("faster_rcnn_fpn", backbone="detnet59", num_classes=4, **SMALL, **options)
    losses = model(*scene(masks=False))
    torch.stack(list(losses.values())).sum().backward()
    learned = [n for n, p in model.named_parameters() if p.requires_grad]
    assert all(model.get_parameter(n).grad is not None for n in learned)
    assert any("stem" in n for n in learned) == ("frozen" not in options)


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"score_threshold": 5}, "score_threshold must lie in \\[0, 1\\], got 5"),
        ({"nms_threshold": -0.5}, "nms_threshold must lie in"),
        ({"max_detections": 0}, "max_detections must be positive, got 0"),
        ({"roi_batch": 0}, "roi_batch must be positive"),
        ({"rpn_batch": 0}, "rpn_batch must be positive"),
        ({"max_candidates": 0}, "max_candidates must be positive"),
    ],
)
def test_numbers_out_of_range_are_refused(
    detector: str, options: dict[str, Any], said: str
) -> None:
    """With these it would learn nothing or find nothing, and say nothing."""
    if not options.keys() <= option_defaults(detector).keys():
        return
    with pytest.raises(InputError, match=said), torch.device("meta"):
        create(detector, backbone="resnet50", num_classes=4, width=0.125, **options)


@pytest.mark.parametrize(
    ("detector", "option", "value", "must"),
    [
        ("faster_rcnn_fpn", "box_head", "3fc", "be '2fc' or '4conv1fc'"),
        ("faster_rcnn_fpn", "head_init", "caffe", "be 'torch' or 'detectron'"),
        ("faster_rcnn_fpn", "proposals", "both", "be 'pooled' or 'per_level'"),
        ("faster_rcnn_fpn", "pyramid_norm", "group", "be 'frozen', 'batch', 'sync' or null"),
        ("faster_rcnn_fpn", "head_norm", "bn", "be 'frozen', 'batch' or 'sync'"),
        ("faster_rcnn_fpn", "roi_batch", 64.5, "be a whole number"),
        ("faster_rcnn_fpn", "channel_order", "hsv", "be 'rgb' or 'bgr'"),
        ("faster_rcnn_fpn", "max_size", 1333.0, "be a whole number"),
        ("retinanet", "anchor_sizes", [12.5, 25, 50, 100, 200], "be a list of whole numbers"),
        ("retinanet", "max_detections", 300.0, "be a whole number"),
        ("rfcn", "ohem", "no", "be true or false"),
        ("ssd", "balance", "object", "be 'boxes' or 'objects'"),
        ("faster_rcnn", "dilate", "false", "be true or false"),
        ("ssd", "width", "0.25", "be a finite number"),
    ],
)
def test_what_no_file_could_say_is_refused_before_it_is_trained(
    detector: str, option: str, value: Any, must: str
) -> None:
    """`load_model` checks a file's options by the same annotations."""
    with pytest.raises(InputError) as caught:
        create(detector, backbone="resnet50", num_classes=4, **{option: value})
    assert str(caught.value) == f"{option} must {must}, got {value!r}"


def test_one_frozen_part_needs_no_list() -> None:
    with torch.device("meta"):
        model = create("ssd", backbone="resnet50", num_classes=4, width=0.125, frozen="stem")
    assert model.info.options["frozen"] == ("stem",)


def test_box_heads_are_what_they_are_called() -> None:
    two = create("faster_rcnn_fpn", num_classes=4, width=0.25)
    four = create("faster_rcnn_fpn", num_classes=4, width=0.25, box_head="4conv1fc")
    kinds = [[type(m).__name__ for m in net.roi_heads.box_head.modules()] for net in (two, four)]
    assert kinds[0].count("Linear") == 2 and "Conv2d" not in kinds[0]
    assert kinds[1].count("Linear") == 1 and kinds[1].count("Conv2d") == 4
    assert kinds[1].count("SyncBatchNorm") == 4
    assert two.roi_heads.box_predictor.cls_score.in_features == 256  # 1024 × width


def test_regions_are_pooled_by_the_canonical_size() -> None:
    """FPN's 224 pixels would pool all objects of a small image from P2."""
    model = create("mask_rcnn_fpn", num_classes=4, width=0.125, roi_canonical_size=67)
    keypoints = create("keypoint_rcnn_fpn", num_classes=4, width=0.125, roi_canonical_size=67)
    sides = torch.tensor([33.0, 34.0, 67.0, 133.0, 134.0])
    boxes = torch.stack([torch.zeros(5), torch.zeros(5), sides, sides], dim=1)
    for pooler in (
        model.roi_heads.box_roi_pool,
        model.roi_heads.mask_roi_pool,
        keypoints.roi_heads.keypoint_roi_pool,
    ):
        assert pooler.map_levels([boxes]).tolist() == [0, 1, 2, 2, 3]


@pytest.mark.parametrize(
    ("detector", "expected"),
    [
        ("faster_rcnn_fpn", {"p2": 2, "p3": 1, "p4": 1, "p5": 1}),
        ("fcos", {"p3": 2, "p4": 1, "p5": 2, "p6": 0, "p7": 0}),
        ("retinanet", {}),
    ],
)
def test_objects_are_counted_by_the_level_that_finds_them(
    detector: str, expected: dict[str, int]
) -> None:
    model = create(detector, num_classes=3, width=0.125)
    sizes = torch.tensor([[20.0, 30.0], [120.0, 120.0], [300, 20], [240.0, 250.0], [450.0, 460.0]])
    found = model.count_by_level(sizes.double())
    assert found == expected and list(found) == list(expected)


@pytest.mark.parametrize(("roi_levels", "expected"), [(4, {0, 1, 2, 3}), (5, {0, 1, 2, 3, 4})])
def test_detnet_pools_regions_from_every_level(roi_levels: int, expected: set[int]) -> None:
    """P4, P5 and P6 have one stride; by strides P5 and P6 would silently receive nothing."""
    model = create("faster_rcnn_fpn", num_classes=4, width=0.125, roi_levels=roi_levels).eval()
    pooler = model.roi_heads.box_roi_pool
    sides = torch.tensor([56.0, 130.0, 300.0, 500.0, 900.0])
    boxes = torch.stack([torch.zeros(5), torch.zeros(5), sides, sides], dim=1)
    levels = pooler.map_levels([boxes])
    assert levels.tolist() == [min(level, roi_levels - 1) for level in range(5)]
    features = model.backbone(torch.rand(1, 3, 1024, 1024))
    for feature in features.values():
        feature.retain_grad()
    pooler(features, [boxes], [(1024, 1024)]).sum().backward()
    reached = {i for i, f in enumerate(features.values()) if f.grad is not None and f.grad.any()}
    assert reached == expected


def test_a_seventh_stage_is_one_more_level_of_the_pyramid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BACKBONES, "_homes", dict(BACKBONES._homes))
    c7 = Stage("c7", blocks=1, channels=1024, dilation=2)
    BACKBONES.register("detnet_c7", lambda **options: StagedNet((*DETNET59, c7), **options))

    def make(**options: Any) -> Any:
        return create(
            "faster_rcnn_fpn", backbone="detnet_c7", num_classes=4, width=0.125, **options
        )

    sizes = [16, 32, 64, 128, 256, 512]
    with pytest.raises(InputError, match="p7"):
        make()
    with pytest.raises(InputError, match="roi_levels must lie in 1 … 6, p2 to p7, got 7"):
        make(anchor_sizes=sizes, roi_levels=7)
    model = make(anchor_sizes=sizes, roi_levels=6)
    target = {"boxes": torch.tensor([[8.0, 8.0, 90.0, 60.0]]), "labels": torch.tensor([2])}
    sum(model([torch.rand(3, 96, 128)], [target]).values()).backward()
    assert list(model.backbone(torch.rand(1, 3, 96, 128))) == [f"p{n}" for n in range(2, 8)]
    assert all(p.grad is not None for p in model.backbone.neck.parameters())


def test_num_classes_counts_the_background() -> None:
    with pytest.raises(InputError, match="2 or more, got 1"):
        create("retinanet", num_classes=1)
    model = create("retinanet", num_classes=4, width=0.125)
    assert model.head.classification_head.num_classes == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"detector": "fastr_rcnn_fpn"}, "did you mean 'faster_rcnn_fpn'"),
        ({"detector": "retinanet", "backbone": "detnet95"}, "did you mean 'detnet59'"),
        ({"detector": "retinanet", "widht": 2}, "did you mean 'width'"),
        ({"detector": "retinanet", "proposals": "pooled"}, "unknown option of retinanet"),
        ({"detector": "faster_rcnn_fpn", "proposals": "all"}, "'pooled' or 'per_level', got 'all'"),
        ({"detector": "faster_rcnn_fpn", "min_size": 900, "max_size": 300}, "min_size 900"),
    ],
)
def test_mistakes_are_one_line(arguments: dict, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        create(**{"num_classes": 3, **arguments})
    assert "\n" not in str(caught.value)


def test_other_keywords_are_those_of_the_base(monkeypatch: pytest.MonkeyPatch) -> None:
    class Mine(FasterRCNNFPN):
        def __init__(
            self, backbone: Backbone, num_classes: int, *, tries: int = 3, **others: Any
        ) -> None:
            super().__init__(backbone, num_classes, **others)
            self.tries = tries

    monkeypatch.setitem(DETECTORS._homes, "mine", Mine)
    own, base = option_defaults("mine"), option_defaults("faster_rcnn_fpn")
    assert own == base | {"tries": 3} and option_kinds("mine")["tries"] is int
    model: Any = create("mine", num_classes=3, tries=5, roi_batch=64, width=0.125)
    assert (model.tries, model.roi_heads.fg_bg_sampler.batch_size_per_image) == (5, 64)
    with pytest.raises(InputError, match="did you mean 'tries'"):
        create("mine", num_classes=3, trys=5)
