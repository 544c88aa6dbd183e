"""What a run begins from: what it asks of the network, what it fills, and what is refused."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Backbone, Classifier, FeatureInfo
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.coco.categories import Categories
from detnet.detectors.base import info_of
from detnet.detectors.files import save_model
from detnet.errors import InputError
from detnet.training.classification import config as classification
from detnet.training.classification.network import describe
from detnet.training.detection.config import TrainConfig
from detnet.training.detection.model_and_data import build_detector
from detnet.training.pretrained import (
    load_classifier_weights,
    load_detector_weights,
    open_named,
)
from detnet.training.resolve import resolve
from tests.backbones.weights.references import detectron_blobs, python2_pickle

CATEGORIES = Categories((1, 2), ("a", "b"))


def make_model(config: TrainConfig, categories: Categories) -> tuple[Any, list[str]]:
    """The network that a run begins with, and what is said of it."""
    resolved = resolve(config)
    model = build_detector(resolved.config, categories)
    weights = resolved.weights
    loaded = load_detector_weights(model, weights) if weights is not None else []
    return model, [*resolved.notes, *loaded]


@pytest.fixture(scope="module")
def resnet50(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("weights") / "resnet50.pth"
    torch.save(torchvision.models.resnet50(weights=None).state_dict(), path)
    return str(path)


@pytest.fixture
def own(tiny: TrainConfig, tmp_path: Path) -> tuple[str, nn.Module]:
    """A detector of width 0.125, in a file."""
    torch.manual_seed(1)
    model, _ = make_model(tiny, CATEGORIES)
    path = tmp_path / "own.safetensors"
    save_model(path, model)
    return str(path), model


def built(**changes: Any) -> tuple[nn.Module, list[str]]:
    return make_model(TrainConfig.make(None, changes), CATEGORIES)


def same(a: nn.Module, b: nn.Module, part: str) -> bool:
    mine, theirs = (m.get_submodule(part).state_dict() for m in (a, b))
    return all(torch.equal(value, theirs[name]) for name, value in mine.items())


def test_own_detector_is_carried_whole(tiny: TrainConfig, own: tuple[str, nn.Module]) -> None:
    path, source = own
    model, notes = make_model(replace(tiny, weights=path), CATEGORIES)
    assert any("all there are" in note for note in notes), notes
    assert same(model, source, "backbone") and same(model, source, "roi_heads")


def test_class_layers_stay_fresh_for_other_categories(
    tiny: TrainConfig, own: tuple[str, nn.Module]
) -> None:
    path, source = own
    model, notes = make_model(replace(tiny, weights=path), Categories((1, 2), ("a", "c")))
    assert same(model, source, "backbone") and same(model, source, "roi_heads.box_head")
    assert not same(model, source, "roi_heads.box_predictor")
    assert any(note.lstrip().startswith("fresh, roi_heads: box_predictor") for note in notes), notes


def test_weights_of_another_width_are_refused(
    tiny: TrainConfig, own: tuple[str, nn.Module]
) -> None:
    with pytest.raises(
        InputError, match=r"faster_rcnn_fpn on detnet59 of width 0\.125 .* the width is another"
    ):
        make_model(replace(tiny, weights=own[0], width=0.25), CATEGORIES)


def test_a_classifier_goes_under_a_detector(tiny: TrainConfig, tmp_path: Path) -> None:
    options = {"width": 0.125, "stride_in": "3x3"}
    classifier = Classifier(BACKBONES["detnet59"](**options), 5)
    info = ClassifierInfo("detnet59", tuple("abcde"), options, channel_order="bgr")
    save_classifier(tmp_path / "c.safetensors", info, classifier.state_dict())
    config = replace(tiny, weights=str(tmp_path / "c.safetensors"))
    model, notes = make_model(config, CATEGORIES)
    ours = model.get_submodule("backbone.backbone").state_dict()
    theirs = classifier.backbone.state_dict()
    assert all(torch.equal(value, theirs[name]) for name, value in ours.items())
    options = info_of(model).options
    assert (options["stride_in"], options["channel_order"]) == ("3x3", "bgr")
    assert any("left over, fc: fc" in note for note in notes), notes


def test_a_resnet_begins_a_detnet(resnet50: str) -> None:
    torch.manual_seed(2)
    model, notes = built(weights=resnet50, backbone="detnet59")
    options = info_of(model).options
    assert options["stride_in"] == "3x3" and options["norm"] == "sync"
    theirs = torch.load(resnet50, weights_only=True)
    body: Any = model.get_submodule("backbone.backbone")
    assert torch.equal(body.stages["c4"][5].conv2.weight, theirs["layer3.5.conv2.weight"])
    rows = {n.split()[0]: n.split()[1:] for n in notes if n.startswith("  c")}
    assert rows["c4"] == ["95", "0", "0", "0"]
    assert rows["c5"] == ["0", "50", "0", "50"]
    assert rows["c6"] == ["0", "50", "0", "0"]
    assert any("stride_in 3x3" in note for note in notes)
    assert any("norm sync" in note and "c5, c6" in note for note in notes)


def test_a_resnet_fills_a_dilated_one(resnet50: str) -> None:
    model, notes = built(weights=resnet50, backbone="resnet50_dilated")
    assert info_of(model).options["norm"] == "frozen"
    assert any(note.split()[:3] == ["c5", "50", "0"] for note in notes), notes


def test_what_was_asked_for_stands_with_a_warning(resnet50: str) -> None:
    options = {"channel_order": "bgr"}
    model, notes = built(weights=resnet50, backbone="resnet50", detector_options=options)
    assert info_of(model).options["channel_order"] == "bgr"
    (warning,) = [note for note in notes if note.startswith("warning")]
    assert "channel_order bgr was asked for" in warning and "rgb" in warning


@pytest.mark.parametrize(
    ("asked", "placed", "said"),
    [("auto", "3x3", "as these weights have it"), ("1x1", "1x1", "warning"), ("3x3", "3x3", "")],
)
def test_the_strides_place(resnet50: str, asked: str, placed: str, said: str) -> None:
    """It is the weights', unless another is asked for; the papers' is one that can be asked for."""
    model, notes = built(weights=resnet50, backbone="resnet50", stride_in=asked)
    assert info_of(model).options["stride_in"] == placed
    lines = [note for note in notes if "stride_in" in note]
    assert len(lines) == bool(said) and all(said in line for line in lines)


def test_from_scratch_the_stride_is_where_the_papers_have_it(tiny: TrainConfig) -> None:
    model, _ = make_model(tiny, CATEGORIES)
    assert tiny.stride_in == "auto" and info_of(model).options["stride_in"] == "1x1"
    rule = {**tiny.detector_options, "anchor_strides": "fixed"}
    resolved = resolve(tiny).config
    assert (resolved.stride_in, resolved.detector_options) == ("1x1", rule)
    assert resolve(resolved).config == resolved


def test_a_run_keeps_what_the_weights_decided(resnet50: str) -> None:
    config = TrainConfig.make(None, {"weights": resnet50, "backbone": "detnet59"})
    kept = replace(resolve(config).config, weights=resnet50 + ".gone")
    again = resolve(kept, load_weights=False)
    assert again.config == kept and again.weights is None and again.notes == []
    options = ("pixel_mean", "pixel_std", "channel_order", "anchor_strides")
    assert set(options) <= kept.detector_options.keys() and kept.norm == "sync"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"norm": "frozen"}, "batch norm of c5, c6 would be frozen as drawn at random"),
        ({"frozen": ["stem", "c5"]}, "c5 would be frozen as drawn at random"),
        ({"width": 0.5}, "has 32 channels in its first layer: the width is another"),
        ({"backbone": "resnet101"}, "they do not fit in c4"),
        ({"backbone": "detnet110"}, "they do not fit in c4"),
    ],
)
def test_what_does_not_fit_is_refused(resnet50: str, changes: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError) as caught:
        built(weights=resnet50, **{"backbone": "detnet59", **changes})
    assert said in str(caught.value) and "\n" not in str(caught.value)


class _Plain(Backbone):
    """One level, and no norm."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, 16, 1)
        self.feature_info = (FeatureInfo("c4", 8, 16),)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        return {"c4": self.conv(images)}


def test_without_batch_norm_none_is_frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(BACKBONES._homes, "plain", _Plain)
    built(detector="faster_rcnn", backbone="plain", norm="frozen", frozen=[])
    with pytest.raises(InputError, match="^conv would be frozen as drawn at random: "):
        built(detector="faster_rcnn", backbone="plain", norm="frozen", frozen=["conv"])
    with pytest.raises(InputError, match="^batch norm would be frozen as drawn at random: "):
        built(backbone="detnet59", norm="frozen", frozen=[])


@pytest.mark.parametrize("name", ["width", "stride_in", "norm"])
@pytest.mark.parametrize("kind", [TrainConfig, classification.PretrainConfig])
def test_a_setting_of_its_own_is_no_backbone_option(kind: Any, name: str) -> None:
    config = kind(backbone="detnet59", backbone_options={name: "frozen"})
    with pytest.raises(InputError, match=f"{name} is a setting of its own: give {name}$"):
        resolve(config)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    for name in ("resnet18", "resnext50_32x4d", "mobilenet_v3_small"):
        path = tmp_path / f"{name}.pth"
        torch.save(torchvision.models.get_model(name, weights=None).state_dict(), path)
        with pytest.raises(InputError, match=r"do not fit in|are none of those known"):
            built(weights=str(path), backbone="resnet50")
    cut = {
        name: value
        for name, value in torchvision.models.resnet50(weights=None).state_dict().items()
        if not name.startswith("layer4.2.")
    }
    torch.save(cut, tmp_path / "cut.pth")
    with pytest.raises(InputError, match="do not fit in c5"):
        built(weights=str(tmp_path / "cut.pth"), backbone="resnet50")


def test_a_classifier_begins_from_weights(resnet50: str, tmp_path: Path) -> None:
    source = open_named(resnet50)
    resolved = resolve(classification.PretrainConfig.make(None, {"weights": resnet50}))
    settled = describe(resolved.config, ("a", "b"))
    assert settled.options["stride_in"] == "3x3" and "stride_in 3x3" in resolved.notes[0]
    model = Classifier(BACKBONES["detnet59"](**settled.options), 2)
    lines = load_classifier_weights(model, settled, source)
    assert any(line.split() == ["c4", "95", "0", "0", "0"] for line in lines), lines
    assert any(line.split() == ["fc", "0", "2", "0", "2"] for line in lines), lines
    path = tmp_path / "own.safetensors"
    save_classifier(path, settled, model.state_dict())
    own = open_named(str(path))
    again = Classifier(BACKBONES["detnet59"](**settled.options), 2)
    assert "all there are" in load_classifier_weights(again, settled, own)[0]
    assert torch.equal(again.fc.weight, model.fc.weight)
    other = replace(settled, classes=("a", "c"))
    load_classifier_weights(fresh := Classifier(BACKBONES["detnet59"](), 2), other, own)
    assert not torch.equal(fresh.fc.weight, model.fc.weight)


def test_detectrons_weights_get_detectrons_images(tmp_path: Path) -> None:
    """What reaches the network is BGR, 0 to 255, less Caffe's means; zeros pad it."""
    path = tmp_path / "R-50.pkl"
    path.write_bytes(python2_pickle({"blobs": detectron_blobs()}))
    config = {"weights": str(path), "backbone": "resnet50", "min_sizes": [64], "max_size": 96}
    model, notes = built(**config)
    assert info_of(model).options["stride_in"] == "1x1"
    assert any("BGR, mean 103, 115.9, 122.8" in note for note in notes), notes
    image = torch.rand(3, 64, 90)
    transform: Any = model.train().get_submodule("transform")
    batch, _ = transform([image])
    expected = 255 * image.flip(0) - torch.tensor([102.9801, 115.9465, 122.7717])[:, None, None]
    torch.testing.assert_close(batch.tensors[0, :, :64, :90], expected, rtol=0, atol=1e-3)
    assert batch.tensors[0, :, :, 90:].abs().max() == 0


def rule_of(source: str | Path, detector: str, **changes: Any) -> tuple[Any, list[str]]:
    """The rule of anchors that a run from these weights has, and what is said of it."""
    changes = {"detector": detector, "backbone": "resnet50", "weights": str(source), **changes}
    resolved = resolve(TrainConfig.make(None, changes))
    said = [note for note in resolved.notes if "anchor_strides" in note or "threshold_on" in note]
    return resolved.config.detector_options, said


def test_torchvision_s_detectors_keep_their_anchors(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "retinanet.pth"
    theirs = torchvision.models.detection.retinanet_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    torch.save(theirs.state_dict(), path)
    options, said = rule_of(path, "retinanet")
    assert options["anchor_strides"] == "torchvision" and "threshold_on" not in options
    assert said == ["weights: anchor_strides torchvision, as these weights were trained"]
    options, said = rule_of(path, "retinanet", detector_options={"anchor_strides": "fixed"})
    assert options["anchor_strides"] == "fixed" and said[0].startswith("warning: anchor_strides")
    for other in ("faster_rcnn_fpn", "fcos", "ssd"):  # heads of another kind stay fresh
        options, said = rule_of(path, other)
        assert options.get("anchor_strides", "fixed") == "fixed" and not said
    points = torchvision.models.detection.fcos_resnet50_fpn(
        weights=None, weights_backbone=None, num_classes=4
    )
    torch.save(points.state_dict(), path)
    options, said = rule_of(path, "fcos")
    assert (options["anchor_strides"], options["threshold_on"]) == ("torchvision", "score")
    assert len(said) == 2


def test_own_files_hand_their_rule_on(tmp_path: Path) -> None:
    for rule, notes in (("fixed", 0), ("torchvision", 1)):
        changes = {"width": 0.125, "norm": "sync", "detector_options": {"anchor_strides": rule}}
        model, _ = built(backbone="resnet50", detector="mask_rcnn_fpn", **changes)
        save_model(path := tmp_path / f"{rule}.safetensors", model)
        options, said = rule_of(path, "faster_rcnn_fpn", width=0.125)
        assert options["anchor_strides"] == rule and len(said) == notes
        options, said = rule_of(path, "retinanet", width=0.125)
        assert options.get("anchor_strides", "fixed") == "fixed" and not said


def test_a_classifier_s_weights_have_no_such_rule(resnet50: str) -> None:
    options, said = rule_of(resnet50, "faster_rcnn_fpn")
    assert options.get("anchor_strides", "fixed") == "fixed" and not said
