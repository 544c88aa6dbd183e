import platform
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import nn

from detnet.engine.processor import _cpu_flags, keep_freed_memory, widen_single_columns


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


FAULTS = """
import resource, torch
from detnet.engine.processor import keep_freed_memory
if {keep}:
    assert keep_freed_memory()
for _ in range(15):
    torch.ones(12_000_000).sum()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    torch.ones(12_000_000).sum()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="the C library is not glibc")
def test_freed_buffers_are_used_again() -> None:
    """Page faults are what it saves: 48 MB are 12,000 pages, each time, or some large ones."""

    def faults(keep: bool) -> int:
        code = FAULTS.format(keep=keep)
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
        assert found.returncode == 0, found.stderr
        return int(found.stdout)

    assert faults(True) < faults(False) / 10


def test_another_c_library_is_left_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))  # as with musl, and off Linux
    assert not keep_freed_memory()


@pytest.mark.processor
@pytest.mark.parametrize("size", [(1, 1), (4, 1), (3, 2)])
def test_taps_that_see_padding_alone_learn_nothing(size: tuple[int, int]) -> None:
    """In whatever lay in memory before: sevens, here."""
    torch.manual_seed(0)
    layer = nn.Conv2d(32, 32, 3, 2, 1).to(torch.bfloat16, memory_format=torch.channels_last)
    images = torch.randn(2, 32, *size, dtype=torch.bfloat16)
    plain = layer(images)
    widen_single_columns(nn.Sequential(layer))
    for _ in range(5):
        [torch.full((32 * 32 * 9 * kind,), 7.0) for kind in (1, 2) * 30].clear()
        found = layer(images)
        assert torch.equal(found, plain)
        (gradient,) = torch.autograd.grad(found.float().sum(), layer.weight)
        (exact,) = torch.autograd.grad(
            nn.functional.conv2d(images.float(), layer.weight.float(), stride=2, padding=1).sum(),
            layer.weight,
        )
        torch.testing.assert_close(gradient, exact, rtol=0.02, atol=0.02)
    layer.eval()
    assert torch.equal(layer(images), plain)
