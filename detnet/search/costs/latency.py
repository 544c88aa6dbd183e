"""How long a network takes on this machine."""

import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import nn

from detnet.backbones.spaces.space import Space
from detnet.search.costs.extremes import Path

_WARM_UP = 3  # passes that are not counted: memory and kernels are chosen in them


def latency_ms(
    network: nn.Module,
    *,
    image_size: tuple[int, int] = (224, 224),
    repeats: int = 20,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    channels_last: bool = True,
    bf16: bool = False,
) -> float:
    """Measures the median time of one image's forward pass in eval mode, milliseconds.

    The network is moved to the device and memory format, and left there, in the mode that it had.

    Args:
        network: takes (1, 3, H, W).
        image_size: height and width, pixels.
        repeats: passes that are counted, after a few to warm up.
        device: where to run.
        threads: of torch on the CPU during the measurement; as many as now if None.
        channels_last: the memory format in which CPUs and bf16 are fastest.
        bf16: whether to run under autocast to bfloat16.
    """
    place = torch.device(device)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    training = network.training
    network.to(device=place, memory_format=layout).eval()  # type: ignore[call-overload]
    images = torch.rand(1, 3, *image_size, generator=torch.Generator().manual_seed(0))
    images = images.to(device=place, memory_format=layout)
    times = []
    with (
        _threads(threads),
        torch.inference_mode(),
        torch.autocast(place.type, dtype=torch.bfloat16, enabled=bf16),
    ):
        for number in range(_WARM_UP + repeats):
            started = time.perf_counter()
            network(images)
            if place.type == "cuda":
                torch.cuda.synchronize(place)
            if number >= _WARM_UP:
                times.append(time.perf_counter() - started)
    network.train(training)
    return 1000 * statistics.median(times)


def path_latency(
    space: Space,
    *,
    width: float = 1.0,
    image_size: tuple[int, int] = (224, 224),
    repeats: int = 20,
    device: torch.device | str = "cpu",
    threads: int | None = None,
    bf16: bool = False,
) -> Callable[[Path], float]:
    """Makes the function by which `Legality` measures the body of a path's network.

    Weights are drawn apart from torch's global generator, which stays where it is.
    """

    def measure(path: Path) -> float:
        with torch.random.fork_rng(devices=[]):
            torch.default_generator.manual_seed(0)  # torch.manual_seed would seed CUDA's, too
            network = space.network(path, width=width)
        return latency_ms(
            network,
            image_size=image_size,
            repeats=repeats,
            device=device,
            threads=threads,
            bf16=bf16,
        )

    return measure


@contextmanager
def _threads(count: int | None) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(count or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
