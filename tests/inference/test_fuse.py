from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.misc import FrozenBatchNorm2d

import detnet
from detnet.backbones.stages import Bottleneck
from detnet.inference.fuse import FusedBottleneck, _conv_relu, fuse

pytestmark = pytest.mark.processor

NORMS = (_BatchNorm, FrozenBatchNorm2d)


def _with_statistics(model: nn.Module) -> nn.Module:
    """A model whose norms do something, as after training."""
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, NORMS):
            for values, low in (
                (module.weight, 0.5),
                (module.bias, -0.2),
                (module.running_mean, -0.2),
                (module.running_var, 0.5),
            ):
                assert isinstance(values, Tensor)
                noise = torch.rand(values.shape, generator=generator)
                values.data.copy_(low + noise * (1.0 if low > 0 else 0.4))
    return model.eval()


def _images(height: int = 64, width: int = 96) -> Tensor:
    return torch.rand(1, 3, height, width, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("norm", [nn.BatchNorm2d, FrozenBatchNorm2d])
def test_a_resnet_computes_the_same(norm: Any) -> None:
    torch.manual_seed(0)
    model = _with_statistics(torchvision.models.resnet18(norm_layer=norm))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    fused = fuse(model)
    with torch.no_grad():
        expected = model(_images())
        assert expected.std() > 0.1
        torch.testing.assert_close(fused(_images()), expected, atol=1e-3, rtol=1e-3)
    assert not any(isinstance(module, NORMS) for module in fused.modules())
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert not any(parameter.requires_grad for parameter in fused.parameters())


@pytest.mark.parametrize("norm", ["batch", "frozen", "sync"])
def test_our_detector_finds_the_same(norm: str) -> None:
    torch.manual_seed(0)
    model = detnet.create(
        "faster_rcnn_fpn",
        backbone="detnet59",
        num_classes=4,
        width=0.25,
        norm=norm,
        box_head="4conv1fc",
        head_norm="batch",
        pyramid_norm="batch",
    )
    model = _with_statistics(model)
    fused = fuse(model)
    assert not any(isinstance(module, NORMS) for module in fused.modules())
    regions = torch.rand(5, fused.backbone.out_channels, 7, 7)
    with torch.no_grad():
        features, same = model.backbone(_images()), fused.backbone(_images())
        expected, found = (m.roi_heads.box_head(regions) for m in (model, fused))
    assert expected.std() > 0.01
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-3)
    for name in features:
        assert features[name].std() > 0.1
        torch.testing.assert_close(same[name], features[name], atol=1e-3, rtol=1e-3)


def test_weights_of_half_size_give_nearly_the_same() -> None:
    torch.manual_seed(0)
    model = _with_statistics(torchvision.models.resnet18())
    fused = fuse(model, dtype=torch.bfloat16)
    assert fused.layer1[0].conv1.weight.dtype == torch.bfloat16
    assert fused.layer1[0].conv1.weight.is_contiguous(memory_format=torch.channels_last)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = fused(_images()).float()
    with torch.no_grad():
        expected = model(_images())
    assert torch.nn.functional.cosine_similarity(found, expected).item() > 0.999


def test_what_has_no_partner_stays() -> None:
    shared = nn.Conv2d(4, 4, 1)
    model = nn.Sequential(
        nn.Sequential(nn.BatchNorm2d(3), nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4)),
        nn.Sequential(shared, nn.BatchNorm2d(4)),
        nn.Sequential(shared, nn.BatchNorm2d(4)),
        nn.Sequential(nn.Conv2d(4, 4, 1), nn.BatchNorm2d(4, track_running_stats=False)),
    )
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and module.running_mean is not None:
            module.running_mean.uniform_(-0.2, 0.2)
    model.eval()
    fused = fuse(model)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in fused.modules()) == 5
    with torch.no_grad():
        torch.testing.assert_close(fused(_images()), model(_images()), atol=1e-3, rtol=1e-3)


pytestmark = pytest.mark.processor


def _input(channels: int) -> Tensor:
    x = torch.rand(2, channels, 12, 17, generator=torch.Generator().manual_seed(0))
    return x.contiguous(memory_format=torch.channels_last)


def _block(*, project: bool, dilation: int, stride: int) -> nn.Module:
    torch.manual_seed(0)
    block = Bottleneck(
        32 if not project else 16,
        8,
        32,
        norm=nn.BatchNorm2d,
        project=project,
        dilation=dilation,
        stride=stride,
    )
    for module in block.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.uniform_(-0.2, 0.2)
            module.running_var.uniform_(0.5, 1.5)
    return block.eval()


@pytest.mark.parametrize(
    ("project", "dilation", "stride"), [(False, 1, 1), (False, 2, 1), (True, 2, 1), (True, 1, 2)]
)
def test_computes_what_the_block_computes(project: bool, dilation: int, stride: int) -> None:
    block = _block(project=project, dilation=dilation, stride=stride)
    x = _input(16 if project else 32)
    fused = fuse(nn.Sequential(block))
    assert isinstance(fused[0], FusedBottleneck)
    with torch.no_grad():
        expected = block(x)
        before = x.clone()
        torch.testing.assert_close(fused(x), expected, atol=1e-5, rtol=1e-4)
        assert torch.equal(x, before)
    torch.testing.assert_close(fused(x), expected, atol=1e-5, rtol=1e-4)  # with gradients on


@pytest.mark.parametrize(("side", "stride"), [(1, 1), (2, 2)])
def test_a_single_position(side: int, stride: int) -> None:
    """Where channels_last and the usual order look alike, as at the end of a small picture."""
    block = _block(project=True, dilation=1, stride=stride)
    x = _input(16)[:, :, :side, :side].contiguous(memory_format=torch.channels_last)
    fused = fuse(nn.Sequential(block)).to(memory_format=torch.channels_last)
    with torch.no_grad():
        torch.testing.assert_close(fused(x), block(x), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("gradients", [False, True], ids=["one pass", "apart"])
@pytest.mark.parametrize("project", [False, True])
def test_weights_of_half_size_give_their_own_type(project: bool, gradients: bool) -> None:
    """On every processor, whether oneDNN adds within the convolution or torch adds after it."""
    block = _block(project=project, dilation=2, stride=1)
    x = _input(16 if project else 32)
    half = fuse(nn.Sequential(block), dtype=torch.bfloat16)
    assert isinstance(half[0], FusedBottleneck)
    with torch.set_grad_enabled(gradients):
        with torch.autocast("cpu", torch.bfloat16):
            found = half(x)
        alone = half(x)  # without autocast: every processor takes it alike
    assert found.dtype == alone.dtype == torch.bfloat16
    with torch.no_grad():
        expected = block(x)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
    torch.testing.assert_close(alone, found, atol=0.02, rtol=0.02)


@pytest.mark.parametrize("bf16_input", [False, True])
def test_whole_weights_under_autocast_do_as_the_block_does(bf16_input: bool) -> None:
    block = _block(project=False, dilation=1, stride=1)
    x = _input(32).to(torch.bfloat16 if bf16_input else torch.float32)
    fused = fuse(nn.Sequential(block))
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found, expected = fused(x), block(x)
    assert found.dtype == expected.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected.float(), atol=0.05, rtol=0.05)


@pytest.mark.parametrize("bf16", [False, True])
@pytest.mark.parametrize("built_in", [False, True])
def test_onednn_is_asked_where_it_has_the_operators(
    built_in: bool, bf16: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    monkeypatch.setattr(
        "detnet.inference.fuse._conv_relu",
        lambda conv, x: asked.append(conv) or _conv_relu(conv, x),
    )
    if not built_in:
        monkeypatch.setattr(torch.backends.mkldnn, "is_available", lambda: False)
    block = _block(project=False, dilation=1, stride=1)
    fused = fuse(nn.Sequential(block), dtype=torch.bfloat16 if bf16 else torch.float32)
    with torch.no_grad():
        expected = block(_input(32))
        with torch.autocast("cpu", torch.bfloat16, enabled=bf16):
            found = fused(_input(32))
    has = built_in and (not bf16 or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    assert len(asked) == (2 if has else 0)
    tolerance = 0.05 if bf16 else 1e-4
    torch.testing.assert_close(found.float(), expected, atol=tolerance, rtol=tolerance)


def test_serves_torchvisions_blocks_too() -> None:
    torch.manual_seed(0)
    stage = torchvision.models.resnet50().layer2.eval()
    fused = fuse(stage)
    assert sum(isinstance(module, FusedBottleneck) for module in fused.modules()) == 4
    with torch.no_grad():
        torch.testing.assert_close(fused(_input(256)), stage(_input(256)), atol=1e-4, rtol=1e-3)
