import pytest
import torch
import torchvision
from torch import Tensor, nn

from detnet.backbones.blocks import Bottleneck
from detnet.inference.fuse import fuse
from detnet.inference.fused_blocks import FusedBottleneck, _conv_relu

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
        "detnet.inference.fused_blocks._conv_relu",
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
