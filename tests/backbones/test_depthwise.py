from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from detnet.backbones.depthwise import DepthwiseConv

pytestmark = pytest.mark.processor

LAYOUTS = [torch.contiguous_format, torch.channels_last]


def pair(kernel: int, stride: int) -> tuple[DepthwiseConv, nn.Conv2d]:
    """Ours and torch's with equal weights, for 24 channels."""
    torch.manual_seed(0)
    ours = DepthwiseConv(24, kernel, stride=stride)
    theirs = nn.Conv2d(24, 24, kernel, stride, kernel // 2, groups=24, bias=False)
    theirs.load_state_dict(ours.state_dict())
    return ours, theirs


def outcome(conv: nn.Module, x: Tensor, *, bf16: bool) -> list[Tensor]:
    """Output and both gradients, for a loss that weighs every cell differently."""
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=bf16):
        y = conv(x)
    weighing = torch.linspace(-1, 1, y.numel()).reshape(y.shape)
    (y.float() * weighing).sum().backward()
    assert isinstance(conv.weight, Tensor) and conv.weight.grad is not None
    assert x.grad is not None
    return [y, x.grad, conv.weight.grad]


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("size", [(11, 14), (2, 3)])  # the second is smaller than the kernels
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
def test_values_and_gradients_are_torchs(
    kernel: int, stride: int, size: tuple[int, int], layout: torch.memory_format
) -> None:
    x = torch.randn(3, 24, *size).contiguous(memory_format=layout)
    for bf16, tolerance in ((False, 1e-5), (True, 2e-2)):
        ours, theirs = pair(kernel, stride)
        found, expected = outcome(ours, x, bf16=bf16), outcome(theirs, x, bf16=bf16)
        for one, other in zip(found, expected, strict=True):
            assert one.dtype == other.dtype
            scale = other.detach().abs().max()
            torch.testing.assert_close(one / scale, other / scale, rtol=0, atol=tolerance)


@pytest.mark.parametrize("frozen", ["input", "weight"])
def test_one_gradient_alone(frozen: str) -> None:
    ours, theirs = pair(5, 2)
    found = []
    for conv in (ours, theirs):
        x = torch.randn(2, 24, 9, 12, generator=torch.Generator().manual_seed(1))
        conv.weight.requires_grad_(frozen != "weight")
        x.requires_grad_(frozen != "input")
        conv(x).square().sum().backward()
        assert (x.grad is None) == (frozen == "input")
        assert (conv.weight.grad is None) == (frozen == "weight")
        found.append(conv.weight.grad if frozen == "input" else x.grad)
    torch.testing.assert_close(found[0], found[1], rtol=1e-5, atol=1e-4)


def test_gradients_are_the_derivatives() -> None:
    """Against finite differences, by the way that fp64 usually does not take."""
    from detnet.backbones.depthwise import _Depthwise

    torch.manual_seed(0)
    x = torch.randn(2, 3, 5, 6, dtype=torch.float64, requires_grad=True)
    weight = torch.randn(3, 1, 5, 5, dtype=torch.float64, requires_grad=True)
    run: Callable[..., Tensor] = lambda x, weight: _Depthwise.apply(x, weight, 1)  # noqa: E731
    assert torch.autograd.gradcheck(run, (x, weight))


def test_the_same_bits_every_time() -> None:
    x = torch.randn(2, 24, 20, 28).contiguous(memory_format=torch.channels_last)
    first, second = (outcome(pair(7, 2)[0], x, bf16=True) for _ in range(2))
    assert all(torch.equal(one, other) for one, other in zip(first, second, strict=True))


def test_a_folded_norm_s_bias_is_added() -> None:
    ours, theirs = pair(5, 1)
    for conv in (ours, theirs):
        conv.bias = nn.Parameter(torch.arange(24.0))
    x = torch.randn(1, 24, 7, 9)
    torch.testing.assert_close(ours(x), theirs(x))


@pytest.mark.parametrize("bf16", [False, True])
def test_a_layer_dilated_later(bf16: bool) -> None:
    ours, theirs = pair(5, 1)
    for conv in (ours, theirs):
        conv.dilation, conv.padding = (2, 2), (4, 4)  # as `hold_stride` does
    x = torch.randn(2, 24, 11, 14)
    found, expected = outcome(ours, x, bf16=bf16), outcome(theirs, x, bf16=bf16)
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one, other)
