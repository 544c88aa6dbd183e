"""timm makes our backbones, says of their levels what they are, and loads weights into them."""

from pathlib import Path

import pytest
import torch
from torch import nn

from detnet.backbones import BACKBONES
from detnet.backbones.base import Classifier
from detnet.backbones.files import ClassifierInfo, save_classifier
from detnet.errors import InputError

timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'detnet[hub]'")
door = pytest.importorskip("detnet.timm")

SMALL = 0.125


def timm_name(name: str) -> str:
    return f"detnet_{name}" if name.startswith("resnet") else name


@pytest.mark.parametrize("name", BACKBONES)
def test_levels_are_as_announced(name: str) -> None:
    model = timm.create_model(timm_name(name), features_only=True, width=SMALL)
    info, images = model.feature_info, torch.rand(1, 3, 64, 96)
    levels = model(images)
    assert info.reduction()[:2] == [2, 4] and len(levels) == len(info.channels())
    for level, channels, stride in zip(levels, info.channels(), info.reduction(), strict=True):
        assert level.shape == (1, channels, 64 // stride, 96 // stride)
    own = BACKBONES[name](width=SMALL).eval()
    model.backbone.load_state_dict(own.state_dict())
    expected = own(images).values()
    for mine, theirs in zip(model.eval()(images)[1:], expected, strict=True):
        assert torch.equal(mine, theirs)


@pytest.mark.parametrize(
    ("asked", "modules"),
    [
        (None, ["stem", "c2", "c3", "c4", "c5", "c6"]),
        ((5, 1), ["c2", "c6"]),
        ((-1,), ["c6"]),
        (2, ["c5", "c6"]),
    ],
)
def test_levels_can_be_chosen(asked: object, modules: list[str]) -> None:
    model = timm.create_model("detnet59", features_only=True, out_indices=asked, width=SMALL)
    assert model.feature_info.module_name() == modules
    assert len(model(torch.rand(1, 3, 64, 96))) == len(modules)


def test_the_stems_level_comes_before_its_pooling() -> None:
    model = timm.create_model("detnet59", features_only=True, width=SMALL).eval()
    images = torch.rand(1, 3, 64, 96)
    first = model(images)[0]
    assert torch.equal(model.backbone.stem.pool(first), model.backbone.stem(images))


@pytest.mark.parametrize("name", ["detnet59", "detnasnet_300m"])
def test_classifier_is_timms(name: str) -> None:
    model = timm.create_model(name, num_classes=7, width=SMALL).eval()
    images = torch.rand(2, 3, 64, 96)
    logits = model(images)
    assert logits.shape == (2, 7)
    assert torch.equal(model.forward_head(model.forward_features(images)), logits)
    pooled = model.forward_head(model.forward_features(images), pre_logits=True)
    assert pooled.shape == (2, model.num_features)
    model.reset_classifier(3)
    assert model(images).shape == (2, 3) and model.get_classifier().out_features == 3
    model.reset_classifier(0)
    assert torch.equal(model(images), pooled)
    scale = timm.data.resolve_model_data_config(model)["std"][0]
    assert scale == pytest.approx(1 / 255 if name == "detnasnet_300m" else 0.229)


def test_weights_come_from_a_file(tmp_path: Path) -> None:
    source = Classifier(BACKBONES["detnet59"](width=SMALL), 4).eval()
    path = tmp_path / "a.pth"
    torch.save(source.state_dict(), path)
    images = torch.rand(1, 3, 64, 96)
    model = timm.create_model("detnet59", weights=path, num_classes=4, width=SMALL).eval()
    assert torch.equal(model(images), source(images))
    other = timm.create_model("detnet59", weights=path, num_classes=5, width=SMALL).eval()
    assert torch.equal(other.forward_features(images), model.forward_features(images))
    body = timm.create_model("detnet59", weights=path, features_only=True, width=SMALL).eval()
    assert torch.equal(body(images)[-1], model.forward_features(images))


def test_own_model_files_say_how_they_are_built(tmp_path: Path) -> None:
    options = {"width": SMALL, "stride_in": "3x3"}
    source = Classifier(BACKBONES["detnet59"](**options), 4).eval()
    info = ClassifierInfo("detnet59", tuple("abcd"), options, pixel_std=(0.5, 0.5, 0.5))
    save_classifier(tmp_path / "a.safetensors", info, source.state_dict())
    model = timm.create_model("detnet59", weights=tmp_path / "a.safetensors", num_classes=4).eval()
    images = torch.rand(1, 3, 64, 96)
    assert torch.equal(model(images), source(images))
    assert timm.data.resolve_model_data_config(model)["std"] == (0.5, 0.5, 0.5)


def test_torchvisions_weights_bring_their_stride(tmp_path: Path) -> None:
    import torchvision

    net = torchvision.models.resnet50(weights=None).eval()
    torch.save(net.state_dict(), tmp_path / "a.pth")
    model = timm.create_model("detnet_resnet50", weights=tmp_path / "a.pth").eval()
    assert model.backbone.stride_in == "3x3"
    images = torch.rand(1, 3, 64, 96)
    with torch.no_grad():
        torch.testing.assert_close(model(images), net(images), rtol=1e-4, atol=1e-4)


def test_what_timms_train_py_gives_without_being_asked() -> None:
    model = timm.create_model("detnet59", width=SMALL, drop_rate=0.0, global_pool="avg")
    assert model.num_classes == 1000


def test_names_of_timm_stay_its_own() -> None:
    assert {timm_name(name) for name in BACKBONES} <= set(timm.list_models())
    theirs = timm.create_model("resnet50", num_classes=2)
    assert not isinstance(theirs, Classifier) and isinstance(theirs, nn.Module)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"pretrained": True}, "no published weights of detnet59: give weights=FILE"),
        ({"in_chans": 1}, "3 channels, got in_chans 1"),
        ({"features_only": True, "out_indices": (6,)}, "must lie in 0 to 5"),
        ({"global_pool": "max"}, "global_pool must be 'avg', got 'max'"),
        ({"drop_rate": 0.1}, "unknown option 'drop_rate'"),
    ],
)
def test_what_cannot_be_made(options: dict, said: str) -> None:
    with pytest.raises(InputError, match=said):
        timm.create_model("detnet59", width=SMALL, **options)
