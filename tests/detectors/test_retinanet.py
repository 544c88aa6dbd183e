import pytest
import torch

from detnet.detectors import create
from detnet.errors import InputError


@pytest.mark.parametrize(
    ("backbone", "strides", "convolved"),
    [("resnet50", [8, 16, 32, 64, 128], ["p6", "p7"]), ("detnet59", [8, 16, 16, 16, 32], ["p7"])],
)
def test_levels(backbone: str, strides: list[int], convolved: list[str]) -> None:
    model = create("retinanet", backbone=backbone, num_classes=4, width=0.125)
    info = model.backbone.feature_info
    assert [level.name for level in info] == ["p3", "p4", "p5", "p6", "p7"]
    assert [level.stride for level in info] == strides
    assert list(model.backbone.neck.extra_convs) == convolved
    sizes = model.anchor_generator.sizes
    assert [level[0] for level in sizes] == [32, 64, 128, 256, 512]


def test_labels_are_shifted_inside_the_head_only() -> None:
    """A head that is sure of its channel 1 everywhere says label 2."""
    torch.manual_seed(0)
    model = create("retinanet", num_classes=4, width=0.125, min_size=64).eval()
    head = model.head.classification_head.cls_logits
    with torch.no_grad():
        head.weight.zero_()
        head.bias.copy_(torch.tensor([-9.0, 9.0, -9.0]).repeat(9))
        found = model([torch.rand(3, 64, 96)])[0]
    assert len(found["labels"]) and (found["labels"] == 2).all()
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 60.0, 50.0]]), "labels": torch.tensor([2])}]
    sure = model.train()([torch.rand(3, 64, 96)], targets)["loss_classifier"]
    targets[0]["labels"] = torch.tensor([3])
    wrong = model([torch.rand(3, 64, 96)], targets)["loss_classifier"]
    assert wrong > sure  # the one positive anchor per object costs more under the wrong label


def test_coarse_levels_begin_where_asked() -> None:
    wide = create("retinanet", backbone="resnet50", num_classes=4, width=0.125)
    narrow = create("retinanet", backbone="resnet50", num_classes=4, width=0.125, coarse_from="p")
    channels = [m.backbone.neck.extra_convs["p6"].in_channels for m in (wide, narrow)]
    assert channels == [256, 32]
    with pytest.raises(InputError, match="'c' or 'p', got 'q'"):
        create("retinanet", num_classes=4, coarse_from="q")


def test_anchors_and_norm_for_small_images() -> None:
    model = create(
        "retinanet",
        num_classes=4,
        width=0.125,
        min_size=64,
        anchor_sizes=(16, 32, 64, 128, 256),
        head_norm="group",
    )
    assert [level[0] for level in model.anchor_generator.sizes] == [16, 32, 64, 128, 256]
    norms = [m for m in model.head.modules() if isinstance(m, torch.nn.GroupNorm)]
    assert [(norm.num_groups, norm.num_channels) for norm in norms] == [(16, 32)] * 8
    targets = [{"boxes": torch.tensor([[8.0, 8.0, 22.0, 22.0]]), "labels": torch.tensor([2])}]
    losses = model.train()([torch.rand(3, 64, 96)], targets)
    sum(losses.values()).backward()
    assert all(norm.weight.grad.abs().sum() > 0 for norm in norms)
    model.eval()([torch.rand(3, 64, 96)])  # P7 is a single cell


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"head_norm": "sync"}, "'group' or null, got 'sync'"),
        ({"anchor_sizes": (0, 1, 2, 3, 4)}, "1 pixel or more, got .0, 1"),
        ({"anchor_sizes": (32, 64)}, "5 numbers, one for each of p3, p4, p5, p6, p7, got .32, 64"),
    ],
)
def test_options_that_cannot_be(option: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        create("retinanet", num_classes=4, width=0.125, **option)
