from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel

from detnet.backbones import sync
from detnet.backbones.sync import SyncBatchNorm, share_of_count
from tests.pretended.norms import KERNELS

pytestmark = pytest.mark.processor

Work = Callable[[int], dict[str, Tensor]]

SIZES = (3, 1)  # images in each of the two processes: counts differ


def example() -> tuple[Tensor, Tensor]:
    """A batch of four images whose channel means are large beside their spread, and a gradient."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(4, 5, 6, 9, generator=generator) + 100 * torch.arange(5).reshape(1, 5, 1, 1)
    return x, torch.randn(4, 5, 6, 9, generator=generator)


def fill(norm: nn.Module) -> nn.Module:
    generator = torch.Generator().manual_seed(1)
    assert isinstance(norm.weight, Tensor) and isinstance(norm.bias, Tensor)
    with torch.no_grad():
        norm.weight.copy_(torch.rand(5, generator=generator) + 0.5)
        norm.bias.copy_(torch.randn(5, generator=generator))
    return norm


def outcome(norm: nn.Module, x: Tensor, grad: Tensor) -> dict[str, Tensor]:
    x = x.clone().requires_grad_()
    y = norm(x)
    y.backward(grad.to(y.dtype))
    assert x.grad is not None
    found = {"y": y.detach(), "x_grad": x.grad, **dict(norm.named_buffers())}
    found |= {f"{name}_grad": p.grad for name, p in norm.named_parameters() if p.grad is not None}
    return {name: value.detach().clone() for name, value in found.items()}


def in_two_processes(work: Work, folder: Path) -> list[dict[str, Tensor]]:
    """Runs `work` here as rank 0 and in a second process as rank 1."""
    second = mp.get_context("spawn").Process(target=run_process, args=(1, work, str(folder)))
    second.start()
    try:
        run_process(0, work, str(folder))
        second.join(60)
        assert second.exitcode == 0
    finally:
        second.kill()
    return [torch.load(folder / f"rank{rank}.pt", weights_only=True) for rank in range(2)]


def run_process(rank: int, work: Work, folder: str) -> None:
    store = dist.FileStore(f"{folder}/store", 2)
    patience = timedelta(seconds=120)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2, timeout=patience)
    try:
        torch.save(work(rank), f"{folder}/rank{rank}.pt")
    finally:
        dist.destroy_process_group()


def part(rank: int, tensor: Tensor) -> Tensor:
    return tensor.split(SIZES)[rank]


class ByKernels(SyncBatchNorm):
    """Computes as on a GPU, by what a processor makes of its kernels."""

    forward = SyncBatchNorm._by_kernels


@contextmanager
def with_kernels() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for kernel, ours in KERNELS.items():
            patch.setattr(torch, kernel._qualified_op_name.partition("::")[2], ours)
        yield


def several_cases(rank: int) -> dict[str, Tensor]:
    """All two-process cases in one start of the processes, which takes seconds."""
    x, grad = example()
    norm = fill(SyncBatchNorm(5))
    found = outcome(norm, part(rank, x), part(rank, grad))

    cumulative = fill(SyncBatchNorm(5, momentum=None))
    for scale in (1.0, 2.0):
        cumulative(part(rank, x) * scale)
    found |= {f"cumulative.{name}": value for name, value in cumulative.named_buffers()}

    norm = fill(SyncBatchNorm(5))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = outcome(norm, part(rank, x).bfloat16(), part(rank, grad))
    found |= {f"bf16.{name}": value for name, value in low.items()}

    # Everything in one process, nothing in the other.
    for name, layer, full in (
        ("empty", SyncBatchNorm, 0),
        ("kernels_first", ByKernels, 0),
        ("kernels_last", ByKernels, 1),
    ):
        rows = slice(0, 4) if rank == full else slice(4, 4)
        with with_kernels():
            empty = outcome(fill(layer(5)), x[rows], grad[rows])
        found |= {f"{name}.{key}": value for key, value in empty.items()}

    with with_kernels():
        by_kernels = outcome(fill(ByKernels(5)), part(rank, x), part(rank, grad))
        found |= {f"kernels.{name}": value for name, value in by_kernels.items()}
        rows = slice(0, 4 * rank)  # none in half precision, where the other has some in it
        half = outcome(fill(ByKernels(5)), x.bfloat16()[rows], grad[rows])
        found["kernels_bf16"] = half["running_mean"]

    norm = fill(SyncBatchNorm(5))
    parallel = outcome(DistributedDataParallel(norm), part(rank, x), part(rank, grad))
    found |= {f"ddp.{name.removeprefix('module.')}": value for name, value in parallel.items()}

    last = x.to(memory_format=torch.channels_last)
    assert norm(part(rank, last)).is_contiguous(memory_format=torch.channels_last)

    plain = outcome(nn.BatchNorm2d(5, affine=False).eval(), part(rank, x), part(rank, grad))
    own = outcome(SyncBatchNorm(5, affine=False).eval(), part(rank, x), part(rank, grad))
    assert all(torch.equal(own[name], plain[name]) for name in plain)

    # Sums of a layer and gradients are exchanged apart, on CUDA, too.
    assert sync._own_group() is not dist.group.WORLD
    assert dist.get_process_group_ranks(sync._own_group()) == [0, 1]

    counts = [torch.tensor(pair[rank]) for pair in ((5, 1), (0, 0), (3, 0))]
    found["shares"] = torch.stack([share_of_count(count) for count in counts])
    with torch.no_grad():  # validation, for which they are not in step
        found["own"] = torch.stack([share_of_count(count) for count in counts])
    return found


@pytest.fixture(scope="module")
def two(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Tensor]]:
    return in_two_processes(several_cases, tmp_path_factory.mktemp("gloo"))


def joined(two: list[dict[str, Tensor]], prefix: str = "") -> dict[str, Tensor]:
    """What the two processes found, put together: rows one after another, gradients added up."""
    first, second = (
        {n[len(prefix) :]: v for n, v in rank.items() if n.startswith(prefix)} for rank in two
    )
    found = {name: torch.cat([first[name], second[name]]) for name in ("y", "x_grad")}
    found |= {name: first[name] + second[name] for name in ("weight_grad", "bias_grad")}
    for name in ("running_mean", "running_var", "num_batches_tracked"):
        assert torch.equal(first[name], second[name])
        found[name] = first[name]
    return found


@pytest.mark.parametrize("prefix", ["", "empty.", "kernels.", "kernels_first.", "kernels_last."])
def test_two_processes_equal_batch_norm_over_both_batches(
    two: list[dict[str, Tensor]], prefix: str
) -> None:
    expected = outcome(fill(nn.BatchNorm2d(5)), *example())
    found = joined(two, prefix)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(found[name], value, rtol=1e-4, atol=1e-4, msg=name)


def test_no_values_are_told_as_others_tell_theirs_in_half_precision(
    two: list[dict[str, Tensor]],
) -> None:
    expected = 0.1 * example()[0].bfloat16().float().mean((0, 2, 3))
    for rank in two:
        torch.testing.assert_close(rank["kernels_bf16"], expected, rtol=1e-4, atol=1e-4)


def test_data_parallel_averages_the_shares(two: list[dict[str, Tensor]]) -> None:
    expected = outcome(fill(nn.BatchNorm2d(5)), *example())
    for rank in two:
        for name in ("weight_grad", "bias_grad"):
            torch.testing.assert_close(
                2 * rank[f"ddp.{name}"], expected[name], rtol=1e-4, atol=1e-4
            )


def test_cumulative_running_statistics_equal_batch_norm(two: list[dict[str, Tensor]]) -> None:
    norm = fill(nn.BatchNorm2d(5, momentum=None))
    for scale in (1.0, 2.0):
        norm(example()[0] * scale)
    for name, value in norm.named_buffers():
        torch.testing.assert_close(two[0][f"cumulative.{name}"], value, rtol=1e-5, atol=1e-5)


def test_statistics_are_fp32_under_bf16_autocast(two: list[dict[str, Tensor]]) -> None:
    x, grad = example()
    rounded = x.bfloat16()
    found = joined(two, "bf16.")
    assert found["y"].dtype == found["x_grad"].dtype == torch.bfloat16
    expected = outcome(fill(nn.BatchNorm2d(5)), rounded.float(), grad.bfloat16().float())
    for name in ("running_mean", "running_var"):
        assert found[name].dtype == torch.float32
        torch.testing.assert_close(found[name], expected[name], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found["y"].float(), expected["y"], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(found["x_grad"].float(), expected["x_grad"], rtol=2e-2, atol=2e-2)


@pytest.mark.parametrize("initialised", [False, True])
def test_a_single_process_is_plain_batch_norm(initialised: bool, tmp_path: Path) -> None:
    expected = outcome(fill(nn.BatchNorm2d(5)), *example())
    if initialised:
        store = dist.FileStore(str(tmp_path / "store"), 1)
        dist.init_process_group("gloo", store=store, rank=0, world_size=1)
    try:
        found = outcome(fill(SyncBatchNorm(5)), *example())
    finally:
        if initialised:
            dist.destroy_process_group()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], value) for name, value in expected.items())


def test_losses_go_by_what_all_have_counted(two: list[dict[str, Tensor]]) -> None:
    assert [rank["shares"].tolist() for rank in two] == [[3.0, 0.5, 1.5]] * 2
    assert [rank["own"].tolist() for rank in two] == [[5.0, 1.0, 3.0], [1.0, 1.0, 1.0]]
    assert share_of_count(torch.tensor(7)) == 7 and share_of_count(torch.tensor(0)) == 1


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor")  # torch's own, compiling
def test_compilers_leave_a_gpus_norm_as_it_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of two processes the other one is made up: it has the same images as this one."""

    class OnGpu(SyncBatchNorm):
        def forward(self, input: Tensor) -> Tensor:
            traced.append(torch.compiler.is_compiling())
            return self._by_kernels(input)

    def gather(table: Tensor, mine: Tensor, group: object) -> None:
        assert not torch.compiler.is_compiling()
        table.copy_(mine.repeat(2))

    traced: list[bool] = []
    monkeypatch.setattr(SyncBatchNorm, "_by_kernels", SyncBatchNorm._by_kernels)  # put back
    monkeypatch.setattr(sync, "_own_group", lambda: None)
    monkeypatch.setattr(dist, "get_world_size", lambda: 2)
    monkeypatch.setattr(dist, "all_gather_into_tensor", gather)
    monkeypatch.setattr(dist, "all_reduce", lambda sums, group: sums.mul_(2))
    x, grad = example()
    expected = outcome(nn.Sequential(nn.ReLU(), nn.BatchNorm2d(5), nn.ReLU()), x, grad)
    network = nn.Sequential(nn.ReLU(), OnGpu(5), nn.ReLU())
    sync.ready_for_compilers()
    network.compile(backend="eager")
    with with_kernels():
        found = outcome(network, x, grad)
    assert traced and traced[0]  # what is around it was compiled
    for name in ("y", "x_grad", "1.weight_grad", "1.running_mean"):
        torch.testing.assert_close(found[name], expected[name], rtol=1e-4, atol=1e-4, msg=name)
