from pathlib import Path

import pytest
import torch

from detnet.engine.precision import _cpu_flags, autocast_to, fast_bf16


@pytest.mark.skipif(not Path("/proc/cpuinfo").is_file(), reason="the system has no /proc/cpuinfo")
@pytest.mark.skipif(not hasattr(torch.cpu, "_is_amx_tile_supported"), reason="torch cannot tell")
def test_cpu_agrees_with_torch() -> None:
    expected = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    assert fast_bf16("cpu") == fast_bf16(torch.device("cpu")) == expected


@pytest.mark.parametrize(
    ("text", "flags"),
    [
        ("model name\t: x\nflags\t\t: fpu amx_bf16\n", {"fpu", "amx_bf16"}),
        ("Features\t: fp asimd bf16\n", {"fp", "asimd", "bf16"}),
        ("processor : 0\n", set()),
    ],
)
def test_flags_of_x86_arm_and_silent_systems(text: str, flags: set[str], tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    file.write_text(text)
    assert _cpu_flags(file) == flags
    assert _cpu_flags(tmp_path / "none") == frozenset()


def test_other_devices_stay_in_fp32() -> None:
    assert not fast_bf16("meta")


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_follows_compute_capability() -> None:
    assert fast_bf16("cuda") == (torch.cuda.get_device_capability()[0] >= 8)


def test_computes_in_what_was_chosen() -> None:
    a = torch.ones(2, 3)
    place = torch.device("cpu")
    with autocast_to(place, torch.bfloat16):
        assert (a @ a.T).dtype is torch.bfloat16
    with autocast_to(place, None):
        assert (a @ a.T).dtype is torch.float32
