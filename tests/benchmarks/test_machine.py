"""The arithmetic of shares, on layers whose multiply-adds are worked out by hand."""

from typing import Any

import pytest
import torch
from torch import nn


@pytest.fixture
def machine(beside_the_scripts: None) -> Any:
    import machine

    return machine


def test_a_multiply_add_is_two_operations(machine: Any) -> None:
    assert machine.gflops(3_000_000_000, 2.0) == 3.0


@pytest.mark.parametrize(
    ("dtype", "name"), [(None, "fp32"), (torch.bfloat16, "bf16"), (torch.float32, "fp32")]
)
def test_the_share_of_a_product(machine: Any, dtype: torch.dtype | None, name: str) -> None:
    found = machine.share(machine.Work(5_000_000_000, dtype), 0.25, 80.0)
    assert found == {
        "precision": name,
        "macs": 5_000_000_000,
        "gflops": 40.0,
        "product_gflops": 80.0,
        "share": 0.5,
    }


def test_a_step_counts_what_is_trained_three_times_and_what_is_frozen_once(machine: Any) -> None:
    """Convolutions of 3 × 3 on 8 × 12 cells, the first one frozen."""
    model = nn.Sequential(*(nn.Conv2d(a, b, 3, padding=1) for a, b in ((3, 4), (4, 5), (5, 6))))
    frozen, first, second = (a * b * 9 * 8 * 12 * 2 for a, b in ((3, 4), (4, 5), (5, 6)))
    model[0].requires_grad_(False)
    images = torch.rand(2, 3, 8, 12)
    counted = machine.count_training(lambda: model(images).sum().backward())
    # The first that is trained needs no gradient of its input.
    assert counted == frozen + 2 * first + 3 * second


def test_the_product_is_timed_in_its_type(machine: Any) -> None:
    product = machine.MatrixProduct(None)
    found = product()
    assert found.dtype == torch.float32
    assert product.macs == len(found) ** 3 and len(found) >= 512


def test_the_program_s_own_type(machine: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    for wish, dtype in (("always", torch.bfloat16), ("never", None)):
        monkeypatch.setenv("DETNET_BF16", wish)
        assert machine.own_precision() is dtype


def test_the_instructions_name_what_holds_them(
    machine: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    free = machine.instructions()
    assert free.startswith(torch.backends.cpu.get_cpu_capability()) and "bf16" in free
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert machine.instructions() == f"{free}, oneDNN held to AVX2"
