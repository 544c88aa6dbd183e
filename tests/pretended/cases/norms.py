"""Batch norm over the images of all processes, on the device."""

import pytest
import torch
from torch import Tensor, nn

from detnet.backbones import sync
from tests.pretended.device import place
from tests.pretended.waits import waiting_for_nothing

PLACE = place()


def test_synchronised_norm_waits_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes the other one is made up: it has the same images as this one."""

    def gather(table: Tensor, mine: Tensor, group: object) -> None:
        table.copy_(mine.repeat(2))

    def add_up(sums: Tensor, group: object) -> None:
        sums.mul_(2)

    monkeypatch.setattr(sync, "_processes", lambda: 2)
    monkeypatch.setattr(sync, "_own_group", lambda: None)
    monkeypatch.setattr(sync.dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(sync.dist, "all_gather_into_tensor", gather)
    monkeypatch.setattr(sync.dist, "all_reduce", add_up)
    images = torch.rand(2, 5, 6, 9)
    weights = torch.rand(2, 5, 6, 9)
    here, there = images.to(PLACE).requires_grad_(), images.clone().requires_grad_()
    norm, plain = sync.SyncBatchNorm(5).to(PLACE), nn.BatchNorm2d(5)
    factors = weights.to(PLACE)
    with waiting_for_nothing(PLACE):
        found = norm(here)
        (found * factors).sum().backward()
    expected = plain(there)
    (expected * weights).sum().backward()
    torch.testing.assert_close(found.cpu(), expected, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(norm.running_mean.cpu(), plain.running_mean, rtol=1e-4, atol=1e-5)
    assert here.grad is not None and here.grad.device == PLACE
    torch.testing.assert_close(here.grad.cpu(), there.grad, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(norm.weight.grad.cpu(), plain.weight.grad, rtol=1e-4, atol=1e-4)
