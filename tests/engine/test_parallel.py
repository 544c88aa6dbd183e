"""Wrapping a model for several processes; what many come to is in `test_runs_of_eight.py`."""

from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel

from detnet.engine.distributed import Process
from detnet.engine.parallel import in_parallel
from tests.engine.toy import CPU, Toy, batch


def test_a_single_process_has_the_model_itself() -> None:
    model = Toy()
    found = in_parallel(model, Process(0, 1, CPU), partial=False, buffers_differ=True)
    assert found is model


@pytest.mark.parametrize("partial", [False, True])
def test_losses_and_gradients_are_the_models(
    partial: bool, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    expected = Toy()
    sum(expected(*batch(0)).values()).backward()  # type: ignore[union-attr]
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        model = Toy()
        several = Process(0, 2, CPU)  # as if; the group is of one
        wrapped = in_parallel(model, several, partial=partial, buffers_differ=True)
        assert isinstance(wrapped, DistributedDataParallel)
        losses = wrapped(*batch(0))
        torch.stack(list(losses.values())).sum().backward()
    finally:
        dist.destroy_process_group()
    assert "find_unused_parameters" not in capfd.readouterr().err  # past Python's warnings
    assert losses.keys() == expected(*batch(0)).keys()
    for own, other in zip(model.parameters(), expected.parameters(), strict=True):
        assert own.grad is not None and torch.equal(own.grad, other.grad)
    assert [p.grad for name, p in wrapped.named_parameters() if "unused" in name] == [None]
