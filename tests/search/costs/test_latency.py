import time

import pytest
import torch
from torch import nn

from detnet.search.costs.latency import latency_ms, path_latency
from tests.search.spaces import TINY


class Recorder(nn.Module):
    """Notes what it is run with."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3)
        self.runs: list[tuple[object, ...]] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        layout = images.is_contiguous(memory_format=torch.channels_last)
        made = self.conv(images)
        shape = tuple(images.shape)
        self.runs.append((shape, layout, made.dtype, self.training, torch.get_num_threads()))
        return made


def test_how_a_network_is_run() -> None:
    network, threads = Recorder().train(), torch.get_num_threads()
    assert latency_ms(network, image_size=(40, 56), repeats=5, threads=1, bf16=True) > 0
    assert len(network.runs) == 3 + 5
    assert set(network.runs) == {((1, 3, 40, 56), True, torch.bfloat16, False, 1)}
    assert network.training
    assert torch.get_num_threads() == threads
    network.runs.clear()
    latency_ms(network, repeats=1, channels_last=False)
    assert set(network.runs) == {((1, 3, 224, 224), False, torch.float32, False, threads)}


class Hesitant(nn.Module):
    """Its first three passes take long, as where memory and kernels are chosen."""

    def __init__(self) -> None:
        super().__init__()
        self.passes = 0

    def forward(self, images: torch.Tensor) -> None:
        self.passes += 1
        time.sleep(0.3 if self.passes <= 3 else 0.005)


def test_the_first_passes_are_not_counted_and_the_unit_is_the_millisecond() -> None:
    assert 4.5 < latency_ms(Hesitant(), image_size=(8, 12), repeats=2) < 150


def test_more_work_takes_longer() -> None:
    measure = path_latency(TINY, image_size=(64, 96), repeats=5, threads=1)
    larger = path_latency(TINY, width=4, image_size=(320, 480), repeats=5, threads=1)
    assert measure((0, 0, 0)) < larger((0, 0, 0))


def test_the_global_generator_stays_where_it_is() -> None:
    torch.manual_seed(3)
    before = torch.get_rng_state()
    path_latency(TINY, image_size=(64, 96), repeats=1, bf16=True)((3, 2, 1))
    assert torch.equal(torch.get_rng_state(), before)


def test_no_other_device_s_generator_is_seeded(monkeypatch: pytest.MonkeyPatch) -> None:
    seeded: list[int] = []
    monkeypatch.setattr(torch.cuda, "manual_seed_all", seeded.append)
    path_latency(TINY, image_size=(64, 96), repeats=1)((0, 0, 0))
    assert not seeded
