import pytest
import torch
from torch import nn
from torchvision.ops.misc import FrozenBatchNorm2d

from detnet.backbones.norm import make_norm, set_momentum
from detnet.backbones.sync import SyncBatchNorm
from tests.backbones.test_sync import example

pytestmark = pytest.mark.processor


def test_frozen_learns_nothing_and_keeps_its_statistics() -> None:
    norm = make_norm("frozen")(5)
    assert isinstance(norm, FrozenBatchNorm2d)
    assert not list(norm.parameters())
    before = {name: value.clone() for name, value in norm.named_buffers()}
    norm.train()(example()[0])
    assert all(torch.equal(value, before[name]) for name, value in norm.named_buffers())


@pytest.mark.parametrize(("kind", "layer"), [("batch", nn.BatchNorm2d), ("sync", SyncBatchNorm)])
def test_make_norm_builds_by_channels(kind: str, layer: type[nn.Module]) -> None:
    norm = make_norm(kind)(7)  # type: ignore[arg-type]
    assert type(norm) is layer
    assert norm.weight.shape == (7,)


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(ValueError, match="frozen, batch, sync, got 'group'"):
        make_norm("group")  # type: ignore[arg-type]


def test_frozen_norm_keeps_half_precision_and_torchvision_values() -> None:
    torch.manual_seed(0)
    ours, theirs = make_norm("frozen")(6), FrozenBatchNorm2d(6)
    state = {
        name: torch.rand(6) + 0.5 for name in ("weight", "bias", "running_mean", "running_var")
    }
    ours.load_state_dict(state)
    theirs.load_state_dict(state)
    x = torch.randn(2, 6, 3, 5, requires_grad=True)
    torch.testing.assert_close(ours(x), theirs(x))
    half = ours(x.bfloat16())
    assert half.dtype == torch.bfloat16
    half.float().sum().backward()
    scale = state["weight"] / (state["running_var"] + 1e-5).sqrt()
    torch.testing.assert_close(x.grad, scale.view(1, 6, 1, 1).expand_as(x), rtol=1e-2, atol=1e-2)


def test_momentum_is_set_on_every_batch_norm() -> None:
    kinds = ("batch", "sync", "frozen")
    model = nn.Sequential(*(make_norm(kind)(5) for kind in kinds), nn.GroupNorm(1, 5))
    set_momentum(model, 0.01)
    x = example()[0]
    assert isinstance(model[0], nn.BatchNorm2d) and isinstance(model[1], nn.BatchNorm2d)
    for norm in model[:2]:
        norm(x)
        torch.testing.assert_close(norm.running_mean, 0.01 * x.mean((0, 2, 3)))
    assert not hasattr(model[2], "momentum")
