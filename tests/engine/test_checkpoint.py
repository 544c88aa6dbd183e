import os
import random
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from detnet.engine.checkpoint import load, restore_rng_state, rng_state, save
from detnet.errors import InputError
from tests.limits import disk_of


def state_of(kilobytes: int, value: float = 1.0) -> dict[str, Any]:
    weights = [torch.full((256,), value) for _ in range(kilobytes)]
    return {"iteration": 7, "model": dict(enumerate(weights)), "best": None, "names": ["a"]}


def test_what_is_saved_comes_back(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt", state_of(2))
    state = load(tmp_path / "last.ckpt")
    assert (state["iteration"], state["best"], state["names"]) == (7, None, ["a"])
    assert torch.equal(state["model"][1], torch.ones(256))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


@pytest.mark.parametrize("size", [0, 50_000, 250_000])
def test_a_failed_write_keeps_the_old_checkpoint(size: int, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save(path, state_of(1, value=1.0))
    with disk_of(size), pytest.raises(InputError, match="File too large; the checkpoint"):
        save(path, state_of(300, value=2.0))
    assert torch.equal(load(path)["model"][0], torch.ones(256))
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]


def test_a_full_disk_keeps_the_old_checkpoint(tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("this user may not mount a small disk")
    try:
        save(disk / "last.ckpt", state_of(20, value=1.0))
        with pytest.raises(InputError, match="No space left on device; the checkpoint before") as e:
            save(disk / "last.ckpt", state_of(300, value=2.0))
        assert "\n" not in str(e.value) and str(disk) in str(e.value)
        assert torch.equal(load(disk / "last.ckpt")["model"][0], torch.ones(256))
        assert [file.name for file in disk.iterdir()] == ["last.ckpt"]
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_failed_first_save_says_that_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file or directory; there is none before it"):
        save(tmp_path / "missing" / "last.ckpt", state_of(1))


def test_a_state_that_cannot_be_saved_leaves_nothing_behind(tmp_path: Path) -> None:
    save(tmp_path / "last.ckpt", state_of(1))
    with pytest.raises(Exception, match="pickle|local"):
        save(tmp_path / "last.ckpt", {"function": lambda: 0})
    assert [file.name for file in tmp_path.iterdir()] == ["last.ckpt"]
    assert load(tmp_path / "last.ckpt")["iteration"] == 7


@pytest.mark.parametrize("keep", [0.0, 0.1, 0.5, 0.99])
def test_a_cut_checkpoint_is_one_line(keep: float, tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save(path, state_of(20))
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * keep)])
    with pytest.raises(InputError, match=r"last\.ckpt: .*(cut|damaged)") as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_a_missing_checkpoint_and_other_files_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such checkpoint"):
        load(tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="damaged"):
        load(tmp_path)
    (tmp_path / "text").write_text("not a checkpoint\n" * 100)
    with pytest.raises(InputError, match="not a checkpoint"):
        load(tmp_path / "text")
    torch.save([1, 2], tmp_path / "list")
    with pytest.raises(InputError, match="a list, not a dict"):
        load(tmp_path / "list")


class Trap:
    def __init__(self, target: Path) -> None:
        self.target = str(target)

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (self.target,)


def test_a_checkpoint_cannot_run_code(tmp_path: Path) -> None:
    torch.save({"model": Trap(tmp_path / "ran")}, tmp_path / "last.ckpt")
    with pytest.raises(InputError, match="could run code"):
        load(tmp_path / "last.ckpt")
    assert not (tmp_path / "ran").exists()


def draw() -> list[float]:
    """From every generator; normal numbers come in pairs, so a state may hold one in reserve."""
    return [
        torch.rand(()).item(),
        torch.randn(()).item(),
        float(np.random.rand()),
        float(np.random.randn()),
        random.random(),
        random.gauss(0, 1),
    ]


def test_generators_go_on_where_they_were(tmp_path: Path) -> None:
    torch.manual_seed(3)
    np.random.seed(4)
    random.seed(5)
    draw()
    save(tmp_path / "rng.ckpt", rng_state())
    expected = [draw() for _ in range(3)]
    restore_rng_state(load(tmp_path / "rng.ckpt"))
    assert [draw() for _ in range(3)] == expected


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_cuda_generator_goes_on_where_it_was() -> None:
    torch.cuda.manual_seed(3)
    torch.rand(5, device="cuda")
    state = rng_state()
    expected = torch.rand(5, device="cuda")
    restore_rng_state(state)
    assert torch.equal(torch.rand(5, device="cuda"), expected)


def test_a_single_changed_byte_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save(path, state_of(4))
    content = bytearray(path.read_bytes())
    content[content.find(torch.ones(1).numpy().tobytes() * 9) + 30] ^= 1  # among the weights
    path.write_bytes(content)
    torch.load(path, weights_only=True)  # which torch itself passes over
    with pytest.raises(InputError, match=r"damaged: archive/data/\d was changed"):
        load(path)
