"""For each layout our network computes what the source's own does, and writing inverts reading."""

from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torchvision.models.feature_extraction import create_feature_extractor

from detnet.backbones import BACKBONES
from detnet.backbones.weights.loading import load_weights
from detnet.backbones.weights.pretrained import PretrainedWeights, identify, layout_named, recognise
from detnet.backbones.weights.reading import read_weights
from detnet.errors import InputError
from tests.backbones.weights import references as theirs
from tests.backbones.weights.references import images, with_statistics


def read_back(path: Path, content: Any) -> PretrainedWeights:
    torch.save(content, path)
    return recognise(read_weights(path).tensors, str(path))


def ours(name: str, source: PretrainedWeights) -> nn.Module:
    options = {key: value for key, value in source.options.items() if key == "stride_in"}
    backbone = BACKBONES[name](**options).eval()
    done = load_weights(backbone, source, name=name)
    assert not done.fresh and not done.mismatched
    return backbone


@torch.no_grad()
def check_features(mine: nn.Module, expected: list[Tensor]) -> None:
    found = list(mine(images()).values())
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5 * float(b.abs().max()))


def check_inverse(source: PretrainedWeights, state: dict[str, Tensor]) -> None:
    """Writing what was read gives the same names and bits, but for batch counters."""
    written = layout_named(source.layout).from_ours({**source.backbone, **source.others})
    assert {n for n in written if not n.endswith("tracked")} == {
        n for n in state if not n.endswith("tracked")
    }
    assert all(torch.equal(value, state[n]) for n, value in written.items() if n in state)


@pytest.mark.parametrize("name", ["resnet50", "resnet101"])
def test_torchvision(name: str, tmp_path: Path) -> None:
    net = with_statistics(torchvision.models.get_model(name, weights=None))
    source = read_back(tmp_path / "a.pth", net.state_dict())
    assert source.layout == "torchvision" and source.options["stride_in"] == "3x3"
    layers = {f"layer{n}": str(n) for n in range(1, 5)}
    with torch.no_grad():
        expected = list(create_feature_extractor(net, layers)(images()).values())
    check_features(ours(name, source), expected)
    check_inverse(source, net.state_dict())


@pytest.mark.parametrize("name", ["resnet50", pytest.param("resnet101", marks=pytest.mark.slow)])
def test_timm(name: str, tmp_path: Path) -> None:
    timm = pytest.importorskip("timm", reason="timm is not installed: pip install 'detnet[hub]'")
    net = with_statistics(timm.create_model(name))
    source = read_back(tmp_path / "a.pth", {"state_dict": net.state_dict(), "epoch": 3})
    with torch.no_grad():
        _, expected = net.forward_intermediates(images(), indices=[1, 2, 3, 4])
    check_features(ours(name, source), expected)
    check_inverse(source, net.state_dict())


def test_detnet_pytorch(tmp_path: Path) -> None:
    torch.manual_seed(0)
    net = with_statistics(theirs.TheirDetNet())
    state = {f"module.{name}": value for name, value in net.state_dict().items()}
    source = read_back(tmp_path / "a.pth", state)
    assert source.layout == "detnet_pytorch"
    with torch.no_grad():
        expected = net(images())
    check_features(ours("detnet59", source), expected)
    check_inverse(source, net.state_dict())


@pytest.mark.parametrize("depth", [50, pytest.param(101, marks=pytest.mark.slow)])
def test_detectron(depth: int, tmp_path: Path) -> None:
    blobs = theirs.detectron_blobs(depth=depth)
    path = tmp_path / "R.pkl"
    besides = {"conv1_b": blobs["res_conv1_bn_b"], "conv1_w_momentum": blobs["conv1_w"]}
    content = {"blobs": {**blobs, **besides}, "cfg": "A: 1\n"}
    path.write_bytes(theirs.python2_pickle(content))
    source = recognise(read_weights(path).tensors, str(path))
    assert source.layout == "detectron" and source.options["stride_in"] == "1x1"
    assert source.options["channel_order"] == "bgr"
    means, scale = source.options["pixel_mean"], source.options["pixel_std"]
    assert [255 * mean for mean in means] == pytest.approx([102.9801, 115.9465, 122.7717])
    assert [255 * value for value in scale] == pytest.approx([1, 1, 1])  # Caffe divides by nothing
    expected = theirs.detectron_features(blobs, images())
    check_features(ours(f"resnet{depth}", source), expected)
    for name in besides:  # as Detectron leaves them
        del source.others[name]
    assert set(source.others) == {"fc.weight", "fc.bias"}
    check_inverse(source, {name: torch.from_numpy(value) for name, value in blobs.items()})


def test_the_stride_elsewhere_shows() -> None:
    """The comparison tells stride placements apart."""
    blobs = theirs.detectron_blobs()
    state = {name: torch.from_numpy(value) for name, value in blobs.items()}
    backbone = BACKBONES["resnet50"](stride_in="3x3").eval()
    load_weights(backbone, recognise(state, "R.pkl"))
    with pytest.raises(AssertionError, match="not close"):
        check_features(backbone, theirs.detectron_features(blobs, images()))


def test_statistics_are_worked_into_detectrons_norm() -> None:
    """A network with statistics of its own gives Detectron's the same features."""
    net = with_statistics(BACKBONES["resnet50"](stride_in="1x1"))
    blobs = layout_named("detectron").from_ours(net.state_dict())
    arrays = {name: value.numpy() for name, value in blobs.items()}
    assert not any("running" in name for name in arrays)
    check_features(net, theirs.detectron_features(arrays, images()))


def test_detnas(tmp_path: Path) -> None:
    torch.manual_seed(0)
    ops = [int(digit) for digit in "21202112331300" + "313132"]
    net = with_statistics(theirs.TheirDetNAS(ops))
    with torch.no_grad():  # drawn as the release draws them, features vanish
        for layer in net.modules():
            if isinstance(layer, nn.Conv2d):
                nn.init.kaiming_normal_(layer.weight)
    source = read_back(tmp_path / "a.pth", net.state_dict())
    assert source.layout == "detnas" and "stride_in" not in source.options
    assert source.options["channel_order"] == "bgr"
    assert tuple(255 * value for value in source.options["pixel_std"]) == (1, 1, 1)
    with torch.no_grad():
        expected = net(images())
    check_features(ours("detnasnet_300m", source), expected)
    check_inverse(source, net.state_dict())
    assert {"tail.conv.weight", "fc.weight"} <= source.others.keys()


def test_detnas_in_a_trained_detector(tmp_path: Path) -> None:
    """The release's detectors have their backbone behind a prefix."""
    net = BACKBONES["detnasnet_1_3g"]().eval()
    state = layout_named("detnas").from_ours(net.state_dict())
    boxed = {f"module.backbone.body.{name}": value for name, value in state.items()}
    extra = {"module.rpn.head.conv.weight": torch.zeros(1)}
    source = read_back(tmp_path / "a.pth", {"model": {**boxed, **extra}, "iteration": 5})
    again = ours("detnasnet_1_3g", source).state_dict()
    assert all(torch.equal(value, again[name]) for name, value in net.state_dict().items())
    assert list(source.others) == list(extra)


def test_another_detnas_network_is_refused() -> None:
    state = layout_named("detnas").from_ours(BACKBONES["detnasnet_300m"]().state_dict())
    source = recognise(state, "a.pth")
    with pytest.raises(InputError, match=r"a\.pth: .*do not fit in c2, c3, c4"):
        load_weights(BACKBONES["detnasnet_voc_300m"](), source, name="detnasnet_voc_300m")


def test_supernets_are_refused() -> None:
    state = {
        "first_conv.conv.weight": torch.zeros(16, 3, 3, 3),
        "features.0.2.proj_conv.interstellar1a_proj.weight": torch.zeros(16, 16, 1, 1),
    }
    with pytest.raises(InputError, match=r"a\.pth: holds DetNAS's supernet"):
        recognise(state, "a.pth")


def test_own_names() -> None:
    net = BACKBONES["detnet59"](width=0.125)
    state = {f"backbone.{name}": value for name, value in net.state_dict().items()}
    source = recognise({**state, "fc.weight": torch.zeros(3, 128)}, "a.pth")
    assert source.layout == "detnet" and list(source.others) == ["fc.weight"]
    check_inverse(source, {**net.state_dict(), "fc.weight": torch.zeros(3, 128)})


@pytest.mark.parametrize(
    ("layout", "name"),
    [
        ("torchvision", "resnet50"),
        ("detnet_pytorch", "detnet59"),
        ("detnet_pytorch", "detnet59_noproj"),
        ("detnas", "detnasnet_300m"),
        ("detnas", "shufflenetv2_40"),
        ("detnet", "detnet110"),
    ],
)
def test_writing_and_reading_again_gives_the_same(layout: str, name: str) -> None:
    state = with_statistics(BACKBONES[name](width=0.125)).state_dict()
    source = recognise(layout_named(layout).from_ours(state), "a.pth")
    assert source.layout == layout and not source.others
    assert source.backbone.keys() == state.keys()
    assert all(torch.equal(value, source.backbone[n]) for n, value in state.items())


@pytest.mark.parametrize(
    ("layout", "name", "said"),
    [
        ("torchvision", "detnet59", "use the layout detnet_pytorch"),
        ("torchvision", "detnasnet_300m", "only networks of bottlenecks"),
        ("detnet_pytorch", "resnet50", "has DetNets only"),
        ("detectron", "detnet59", "has ResNets only"),
        ("detnas", "resnet50", "own blocks only"),
    ],
)
def test_networks_that_a_project_does_not_have(layout: str, name: str, said: str) -> None:
    with torch.device("meta"):
        state = BACKBONES[name](width=0.25).state_dict()
    with pytest.raises(InputError, match=said):
        layout_named(layout).from_ours(state)


def test_unknown_names() -> None:
    with pytest.raises(InputError, match=r"a\.pth: its names \(x, y, …\) are none of those"):
        recognise({"x": torch.zeros(1), "y": torch.zeros(1)}, "a.pth")
    with pytest.raises(InputError, match="did you mean 'torchvision'"):
        layout_named("torchvison")


@pytest.mark.parametrize(
    ("name", "width"), [("detnet59", 0.25), ("resnet101", 1.0), ("detnasnet_300m_retinanet", 1.0)]
)
def test_networks_are_identified(name: str, width: float) -> None:
    with torch.device("meta"):
        state = BACKBONES[name](width=width).state_dict()
    assert identify(state) == (name, width)
    del state["stem.bn.bias"]
    assert identify(state) is None
