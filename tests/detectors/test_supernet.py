import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torchvision.models.detection.image_list import ImageList

import detnet
from detnet.backbones.base import Classifier
from detnet.backbones.detnet import DETNET59
from detnet.backbones.spaces.detnet_space import DETNET
from detnet.backbones.spaces.space import find_supernet, parse_path, read_space, take_path
from detnet.errors import InputError
from detnet.inference.fuse import fuse

HALVED = tuple(
    dataclasses.replace(stage, dilation=1, stride=2 if stage.name != "c2" else 1)
    for stage in DETNET59
)
PATHS = {
    "detnet59": DETNET.path_of(DETNET59),
    "four halvings": DETNET.path_of(HALVED),
    "c5 halves": parse_path("1 0 12 011110 100210"),
    "c6 halves": parse_path("0 1 20 100210 101201"),
    "c6 halves, wide": parse_path("0 0 01 210101 011100"),
}
STRIDES = {
    "detnet59": (4, 8, 16, 16, 16),
    "four halvings": (4, 8, 16, 32, 64),
    "c5 halves": (4, 8, 16, 32, 32),
    "c6 halves": (4, 8, 16, 16, 32),
    "c6 halves, wide": (4, 8, 16, 16, 32),
}
DETECTORS: dict[str, dict[str, Any]] = {
    "faster_rcnn_fpn": {"roi_levels": 5},
    "mask_rcnn_fpn": {"roi_levels": 4},
    "retinanet": {},
}
OPTIONS: dict[str, Any] = {
    "num_classes": 4,
    "width": 0.125,
    "score_threshold": 0.0,
    "min_size": 128,
    "max_size": 512,
}


def _images() -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    return [torch.rand(3, *size, generator=generator) for size in ((150, 220), (160, 128))]


def _create(detector: str, backbone: str, **backbone_options: Any) -> nn.Module:
    options = OPTIONS | DETECTORS[detector] | {"backbone_options": backbone_options}
    return detnet.create(detector, backbone=backbone, **options).eval()


@pytest.fixture(scope="module", params=DETECTORS)
def shared(request: pytest.FixtureRequest) -> nn.Module:
    torch.manual_seed(1)
    model = _create(request.param, "supernet", space="detnet")
    for name, values in model.named_parameters():
        if name.endswith((".bias", "bn1.weight", "bn2.weight", "bn3.weight")):
            nn.init.uniform_(values, 0.1, 0.6)
    for layer in model.modules():
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.running_mean, -0.2, 0.2)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)
    return model


def _alone(shared: nn.Module, path: tuple[int, ...]) -> nn.Module:
    """The detector on the path's own network, with the supernet detector's weights."""
    if path == PATHS["detnet59"]:
        model = _create(shared.info.detector, "detnet59")
    else:
        text = DETNET.format_path(path)
        model = _create(shared.info.detector, "searched", space="detnet", path=text)
    supernet = find_supernet(shared)
    assert supernet is not None
    weights = {f"backbone.backbone.{k}": v for k, v in supernet.weights_of(path).items()}
    given = shared.state_dict()
    for name, own in model.state_dict().items():
        if name not in weights:  # laterals see the channels that the network has
            weights[name] = given[name][:, : own.shape[1]] if own.ndim == 4 else given[name]
    model.load_state_dict(weights)
    return model


@pytest.mark.parametrize("name", PATHS)
def test_the_detector_is_the_one_on_the_network_alone(shared: nn.Module, name: str) -> None:
    alone = _alone(shared, PATHS[name])
    take_path(shared, PATHS[name])
    with torch.no_grad():
        found, expected = shared(_images()), alone(_images())
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours["boxes"]) == len(theirs["boxes"]) > 20
        assert torch.equal(ours["labels"], theirs["labels"])
        for key in ("boxes", "scores", *(["masks"] if "masks" in theirs else [])):
            torch.testing.assert_close(ours[key], theirs[key], rtol=1e-4, atol=1e-3)


@pytest.mark.parametrize("name", PATHS)
def test_everything_knows_the_strides(shared: nn.Module, name: str) -> None:
    take_path(shared, PATHS[name])
    alone = _alone(shared, PATHS[name])
    body = shared.backbone
    levels = zip(body.backbone.feature_info, STRIDES[name], strict=True)
    assert all(info.stride == stride for info, stride in levels)
    assert body.feature_info == body.neck.feature_info == alone.backbone.feature_info
    poolers = [m for m in shared.modules() if hasattr(m, "map_levels")]
    expected = [m.scales for m in alone.modules() if hasattr(m, "map_levels")]
    assert [pooler.scales for pooler in poolers] == expected
    kinds = {"faster_rcnn_fpn": 1, "mask_rcnn_fpn": 2, "retinanet": 0}
    assert len(poolers) == kinds[shared.info.detector]


def test_an_absent_stage_still_detects(shared: nn.Module) -> None:
    take_path(shared, parse_path("0 0 00 011101 200000"))  # ResNet-50
    assert [i.stride for i in shared.backbone.backbone.feature_info] == [4, 8, 16, 32, 64]
    with torch.no_grad():
        assert all(len(found["boxes"]) > 20 for found in shared(_images()))


@pytest.mark.parametrize("detector", ["faster_rcnn_fpn", "retinanet"])
def test_only_the_path_learns(detector: str) -> None:
    torch.manual_seed(0)
    model = _create(detector, "supernet", space="detnet").train()
    supernet = find_supernet(model)
    assert supernet is not None
    counts = [len(gene.choices) for gene in DETNET.genes]
    for path in np.random.default_rng(0).integers(counts, size=(2, len(counts))).tolist():
        take_path(model, path)
        chosen = {value.data_ptr() for value in supernet.weights_of(path).values()}
        boxes = torch.tensor([[10.0, 20.0, 90.0, 80.0], [20.0, 5.0, 120.0, 126.0]])
        targets = [{"boxes": boxes, "labels": torch.tensor([1, 3])} for _ in range(2)]
        model.zero_grad()
        losses = model(_images(), targets)
        torch.stack(list(losses.values())).sum().backward()
        for name, parameter in supernet.named_parameters():
            if not name.startswith("stages.c2") or detector != "retinanet":
                assert (parameter.grad is not None) == (parameter.data_ptr() in chosen), name


def test_copies_for_inference_take_paths_too() -> None:
    torch.manual_seed(0)
    model = _create("retinanet", "supernet", space="detnet")
    folded = fuse(model)
    for name in ("four halvings", "c6 halves"):
        take_path(folded, PATHS[name])
        take_path(model, PATHS[name])
        with torch.no_grad():
            ours, theirs = (m.backbone(torch.rand(1, 3, 128, 192)) for m in (folded, model))
        assert [v.shape for v in ours.values()] == [v.shape for v in theirs.values()]


def test_classifiers_and_other_spaces() -> None:
    classifier = Classifier(DETNET.supernet(width=0.125), 5)
    take_path(classifier, PATHS["four halvings"])
    assert classifier(torch.rand(2, 3, 64, 128)).shape == (2, 5)
    small = read_space("detnas_small")
    path = [3] * len(small.genes)
    model = _create("faster_rcnn_fpn", "supernet", space="detnas_small")
    before = model.roi_heads.box_roi_pool.scales
    take_path(model, path)
    found = find_supernet(model)
    assert found is not None and found.path == tuple(path)
    assert model.roi_heads.box_roi_pool.scales == before


def test_boxes_without_a_pyramid_follow_the_path() -> None:
    """96 pixels have two cells of 64: by their count they would lie 48 apart."""
    torch.manual_seed(0)
    options = {"space": "detnet"}
    kinds = {"num_classes": 3, "width": 0.125, "min_size": 96, "max_size": 160}
    ssd = detnet.create("ssd", backbone="supernet", backbone_options=options, **kinds).eval()
    take_path(ssd, PATHS["four halvings"])
    assert [level.stride for level in ssd.backbone.feature_info] == [8, 16, 32, 64, 128, 256]
    images = ImageList(torch.zeros(1, 3, 96, 160), [(96, 160)])
    features = [torch.zeros(1, 1, -(-96 // s), -(-160 // s)) for s in (8, 16, 32, 64, 128, 256)]
    (boxes,) = ssd.anchor_generator(images, features)
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    counts = [len(f[0, 0].flatten()) * n for f, n in zip(features, (4, 6, 6, 6, 4, 4), strict=True)]
    fourth = centres.split(counts)[3].view(2, 3, 6, 2)
    assert fourth[1, 2].tolist() == [[2.5 * 64, 1.5 * 64]] * 6
    yolo = detnet.create("yolo", backbone="supernet", backbone_options=options, **kinds)
    for name, stride in (("four halvings", 64), ("detnet59", 16)):
        take_path(yolo, PATHS[name])
        assert yolo.backbone.feature_info[0].stride == stride


def test_what_has_no_path() -> None:
    with pytest.raises(ValueError, match="a Linear without a supernet has no path"):
        take_path(nn.Linear(1, 1), (0,))
    with pytest.raises(InputError, match="entries, got 1"):
        take_path(DETNET.supernet(width=0.125), (0,))
