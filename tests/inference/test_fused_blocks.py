import pytest
import torch
import torchvision
from torch import Tensor, nn

from detnet.backbones.blocks import Bottleneck
from detnet.inference.fuse import fuse
from detnet.inference.fused_blocks import FusedBottleneck


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
    half = fuse(nn.Sequential(block), dtype=torch.bfloat16)
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        found = half(x)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)


def test_serves_torchvisions_blocks_too() -> None:
    torch.manual_seed(0)
    stage = torchvision.models.resnet50().layer2.eval()
    fused = fuse(stage)
    assert sum(isinstance(module, FusedBottleneck) for module in fused.modules()) == 4
    with torch.no_grad():
        torch.testing.assert_close(fused(_input(256)), stage(_input(256)), atol=1e-4, rtol=1e-3)
