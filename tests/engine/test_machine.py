import os
from pathlib import Path

import pytest
import torch

from detnet.engine.machine import (
    autocast_to,
    choose_precision,
    configure_cuda,
    drawing_from,
    fast_bf16,
    precision_name,
)
from detnet.engine.processor import bf16_instructions
from detnet.errors import InputError

CPU = torch.device("cpu")
HELD = os.environ.get("ATEN_CPU_CAPABILITY") == "avx2"


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the system has no /proc/cpuinfo")
@pytest.mark.skipif(not hasattr(torch.cpu, "_is_amx_tile_supported"), reason="torch cannot tell")
def test_cpu_agrees_with_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETNET_BF16", raising=False)
    expected = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert fast_bf16("cpu") == fast_bf16(CPU) == bool(bf16_instructions()) == expected


@pytest.mark.parametrize(("wish", "dtype"), [("always", torch.bfloat16), ("never", None)])
def test_the_setting_overrules_the_processor(
    wish: str, dtype: torch.dtype | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DETNET_BF16", wish)
    assert fast_bf16("cpu") == fast_bf16("cuda") == (dtype is not None)
    assert choose_precision("auto", CPU) == dtype
    assert choose_precision("fp32", CPU) is None  # what is asked for by name is had
    assert choose_precision("bf16", CPU) == torch.bfloat16


def test_the_setting_left_to_itself_or_misspelt(monkeypatch: pytest.MonkeyPatch) -> None:
    for wish in ("", "auto"):
        monkeypatch.setenv("DETNET_BF16", wish)
        assert fast_bf16("cpu") == bool(bf16_instructions())
    monkeypatch.setenv("DETNET_BF16", "no")
    with pytest.raises(InputError, match="must be one of auto, always, never, got .no."):
        fast_bf16("cpu")


@pytest.mark.processor
@pytest.mark.skipif(not HELD, reason="torch is not held to an older processor")
def test_held_to_an_older_processor() -> None:
    """Or the second run of `make test` would try the same processor twice."""
    assert torch.backends.cpu.get_cpu_capability() == "AVX2"
    assert not torch.ops.mkldnn._is_mkldnn_bf16_supported()
    assert not fast_bf16("cpu")


@pytest.mark.parametrize("wish", ["auto", "always"])
def test_other_devices_stay_in_fp32(wish: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DETNET_BF16", wish)
    assert not fast_bf16("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_follows_compute_capability(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DETNET_BF16", raising=False)
    assert fast_bf16("cuda") == (torch.cuda.get_device_capability()[0] >= 8)


def test_computes_in_what_was_chosen() -> None:
    a = torch.ones(2, 3)
    with autocast_to(CPU, torch.bfloat16):
        assert (a @ a.T).dtype is torch.bfloat16
    with autocast_to(CPU, None):
        assert (a @ a.T).dtype is torch.float32


def test_precisions_have_names() -> None:
    for name, dtype in (("fp32", None), ("bf16", torch.bfloat16)):
        assert choose_precision(name, CPU) is dtype and precision_name(dtype) == name
    assert precision_name(torch.float16) == "fp16"
    with pytest.raises(InputError, match="fp16 is for GPUs"):
        choose_precision("fp16", CPU)


def test_a_gpu_without_bf16_is_told_so(monkeypatch: pytest.MonkeyPatch) -> None:
    gpu = torch.device("cuda")
    monkeypatch.setenv("DETNET_BF16", "never")  # as one that is older than Ampere
    with pytest.raises(InputError, match="bf16: this GPU has no .+; choose fp16 or fp32"):
        choose_precision("bf16", gpu)
    assert choose_precision("auto", gpu) is None
    assert choose_precision("fp16", gpu) is torch.float16


def test_drawing_elsewhere_leaves_the_stream() -> None:
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    with drawing_from(2, CPU):
        first = torch.rand(3)
    assert torch.equal(torch.rand(3), expected) and not torch.equal(first, expected)


def test_products_are_settled_on_cuda_alone(rounded_products: None) -> None:
    convolutions, products = torch.backends.cudnn.conv, torch.backends.cuda.matmul
    configure_cuda(CPU, fixed_size=True)
    assert convolutions.fp32_precision == products.fp32_precision == "tf32"
    configure_cuda(torch.device("cuda", 0), fixed_size=True)
    assert convolutions.fp32_precision == products.fp32_precision == "ieee"
    assert torch.backends.cudnn.benchmark
    configure_cuda(torch.device("cuda", 0), tf32=True)
    assert convolutions.fp32_precision == products.fp32_precision == "tf32"
    assert not torch.backends.cudnn.benchmark
