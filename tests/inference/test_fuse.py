from typing import Any

import pytest
import torch
import torchvision
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torchvision.ops.misc import FrozenBatchNorm2d

import detnet
from detnet.inference.fuse import fuse

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
