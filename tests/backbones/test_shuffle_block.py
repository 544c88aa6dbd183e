import copy
import itertools
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from detnet.backbones.detnas import SMALL
from detnet.backbones.shuffle_block import (
    BLOCK_KINDS,
    BlockKind,
    DepthwiseConv,
    Position,
    ShuffleBlock,
)
from detnet.backbones.spaces.shuffle_space import ShuffleNet, ShuffleSpace, ShuffleStage
from detnet.backbones.spaces.space import parse_path
from detnet.errors import InputError
from detnet.inference.fuse import fuse

FOUR_KINDS = ShuffleSpace(
    stem_channels=8, rows=(ShuffleStage("c2", 4, 16), ShuffleStage("c3", 4, 32))
)
PATH = parse_path("2130 1032")


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("choice", BLOCK_KINDS, ids=lambda choice: choice.name)
def test_every_choice_fits_every_position(choice: BlockKind, stride: int) -> None:
    """So a supernet can hold all of them at each of its positions."""
    position = Position("c3", 0, 16 if stride == 2 else 24, 24, stride)
    block = ShuffleBlock(position, choice, norm=nn.BatchNorm2d)
    x = torch.randn(2, position.in_channels, 9, 13)
    size = (9, 13) if stride == 1 else (5, 7)
    assert block(x).shape == (2, 24, *size)
    depthwise = [m for m in block.modules() if isinstance(m, nn.Conv2d) and m.groups > 1]
    expected = choice.kernels if stride == 1 else (choice.kernels[0], *choice.kernels)
    assert tuple(conv.kernel_size[0] for conv in depthwise) == expected


def test_even_channels_are_passed_on_and_odd_ones_worked_on() -> None:
    """The shuffle of the released single models; the supernet's would pass on other channels."""
    block = ShuffleBlock(Position("c2", 1, 8, 8, 1), BLOCK_KINDS[0], norm=nn.BatchNorm2d).eval()
    x = torch.randn(2, 8, 5, 7)
    before = x.clone()
    out = block(x)
    assert torch.equal(out[:, :4], x[:, 0::2])
    torch.testing.assert_close(out[:, 4:], block.main(x[:, 1::2]))
    assert torch.equal(x, before)  # ReLUs in place must not reach back into the level before


def test_levels_frozen_parts_and_gradients_reach_everything() -> None:
    net = ShuffleNet(FOUR_KINDS, PATH).train()
    features = net(torch.rand(2, 3, 40, 56))
    assert {name: tuple(f.shape) for name, f in features.items()} == {
        "c2": (2, 16, 10, 14),
        "c3": (2, 32, 5, 7),
    }
    assert list(net.parts()) == ["stem", "c2", "c3"]
    features["c3"].sum().backward()
    assert all(parameter.grad is not None for parameter in net.parameters())


def test_receptive_field_is_what_a_gradient_reaches() -> None:
    net = ShuffleNet(FOUR_KINDS, PATH).double().eval()
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.constant_(layer.weight, 1 / layer.weight[0].numel())
    images = torch.ones(1, 3, 256, 320, dtype=torch.float64, requires_grad=True)
    c3 = net(images)["c3"]
    c3[0, :, 16, 20].sum().backward()
    assert images.grad is not None
    reached = images.grad.abs().sum((0, 1)) > 0
    announced = net.feature_info[1].receptive_field
    assert announced < 256
    for axis in (0, 1):
        cells = reached.any(axis).nonzero()
        assert int(cells.max() - cells.min()) + 1 == announced


def test_the_tail_is_dropped_out_in_training_only() -> None:
    net = ShuffleNet(FOUR_KINDS, PATH)
    tail, channels = net.tail()
    assert channels == 1024
    x = torch.rand(4, 32, 3, 5)
    whole = tail.train()(x).flatten(2)
    lost = (whole == 0).all(2).float().mean()
    assert 0.15 < float(lost) < 0.25
    assert torch.equal(tail.eval()(x), tail(x))
    half, channels = ShuffleNet(FOUR_KINDS, PATH, width=0.5).tail()
    assert channels == 512
    assert half(torch.rand(2, 24, 3, 5)).shape == (2, 512, 3, 5)


@pytest.mark.parametrize("kind", ["frozen", "batch", "sync"])
def test_norm_is_a_choice(kind: str) -> None:
    net = ShuffleNet(FOUR_KINDS, PATH, norm=kind)  # type: ignore[arg-type]
    learned = [name for name, _ in net.named_parameters() if "bn" in name]
    assert bool(learned) == (kind != "frozen")


def test_stride_in_changes_nothing_but_must_be_one_of_two() -> None:
    shapes = [
        {k: v.shape for k, v in ShuffleNet(FOUR_KINDS, PATH, stride_in=where).state_dict().items()}
        for where in ("1x1", "3x3")
    ]
    assert shapes[0] == shapes[1]
    with pytest.raises(InputError, match="'1x1' or '3x3', got '5x5'"):
        ShuffleNet(FOUR_KINDS, PATH, stride_in="5x5")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="has 8 entries, got 20"):
        ShuffleNet(FOUR_KINDS, (0,) * 20)


def test_norms_fold_into_every_convolution() -> None:
    net = live(ShuffleNet(FOUR_KINDS, PATH)).eval()
    fused = fuse(net)
    assert not [m for m in fused.modules() if isinstance(m, nn.BatchNorm2d)]
    images = torch.rand(2, 3, 64, 96)
    with torch.no_grad():
        for one, other in zip(fused(images).values(), net(images).values(), strict=True):
            torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


@pytest.mark.processor
def test_a_bf16_step_has_the_gradients_of_torchs_convolutions() -> None:
    net = live(ShuffleNet(FOUR_KINDS, PATH)).train().to(memory_format=torch.channels_last)
    plain = copy.deepcopy(net)
    for name, layer in net.named_modules():
        if isinstance(layer, DepthwiseConv):
            size, stride = layer.kernel_size[0], layer.stride[0]
            channels = layer.in_channels
            conv = nn.Conv2d(channels, channels, size, stride, size // 2, 1, channels, False)
            conv.load_state_dict(layer.state_dict())
            plain.set_submodule(name, conv.to(memory_format=torch.channels_last))
    images = torch.rand(2, 3, 64, 96).contiguous(memory_format=torch.channels_last)
    found = []
    for model in (net, plain):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            out = model(images)["c3"]
        assert out.dtype == torch.bfloat16
        out.float().square().mean().backward()
        grads = [p.grad.flatten() for p in model.parameters() if p.grad is not None]
        found.append(torch.cat(grads))
    assert F.cosine_similarity(found[0], found[1], dim=0) > 0.999


def live(net: nn.Module) -> nn.Module:
    """Gives norms statistics and scales that are not the identity."""
    generator = torch.Generator().manual_seed(0)

    def draw(like: Tensor, low: float) -> Tensor:
        return low + torch.rand(like.shape, generator=generator)

    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.BatchNorm2d):
                assert layer.running_mean is not None and layer.running_var is not None
                layer.weight.copy_(draw(layer.weight, 0.5))
                layer.bias.copy_(draw(layer.bias, -0.5))
                layer.running_mean.copy_(draw(layer.running_mean, -0.5))
                layer.running_var.copy_(draw(layer.running_var, 0.5))
    return net


# DetNAS's release, from its names and its order of operations: what a state dict
# of a single model must give.


def release_name(name: str, path: tuple[int, ...]) -> str:
    """Our name in the release's words, `1a` being block a of stage 1."""
    words = name.split(".")
    if words[0] == "stem":
        return ".".join(["first_conv", *words[1:]])
    stage, block, branch = int(words[1][1:]) - 1, int(words[2]), words[3]
    number = sum(row.blocks for row in FOUR_KINDS.rows[: stage - 1]) + block
    place = f"{stage}{chr(ord('a') + block)}"
    if branch == "main":
        kind, unit = BLOCK_KINDS[path[number]].name, int(words[4])
        prefix, layer = f"{place}_{kind}_branch2{'abc'[unit]}", words[5]
        home = f"features.{number}.conv.{unit}"
    else:
        prefix, layer, home = f"{place}_proj", words[4], f"features.{number}.proj_conv"
    theirs = {
        "depthwise": f"interstellar{prefix}_s",
        "depthwise_bn": f"interstellar{prefix}_s_bn",
        "pointwise": f"interstellar{prefix}",
        "pointwise_bn": f"bn{prefix}",
    }
    return f"{home}.{theirs[layer]}.{words[-1]}"


class Release:
    """Evaluates a state dict in the release's names."""

    def __init__(self, state: dict[str, Tensor]) -> None:
        self.state = state

    def layer(self, x: Tensor, conv: str, norm: str, stride: int, *, rectify: bool) -> Tensor:
        weight = self.state[f"{conv}.weight"]
        groups = len(weight) if weight.shape[1] == 1 and weight.shape[2] > 1 else 1
        x = F.conv2d(
            x,
            weight,
            self.state.get(f"{conv}.bias"),
            stride,
            weight.shape[2] // 2,
            groups=groups,
        )
        mean, var, scale, bias = (
            self.state[f"{norm}.{key}"] for key in ("running_mean", "running_var", "weight", "bias")
        )
        x = F.batch_norm(x, mean, var, scale, bias)
        return x.relu() if rectify else x

    def unit(self, x: Tensor, home: str, prefix: str, stride: int, *, rectify: bool) -> Tensor:
        conv = f"{home}.interstellar{prefix}"
        if f"{conv}_s.weight" in self.state:
            x = self.layer(x, f"{conv}_s", f"{conv}_s_bn", stride, rectify=False)
        return self.layer(x, conv, f"{home}.bn{prefix}", 1, rectify=rectify)

    def block(self, x: Tensor, number: int, place: str, kind: str, stride: int) -> Tensor:
        home = f"features.{number}"
        if stride == 2:
            kept = self.unit(x, f"{home}.proj_conv", f"{place}_proj", 2, rectify=True)
        else:  # its shuffle: pairs of neighbours are parted
            n, c, h, w = x.shape
            kept, x = x.reshape(n * c // 2, 2, h * w).permute(1, 0, 2).reshape(2, n, c // 2, h, w)
        letters = "abc" if kind.startswith("xception") else "ab"
        for unit, letter in enumerate(letters):
            prefix = f"{place}_{kind}_branch2{letter}"
            carries = kind.startswith("xception") == (letter == "a") and letter != "c"
            last = letter == letters[-1]
            x = self.unit(
                x, f"{home}.conv.{unit}", prefix, stride if carries else 1, rectify=not last
            )
        return torch.cat([kept, x.relu()], dim=1)

    def features(self, x: Tensor, path: tuple[int, ...]) -> list[Tensor]:
        x = self.layer(x, "first_conv.conv", "first_conv.bn", 2, rectify=True)
        found = []
        number = 0
        for stage, row in enumerate(FOUR_KINDS.rows, 1):
            for block in range(row.blocks):
                kind = BLOCK_KINDS[path[number]].name
                place = f"{stage}{chr(ord('a') + block)}"
                x = self.block(x, number, place, kind, 1 if block else 2)
                number += 1
            found.append(x)
        return found


@pytest.mark.parametrize("path", [PATH, parse_path("3021 2313")], ids=str)
def test_renamed_weights_give_the_release_s_features(path: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    net = live(ShuffleNet(FOUR_KINDS, path)).double().eval()
    state = {
        release_name(name, path): value
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    assert "features.1.conv.0.interstellar1b_" in " ".join(state)
    images = torch.rand(2, 3, 64, 96, dtype=torch.float64)
    with torch.no_grad():
        expected = Release(state).features(images, path)
        for one, other in itertools.zip_longest(net(images).values(), expected):
            torch.testing.assert_close(one, other)


def test_names_are_unique_in_the_release() -> None:
    names = [n for n in ShuffleNet(FOUR_KINDS, PATH).state_dict() if "num_batches" not in n]
    assert len({release_name(name, PATH) for name in names}) == len(names)
    assert SMALL.choices is BLOCK_KINDS


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
    from detnet.backbones.shuffle_block import _Depthwise

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
