import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from detnet.engine import distributed
from detnet.errors import InputError
from tests.engine.toy import Run, batches

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def ranks(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What both processes of one torchrun found, by rank."""
    folder = tmp_path_factory.mktemp("torchrun")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    command += ["--nproc-per-node", "2", "-m", "tests.engine.two_processes", str(folder)]
    done = subprocess.run(
        command,
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def test_processes_know_their_place_and_talk(ranks: list[dict[str, Any]]) -> None:
    for rank, found in enumerate(ranks):
        assert found["talk"] == {
            "process": [rank, 2, "cpu"],
            "main": rank == 0,
            "gathered": [{"rank": 0}, {"rank": 1}],
            "to_main": [] if rank else [(1, 0), (1, 1), (1, 2)],
            "same": "from 0",
            "any": [True, False],
        }


@pytest.mark.parametrize(("name", "accumulate"), [("train", 1), ("accumulate", 2)])
def test_two_processes_train_as_one(
    name: str, accumulate: int, ranks: list[dict[str, Any]]
) -> None:
    run = Run(norm=False)
    expected = list(run.steps(3, batches(size=4), accumulate=accumulate))
    for found in (rank[name] for rank in ranks):
        assert found["exchanges"] == 3  # once a step, however many batches
        for (losses, images, grad_norm), step in zip(found["steps"], expected, strict=True):
            assert losses == pytest.approx(step.losses, rel=1e-5)
            assert images == step.images == 4 * accumulate
            assert grad_norm == pytest.approx(step.grad_norm, rel=1e-4)
        for key, value in run.bits().items():
            torch.testing.assert_close(found["bits"][key], value, rtol=1e-5, atol=1e-6)
    one, other = (rank[name]["bits"] for rank in ranks)
    assert all(torch.equal(value, other[key]) for key, value in one.items())


def test_a_bad_batch_of_one_process_stops_both(ranks: list[dict[str, Any]]) -> None:
    for found in (rank["fail"] for rank in ranks):
        assert found["iteration"] == 2
        assert found["images"] == [1100, 1101]
        assert "loss_classifier is inf" in found["message"]
    assert torch.equal(ranks[0]["fail"]["weight"], ranks[1]["fail"]["weight"])


def test_a_signal_to_one_process_stops_both_after_the_same_step(
    ranks: list[dict[str, Any]],
) -> None:
    assert [rank["stop"] for rank in ranks] == [{"stopped": 3, "set": True}] * 2


def test_two_processes_resume_bit_for_bit(ranks: list[dict[str, Any]]) -> None:
    assert [rank["resume"] for rank in ranks] == [{"different": []}] * 2


def test_they_meet_as_often_as_they_like(ranks: list[dict[str, Any]]) -> None:
    """Each time under keys of their own, and in between each has nobody to talk to."""
    for found in ranks:
        assert found["again"] == {"met": [[0, 1]] * 4, "apart": [(0, 1, ["me"])] * 4}


def test_a_word_of_one_is_heard_by_all(ranks: list[dict[str, Any]]) -> None:
    assert [rank["call"] for rank in ranks] == [[False, True, False]] * 2


def test_a_single_process_has_nobody_to_talk_to(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("RANK", raising=False)
    process = distributed.setup("cpu")
    assert process == distributed.Process(0, 1, torch.device("cpu"))
    assert process.main
    assert distributed.all_gather(3) == [3]
    assert distributed.same_on_all("a") == "a"
    assert distributed.to_main([1, 2]) == [1, 2]
    assert distributed.any_process(True) and not distributed.any_process(False)
    distributed.barrier()
    word = distributed.Word("stop")
    word.say()
    assert not word.said()
    distributed.cleanup()


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_where_there_is_none_is_refused() -> None:
    with pytest.raises(InputError, match="device cuda: .*use device cpu"):
        distributed.setup("cuda")
    assert distributed.setup().device == torch.device("cpu")


def test_who_fails_does_not_wait_for_the_others_farewell(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """NCCL's is for all at once, and the others wait for this one in an exchange."""
    store = dist.FileStore(str(tmp_path / "store"), 1)
    dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    with monkeypatch.context() as patch:
        patch.setattr(dist, "get_backend_config", lambda: "cpu:gloo,cuda:nccl")
        distributed.cleanup("an image cannot be read")
        assert dist.is_initialized()
        distributed.cleanup()
        assert not dist.is_initialized()
    dist.init_process_group("gloo", store=dist.PrefixStore("a", store), rank=0, world_size=1)
    distributed.cleanup("an image cannot be read")
    assert not dist.is_initialized()


def test_fp32_is_fp32_on_a_gpu(rounded_products: None, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch rounds its convolutions' factors to 10 bits by itself."""
    monkeypatch.setattr(distributed, "accelerator", lambda: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    chosen: list[torch.device] = []
    monkeypatch.setattr(torch.cuda, "set_device", chosen.append)
    process = distributed.single_process("cuda")
    assert chosen == [process.device] == [torch.device("cuda", 0)]
    assert torch.backends.cudnn.conv.fp32_precision == "ieee"
