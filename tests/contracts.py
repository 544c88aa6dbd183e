"""What every backbone, space and detector must do; each new entry is tested on arrival."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from detnet.backbones.base import Backbone
from detnet.backbones.cost import on_meta
from detnet.backbones.spaces.space import Space, Supernet, read_space
from detnet.detectors import create
from detnet.detectors.base import Detector
from detnet.detectors.export.form import export_form
from detnet.errors import InputError
from detnet.inference.export.differences import BOUNDS


def check_refused(read: Callable[[], object], start: str, message: str) -> None:
    """A mistake is one line that begins with the file, and says what is wrong with it."""
    with pytest.raises(InputError) as error:
        read()
    assert str(error.value).startswith(start)
    assert message in str(error.value) and "\n" not in str(error.value)


def check_backbone(build: Callable[[], Backbone]) -> None:
    """Levels are as announced, fine to coarse; every parameter gets a gradient."""
    model = build().train()
    features = model(torch.rand(2, 3, 64, 96))  # not square: swapped H and W would show
    assert list(features) == [info.name for info in model.feature_info]
    strides = [info.stride for info in model.feature_info]
    assert strides == sorted(strides)
    for info in model.feature_info:
        assert features[info.name].shape == (2, info.channels, 64 // info.stride, 96 // info.stride)
        assert info.receptive_field > info.stride or not info.receptive_field
    assert [info.level for info in model.feature_info[1:]] == [
        info.level + 1 for info in model.feature_info[:-1]
    ]
    sum(feature.sum() for feature in features.values()).backward()
    assert all(parameter.grad is not None for parameter in model.parameters())
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


def check_detector(build: Callable[[], Detector]) -> None:
    """Trains on images of two sizes, one without objects, and detects inside each image's frame."""
    torch.manual_seed(0)
    model = build()
    masks, keypoints = "masks" in model.targets, "keypoints" in model.targets
    images, targets = scene(masks=masks, keypoints=keypoints)
    losses = model.train()(images, targets)
    assert all(name.startswith("loss_") for name in losses)
    assert all(value.ndim == 0 and value.dtype == torch.float32 for value in losses.values())
    total = torch.stack(list(losses.values())).sum()
    assert total.isfinite()
    total.backward()
    learned = {name: p for name, p in model.named_parameters() if p.requires_grad}
    missing = [name for name, parameter in learned.items() if parameter.grad is None]
    assert not missing, missing
    check_without_objects(model, images, targets)
    check_detections(model.eval(), images, masks=masks, keypoints=keypoints)


def check_class_layers(detector: str) -> None:
    """What grows with the number of classes is a class layer, and nothing of the backbone is."""
    with on_meta():
        model, more = (
            create(detector, backbone="resnet50", num_classes=count, width=0.125)
            for count in (4, 9)
        )
    few, many = model.state_dict(), more.state_dict()
    assert few.keys() == many.keys()
    growing = {name for name in few if few[name].shape != many[name].shape}
    assert growing and all(map(model.is_class_layer, growing))
    others = (name for name in few if name.startswith(("backbone.", "rpn.")))
    assert not any(model.is_class_layer(name) for name in others)


def check_without_objects(
    model: nn.Module, images: list[Tensor], targets: list[dict[str, Tensor]]
) -> None:
    """A batch with no object at all still gives every parameter a (finite) gradient."""
    model.zero_grad()
    empty = [targets[1], {key: value.clone() for key, value in targets[1].items()}]
    losses = model([images[1], images[1]], empty)
    torch.stack(list(losses.values())).sum().backward()
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            assert parameter.grad is not None and parameter.grad.isfinite().all(), name


@torch.no_grad()
def check_detections(
    model: nn.Module, images: list[Tensor], *, masks: bool, keypoints: bool = False
) -> None:
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
        if keypoints:
            assert detection["keypoints_scores"].shape == (len(scores), 17)
            places = detection["keypoints"]
            assert places.shape == (len(scores), 17, 3)
            # A box thinner than a pixel at the edge has its points up to half a pixel beyond.
            assert (places[..., :2] >= 0).all() and (places[..., :2] <= limit[:2] + 0.5).all()
    in_bytes = model([(image * 255).round().to(torch.uint8) for image in images])
    assert [len(d["boxes"]) for d in in_bytes] == [len(d["boxes"]) for d in found]


@torch.no_grad()
def check_extremes(build: Callable[..., Detector]) -> None:
    """An image smaller than any cell and one of 2,500 objects, each in training and evaluation.

    Args:
        build: takes `min_size` and `max_size`.
    """
    for height, width, count in ((9, 14, 1), (96, 128, 2500)):
        torch.manual_seed(0)
        model = build(min_size=height, max_size=width)
        masks, keypoints = "masks" in model.targets, "keypoints" in model.targets
        corners = torch.rand(count, 2) * torch.tensor([width - 9, height - 8])
        target = {"boxes": torch.cat([corners, corners + 8], 1), "labels": torch.ones(count).long()}
        if masks:
            target["masks"] = torch.ones(count, height, width, dtype=torch.uint8)
        if keypoints:
            target["keypoints"] = torch.cat([corners + 4, corners.new_full((count, 1), 2)], 1)
            target["keypoints"] = target["keypoints"][:, None].repeat(1, 17, 1)
        images = [torch.rand(3, height, width) for _ in range(2)]
        losses = model.train()(images, [target, target])
        assert all(loss.isfinite() for loss in losses.values()), losses
        for image, found in zip(images, model.eval()(images), strict=True):
            limit = torch.tensor([*image.shape[:0:-1]] * 2) + 1e-3
            assert (found["boxes"] >= 0).all() and (found["boxes"] <= limit).all()


def scene(*, masks: bool, keypoints: bool = False) -> tuple[list[Tensor], list[dict[str, Tensor]]]:
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
    if keypoints:  # of the first object every other one; the second is a box only
        places = torch.zeros(2, 17, 3)
        places[0, :, 0], places[0, :, 1] = torch.linspace(12, 88, 17), torch.linspace(78, 22, 17)
        places[0, ::2, 2] = 2
        targets[0]["keypoints"] = places
        targets[1]["keypoints"] = torch.zeros(0, 17, 3)
    return images, targets


def check_space(space: Space, *, seed: int) -> None:
    """Paths have one spelling; a supernet's path is its network, and nothing else learns."""
    rng = np.random.default_rng(seed)
    counts = [len(gene.choices) for gene in space.genes]
    path = space.check(rng.integers(counts).tolist())
    assert space.check(path) == path
    assert read_space(space.to_json()) == space
    torch.manual_seed(seed)
    supernet = space.supernet(width=0.125)
    supernet.take(path)
    check_levels(supernet.train())
    alone = space.network(path, width=0.125)
    alone.load_state_dict(supernet.weights_of(path))
    check_same_levels(supernet.eval(), alone.eval())
    images = torch.rand(2, 3, 64, 96)
    sum(level.sum() for level in supernet.train()(images).values()).backward()
    own = {id(parameter): name for name, parameter in supernet.named_parameters()}
    learning = {own[id(p)] for p in supernet.parameters() if p.grad is not None}
    on_path = {value.data_ptr() for value in supernet.weights_of(path).values()}
    expected = {name for name, p in supernet.named_parameters() if p.data_ptr() in on_path}
    assert learning == expected


def check_levels(supernet: Supernet) -> None:
    """Levels are as announced."""
    features = supernet(torch.rand(2, 3, 64, 96))
    assert list(features) == [info.name for info in supernet.feature_info]
    for info in supernet.feature_info:
        height, width = -(-64 // info.stride), -(-96 // info.stride)
        assert features[info.name].shape == (2, info.channels, height, width), info


def check_same_levels(supernet: Supernet, alone: Backbone) -> None:
    """What the network alone has of levels and channels is the same in the supernet."""
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        found, expected = supernet(images), alone(images)
    for info in alone.feature_info:
        assert torch.equal(found[info.name][:, : info.channels], expected[info.name])
        assert not found[info.name][:, info.channels :].any()


FORM_SIZES = ((96, 160), (130, 100), (64, 64))


def sure_detector(detector: str, *, backbone: str, **options: Any) -> Detector:
    """A narrow detector of drawn weights whose scores are spread, so that it finds things."""
    torch.manual_seed(0)
    model = create(
        detector,
        backbone=backbone,
        num_classes=4,
        width=0.125,
        min_size=64,
        max_size=512,
        **options,
    ).eval()
    outputs: dict[str, list[Tensor]] = {}
    layers = {
        name: layer
        for name, layer in model.named_modules()
        if isinstance(layer, nn.Conv2d | nn.Linear)
        and (
            "bbox_" in name or "regression_head.module" in name or model.is_class_layer(f"{name}.")
        )
    }
    for name, layer in layers.items():
        layer.register_forward_hook(
            lambda _, __, output, name=name: outputs.setdefault(name, []).append(output.flatten())
        )
    with torch.no_grad():
        for height, width in FORM_SIZES:
            model.transform.min_size, model.transform.max_size = (min(height, width),), 512
            model([torch.rand(3, height, width)])
        for name, layer in layers.items():
            layer._forward_hooks.clear()
            values = torch.cat(outputs[name])
            largest = (values - values.mean()).abs().max()
            boxes = "bbox_" in name or "regression" in name
            _spread(
                layer,
                *(values.mean(), 1 / largest, 0) if boxes else (values.mean(), 3 / largest, -1),
            )
    return model


def _spread(layer: Any, mean: Tensor, scale: Tensor, new_mean: float) -> None:
    """Has a layer put out values of another mean that are `scale` times as far apart."""
    layer.weight.mul_(scale)
    layer.bias.mul_(scale).add_(new_mean - mean * scale)


@torch.no_grad()
def check_form(
    model: Detector,
    run: Callable[[Tensor], Sequence[Tensor]] | None = None,
    *,
    batch: int = 1,
    sizes: Sequence[tuple[int, int]] = FORM_SIZES,
) -> None:
    """The form for export finds what the detector finds, in images of several sizes.

    Args:
        run: maps (N, 3, H, W) uint8 to what `ExportForm` gives; the form itself by default. What
            another runtime rounds in its own way may cost as many objects as an export's own check
            allows, the form in torch none.
    """
    unmatched = BOUNDS["fp32"].unmatched if run else 0.0
    form = export_form(model)
    # Masks and keypoints are compared as the heads give them, before they are laid on the image.
    model.transform.postprocess = lambda found, *sizes: found
    found_some = False
    for seed, (height, width) in enumerate(sizes):
        generator = torch.Generator().manual_seed(seed)
        images = torch.randint(
            0, 256, (batch, 3, height, width), dtype=torch.uint8, generator=generator
        )
        model.transform.min_size, model.transform.max_size = (
            (min(height, width),),
            max(height, width),
        )
        outputs = dict(zip(form.output_names, (run or form)(images), strict=True))
        for index, expected in enumerate(model(list(images))):
            found = {name: values[index] for name, values in outputs.items()}
            check_same_detections(found, expected, unmatched=unmatched)
            found_some |= len(expected["scores"]) > 0
    assert found_some


def check_same_detections(
    found: dict[str, Tensor], expected: dict[str, Tensor], *, unmatched: float
) -> None:
    """Padded detections of one image are those of the detector; ties may be in another order.

    Args:
        unmatched: share of all objects, of both, that may be there in one of them alone.
    """
    places, counts = len(found["scores"]), (int(found["count"]), len(expected["scores"]))
    count = counts[0]
    assert (found["scores"][count:] < 0).all() and not found["boxes"][count:].any()
    assert not found["labels"][count:].any()
    scores = found["scores"][:count], expected["scores"]
    assert all((own.diff() <= 0).all() for own in scores)
    near = (found["boxes"][:count, None] - expected["boxes"]).abs().amax(2) < 1e-2
    near &= (scores[0][:, None] - scores[1]).abs() < 1e-4
    near &= found["labels"][:count, None] == expected["labels"]
    if not all(counts):
        assert counts == (0, 0)
        return
    alone = 0
    for axis, other in ((0, 1), (1, 0)):
        # Of equally sure ones at the end of a full list, either may have been left out.
        least = float(scores[other][-1]) + 1e-4 if counts[other] == places else 0.0
        alone += int((~near.any(1 - axis) & (scores[axis] > least)).sum())
    alone = max(alone, abs(counts[0] - counts[1]))  # one may be there twice
    assert alone <= unmatched * sum(counts), f"{alone} of {counts} have no partner"
    # Of each found one the expected one, where there is one.
    matched = near.any(1).nonzero().squeeze(1)
    same = near.float().argmax(1)[matched]
    if "masks" in expected:
        masks = expected["masks"][same, 0]
        torch.testing.assert_close(found["masks"][matched], masks, atol=1e-3, rtol=0)
    if "keypoints" in expected:
        scores = expected["keypoints_scores"][same]
        torch.testing.assert_close(found["keypoint_scores"][matched], scores, atol=1e-3, rtol=1e-3)
        apart = (found["keypoints"][matched] - expected["keypoints"][same, :, :2]).abs().amax(2)
        assert (apart < 1e-2).float().mean() > 0.95  # two places may be equally high
