"""What every backbone and every detector must do; each new entry is tested on arrival."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from detnet.backbones.base import Backbone


def check_backbone(build: Callable[[], Backbone]) -> None:
    """Levels are as announced, fine to coarse; every parameter gets a gradient."""
    model = build().train()
    features = model(torch.rand(2, 3, 64, 96))  # not square: swapped H and W would show
    assert list(features) == [info.name for info in model.feature_info]
    strides = [info.stride for info in model.feature_info]
    assert strides == sorted(strides)
    for info in model.feature_info:
        assert features[info.name].shape == (2, info.channels, 64 // info.stride, 96 // info.stride)
        assert info.receptive_field > info.stride
    sum(feature.sum() for feature in features.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
    assert list(model.parts())[0] == "stem"
    first, second = list(model.parts())[:2]
    check_freezing(build(), (first, second))


def check_freezing(model: Backbone, names: tuple[str, ...]) -> None:
    """Frozen parts get no gradient and their statistics stay; the rest learns."""
    model.freeze(names)
    model.train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    sum(feature.sum() for feature in model(torch.rand(2, 3, 64, 96)).values()).backward()
    for part, module in model.parts().items():
        frozen = part in names
        assert all((p.grad is None) == frozen for p in module.parameters()), part
        for key, value in module.named_buffers():
            if key.endswith("running_mean"):
                prefix = next(n for n, m in model.named_modules() if m is module)
                assert torch.equal(value, before[f"{prefix}.{key}"]) == frozen, (part, key)


def check_detector(build: Callable[[], nn.Module], *, masks: bool) -> None:
    """Trains on images of two sizes, one without objects, and detects inside each image's frame."""
    torch.manual_seed(0)
    model = build()
    images, targets = scene(masks=masks)
    losses = model.train()(images, targets)
    assert all(name.startswith("loss_") for name in losses)
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in losses.values())
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    missing = [name for name, parameter in model.named_parameters() if parameter.grad is None]
    assert not missing, missing
    check_without_objects(model, images, targets)
    check_detections(model.eval(), images, masks=masks)


def check_without_objects(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    """A batch with no object at all still gives every parameter a (finite) gradient."""
    model.zero_grad()
    empty = [targets[1], {key: value.clone() for key, value in targets[1].items()}]
    losses = model([images[1], images[1]], empty)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None, name
        assert parameter.grad.isfinite().all(), name


@torch.no_grad()
def check_detections(model: nn.Module, images: list[Tensor], *, masks: bool) -> None:
    """Boxes lie in their image, labels in 1 … K, and bytes give what floats give."""
    found = model(images)
    assert len(found) == len(images)
    for image, detection in zip(images, found, strict=True):
        height, width = image.shape[-2:]
        boxes, labels, scores = detection["boxes"], detection["labels"], detection["scores"]
        assert boxes.shape == (len(scores), 4) and labels.shape == scores.shape
        limit = torch.tensor([width, height, width, height]) + 1e-3
        assert (boxes >= 0).all() and (boxes <= limit).all()
        assert ((labels >= 1) & (labels <= 3)).all()
        assert (scores[:-1] >= scores[1:]).all()
        if masks:
            assert detection["masks"].shape == (len(scores), 1, height, width)
    in_bytes = model([(image * 255).round().to(torch.uint8) for image in images])
    assert [len(d["boxes"]) for d in in_bytes] == [len(d["boxes"]) for d in found]


def scene(*, masks: bool) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
    """Two images of different shapes with values k / 255, the second without objects."""
    images = [torch.randint(0, 256, (3, *size)) / 255 for size in ((96, 160), (128, 96))]
    boxes = torch.tensor([[10.0, 20.0, 90.0, 80.0], [100.0, 5.0, 150.0, 60.0]])
    targets = [
        {"boxes": boxes, "labels": torch.tensor([1, 3])},
        {"boxes": torch.zeros(0, 4), "labels": torch.zeros(0, dtype=torch.int64)},
    ]
    if masks:
        drawn = torch.zeros(2, 96, 160, dtype=torch.uint8)
        drawn[0, 20:80, 10:90] = 1
        drawn[1, 5:60, 100:150] = 1
        targets[0]["masks"] = drawn
        targets[1]["masks"] = torch.zeros(0, 128, 96, dtype=torch.uint8)
    return images, targets
