"""What the pretended device refuses, counts and draws: as CUDA does."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from detnet.engine.checkpoint import restore_rng_state, rng_state
from detnet.engine.distributed import setup
from detnet.engine.machine import (
    accelerator,
    autocast_to,
    choose_precision,
    drawing_from,
    fast_bf16,
    wait_for,
)
from detnet.errors import InputError
from tests.pretended.device import NAME, Pretended, register
from tests.pretended.waits import counted

PLACE = register()
HOST, HERE = torch.ones(2, 3), torch.ones(2, 3).to(PLACE)
NUMBER, MASK = torch.tensor(2.0), HERE > 0


def test_it_is_this_machines_accelerator(monkeypatch: pytest.MonkeyPatch) -> None:
    assert accelerator() == torch.device(NAME)
    for name in (None, NAME):
        assert setup(name).device == PLACE
    assert setup("cpu").device == torch.device("cpu")
    monkeypatch.delenv("DETNET_BF16", raising=False)
    assert fast_bf16(PLACE) and choose_precision("auto", PLACE) is torch.bfloat16
    assert choose_precision("fp16", PLACE) is torch.float16
    wait_for(PLACE)
    with pytest.raises(InputError, match="device cuda: this machine has none"):
        setup("cuda")


def test_without_bf16_it_is_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETNET_BF16", "never")
    assert choose_precision("auto", PLACE) is None
    with pytest.raises(InputError, match="this GPU has no instructions for it"):
        choose_precision("bf16", PLACE)


@pytest.mark.parametrize(
    "mix",
    [
        lambda: HERE + HOST,
        lambda: HOST + HERE,
        lambda: HOST + NUMBER.to(PLACE),
        lambda: HERE @ HOST.T,
        lambda: torch.cat([HERE, HOST]),
        lambda: torch.stack([HERE, HOST]),
        lambda: torch.where(HERE > 0, HOST, HERE),
        lambda: HOST[torch.tensor([0]).to(PLACE)],
        lambda: HOST[HERE > 0],
        lambda: HERE.gather(0, torch.tensor([[0]])),
        lambda: HERE.index_select(0, torch.tensor([0])),
        lambda: F.conv2d(HERE[None, None], torch.ones(1, 1, 1, 1)),
        lambda: F.cross_entropy(HERE, torch.tensor([0, 1])),
        lambda: nn.BatchNorm1d(3)(HERE),
        lambda: HERE.to(f"{NAME}:1") + HERE,
        lambda: torch.ops.torchvision.nms(HERE.new_ones(1, 4), torch.ones(1), 0.5),
    ],
)
def test_two_devices_do_not_mix(mix: Callable[[], Tensor]) -> None:
    with pytest.raises(RuntimeError, match=r"same device|Expected all tensors"):
        mix()


@pytest.mark.parametrize(
    "mix",
    [
        lambda: HERE + NUMBER,
        lambda: NUMBER * HERE,
        lambda: torch.where(HERE > 0, NUMBER, HERE),
        lambda: HERE[torch.tensor([1, 0])],
        lambda: HERE.clone().copy_(HOST),
        lambda: HERE.masked_fill(HERE > 2, NUMBER),
        lambda: HERE.to(f"{NAME}:1").to(PLACE),
    ],
)
def test_single_numbers_indices_and_copies_do(mix: Callable[[], Tensor]) -> None:
    assert mix().device == PLACE


def test_numpy_has_none_of_it() -> None:
    for convert in (lambda: HERE.numpy(), lambda: np.asarray(HERE)):
        with pytest.raises(TypeError, match="can't convert"):
            convert()
    assert HERE.tolist() == HOST.tolist() and type(HERE.cpu()) is Tensor


WAITS: dict[str, list[Callable[[], object]]] = {
    "item": [lambda: HERE.sum().item(), lambda: bool(HERE.any()), lambda: float(HERE[0, 0])],
    "nonzero": [lambda: (HERE > 0).nonzero(), lambda: torch.where(HERE > 0)],
    "unique": [lambda: torch.unique(HERE)],
    "mask index": [lambda: HERE[MASK], lambda: HERE.clone().index_put_((MASK,), HERE[0, 0])],
    "copy to the host": [lambda: HERE.cpu(), HERE.tolist, lambda: HOST.clone().copy_(HERE)],
    "copy from the host": [
        lambda: HOST.to(PLACE),
        lambda: torch.tensor([1.0], device=PLACE),
        lambda: torch.as_tensor([1, 2], device=PLACE),
        lambda: HERE[torch.tensor([1, 0])],
        lambda: HERE.new_tensor([1.0]),
    ],
}  # fmt: skip


@pytest.mark.parametrize(("what", "run"), [(k, run) for k, runs in WAITS.items() for run in runs])
def test_waits_are_counted(what: str, run: Callable[[], object]) -> None:
    with counted() as waits:
        run()
    assert [(kind, times) for (*_, kind), times in waits.items()] == [(what, 1)]


def test_what_does_not_wait_is_not_counted() -> None:
    with counted() as waits:
        HOST.to(PLACE, non_blocking=True)
        HERE.to("cpu", non_blocking=True)
        changed = HERE.clone()
        changed[HERE > 0] = 3.0
        torch.where(HERE > 0, HERE, 0).sum()
        torch.arange(3, device=PLACE) * 2
        torch.full((2,), 3.0, device=PLACE)
    assert not waits


def test_a_masks_wait_in_the_backward_pass_is_the_forward_passs() -> None:
    from torchvision.ops.boxes import clip_boxes_to_image  # any of their functions: none of ours

    values = HERE.clone().requires_grad_()
    with counted() as waits:
        clip_boxes_to_image(torch.ones(2, 4).to(PLACE, non_blocking=True), (3, 4))
        values[HERE > 0].sum().backward()
    assert waits == {("torch", "elsewhere", "mask index"): 2}


def test_what_was_made_for_inference_is_still_on_the_device() -> None:
    with torch.inference_mode():
        made = HERE.to(torch.float64) * 2
        assert torch.equal(made.cpu(), 2 * HOST.double())
    assert made.device == PLACE and type(made.float().cpu()) is Tensor
    with pytest.raises(RuntimeError, match="same device"):
        made.float() + HOST


def test_it_draws_from_a_stream_of_its_own() -> None:
    torch.manual_seed(1)
    first = torch.rand(3), torch.rand(3, device=PLACE)
    torch.manual_seed(1)
    torch.rand(5, device=PLACE)
    assert torch.equal(first[0], torch.rand(3))
    torch.manual_seed(1)
    assert torch.equal(first[1].cpu(), torch.rand(3, device=PLACE).cpu())
    assert len({*torch.randperm(50, device=PLACE).tolist()}) == 50


def test_its_stream_is_saved_put_back_and_left_where_it_was() -> None:
    state = rng_state()
    expected = torch.rand(4, device=PLACE).cpu()
    restore_rng_state(state)
    with drawing_from(7, PLACE):
        other = torch.rand(4, device=PLACE).cpu()
    assert torch.equal(torch.rand(4, device=PLACE).cpu(), expected)
    assert not torch.equal(other, expected)


def test_autocast_computes_in_the_types_of_cuda() -> None:
    layer = nn.Linear(3, 2).to(PLACE)
    for dtype in (torch.bfloat16, torch.float16):
        with autocast_to(PLACE, dtype):
            assert layer(HERE).dtype is dtype
            assert F.softmax(layer(HERE), dim=1).dtype is torch.float32
            assert (layer(HERE) + HERE[:, :2]).dtype is torch.float32
        layer(HERE).sum().backward()
    assert isinstance(layer.weight, Pretended) and layer.weight.grad is not None
