"""Convolutions by products of tiles: the plain convolution's numbers, and only where it may be."""

import copy

import pytest
import torch
from torch import nn

from detnet.inference.winograd import WinogradConv2d, use_winograd


@pytest.fixture(autouse=True)
def of_avx2(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX2")


def convolution(in_channels: int = 128, out_channels: int = 144, **options: object) -> nn.Conv2d:
    torch.manual_seed(0)
    return nn.Conv2d(in_channels, out_channels, 3, padding=1, **options)  # type: ignore[arg-type]


def winograd(conv: nn.Conv2d) -> WinogradConv2d:
    holder = nn.Sequential(copy.deepcopy(conv))
    use_winograd(holder)
    (found,) = holder
    assert isinstance(found, WinogradConv2d)
    return found


@pytest.mark.parametrize("size", [(32, 40), (33, 41), (34, 46), (31, 63), (9, 130)])
@pytest.mark.parametrize("bias", [True, False])
def test_it_is_the_convolution(size: tuple[int, int], bias: bool) -> None:
    conv = convolution(bias=bias)
    ours = winograd(conv)
    images = torch.randn(2, 128, *size)
    exact = conv.double()(images.double())
    for given in (images, images.to(memory_format=torch.channels_last)):
        with torch.inference_mode():
            assert ours.pays(given)
            found = ours(given)
            rectified = ours.winograd(given, rectify=True)
        assert found.shape == (2, 144, *size)
        assert found.is_contiguous(memory_format=torch.channels_last) or size[0] % 4 or size[1] % 4
        # Five times what the plain one is off: the points ±2 cost two bits.
        assert (found - exact).abs().max() < 5e-5 * exact.abs().max()
        assert torch.equal(rectified, found.relu())


def test_the_border_is_zeros_and_nothing_of_one_image_is_in_another() -> None:
    ours = winograd(convolution(bias=False))
    with torch.inference_mode():
        images = torch.zeros(3, 128, 32, 36)
        images[1] = 1
        found = ours(images)
        assert found[0].abs().max() == found[2].abs().max() == 0
        assert torch.allclose(found[1], ours(images[1:2])[0])
        corner = ours.weight[:, :, 1:, 1:].sum((1, 2, 3))
        assert torch.allclose(found[1, :, 0, 0], corner, atol=1e-4)


def test_only_where_it_pays_and_may_be() -> None:
    ours = winograd(convolution())
    large, small = torch.randn(1, 128, 32, 40), torch.randn(1, 128, 28, 32)
    assert not ours.pays(large)  # gradients are asked for
    with torch.no_grad():
        assert ours.pays(large) and not ours.pays(small)
        assert not ours.pays(large.double())
        with torch.autocast("cpu", dtype=torch.bfloat16):
            assert not ours.pays(large)
        program = torch.export.export(nn.Sequential(ours).eval(), (large,))
        assert "conv2d" in program.graph_module.code and "bmm" not in program.graph_module.code


def test_which_layers_it_is_for(monkeypatch: pytest.MonkeyPatch) -> None:
    others = [
        convolution(64, 64),
        convolution(512, 256),
        convolution(stride=2),
        convolution(128, 128, groups=2),
        nn.Conv2d(128, 128, 3, padding=2, dilation=2),
        nn.Conv2d(128, 128, 1),
        nn.Conv2d(128, 128, 3),
        convolution(padding_mode="reflect"),
        convolution().to(torch.bfloat16),
    ]
    model = nn.Sequential(*others, convolution())
    use_winograd(model)
    assert [isinstance(layer, WinogradConv2d) for layer in model] == [False] * 9 + [True]
    monkeypatch.setattr(torch.backends.cpu, "get_cpu_capability", lambda: "AVX512")
    model = nn.Sequential(convolution())
    use_winograd(model)
    assert type(model[0]) is nn.Conv2d


def test_weights_that_change_are_seen_and_files_do_not_grow() -> None:
    ours, large = winograd(convolution()), torch.randn(1, 128, 32, 40)
    with torch.inference_mode():
        first = ours(large)
    assert list(ours.state_dict()) == ["weight", "bias"]
    with torch.no_grad():
        ours.weight.mul_(2)
    with torch.inference_mode():
        second = ours(large)
    bias = ours.bias.detach()[:, None, None]  # type: ignore[union-attr]
    assert torch.allclose(second - bias, 2 * (first - bias), atol=1e-4)
    ours.weight = nn.Parameter(ours.weight.detach() / 2)
    with torch.inference_mode():
        assert torch.allclose(ours(large), first, atol=1e-4)
