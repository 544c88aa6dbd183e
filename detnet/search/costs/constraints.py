"""What candidates cost, and which of them the limits of a search allow."""

import math
import statistics
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass

import torch
from torch import nn

from detnet.backbones.spaces.space import Space
from detnet.errors import InputError
from detnet.search.costs.counting import CostName, Costs, SpacePath, descend

__all__ = ["Costs", "Constraints", "Limits", "latency_ms", "path_latency"]

_NOUNS: dict[CostName, str] = {"macs": "multiply-adds", "params": "parameters"}


@dataclass(frozen=True)
class Limits:
    """The most that a candidate may cost; None allows everything.

    Args:
        macs: multiply-adds of the body.
        params: parameters of the body.
        latency_ms: measured time of the body on the machine that searches.

    Raises:
        InputError: a limit that is not a number above 0.
    """

    macs: float | None = None
    params: float | None = None
    latency_ms: float | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and not value > 0:  # NaN too
                raise InputError(f"a limit on {name} must be above 0, got {value}")


class Constraints:
    """Decides which paths a search may score, and tells what they cost.

    A limit on latency makes the search depend on the machine and its moment: the same seed gives
    the same candidates only as far as the measurements agree. So each path is measured once, and
    what an interrupted search has recorded is taken from `known`.

    Args:
        space: whose paths.
        costs: of the same space.
        limits: the most that is allowed.
        latency: measures a path, milliseconds; see `path_latency`. Where it is given, `costs_of`
            tells it, limit or no.
        known: costs recorded earlier by path, of which "latency_ms" is used.

    Raises:
        InputError: a limit on latency without `latency`.
    """

    def __init__(
        self,
        space: Space,
        costs: Costs,
        limits: Limits | None = None,
        latency: Callable[[SpacePath], float] | None = None,
        *,
        known: Mapping[SpacePath, Mapping[str, float]] | None = None,
    ) -> None:
        self.space, self.costs, self.limits = space, costs, limits or Limits()
        self.latency = latency
        if self.limits.latency_ms is not None and latency is None:
            raise InputError("a limit on latency needs a way to measure it")
        self._measured: dict[SpacePath, float] = {}
        for path, values in (known or {}).items():
            if "latency_ms" in values:
                self._measured[space.check(path)] = values["latency_ms"]

    def allows(self, path: SpacePath) -> bool:
        """Tells whether a path is within all limits; latency is measured last."""
        return self._excess(path) <= 1

    def costs_of(self, path: SpacePath) -> dict[str, float]:
        """Tells "macs" and "params", and "latency_ms" where it can be measured."""
        found: dict[str, float] = {"macs": self.costs.macs(path), "params": self.costs.params(path)}
        if self.latency is not None:
            found["latency_ms"] = self._latency_ms(path)
        return found

    def require_possible(self) -> SpacePath:
        """Finds a path that is allowed, so that a search never starts in vain.

        Exact for multiply-adds and parameters in a shuffle space. In other spaces, and for latency,
        paths are tried as `descend` says.

        Raises:
            InputError: none is; the message names the smallest possible cost.
        """
        macs, params = self.limits.macs, self.limits.params
        if macs is not None:
            self._require("macs", macs)
        if params is not None:
            self._require("params", params)
        path = self.costs.within(macs or math.inf, params or math.inf)
        if path is None:
            raise InputError(
                f"no network of this space has at most {_millions(macs or 0)} multiply-adds and at "
                f"most {_millions(params or 0)} parameters at once, though each is possible by "
                "itself; raise one of the two"
            )
        return self._require_fast(path)

    def _require(self, name: CostName, limit: float) -> None:
        count = self.costs.macs if name == "macs" else self.costs.params
        least = count(self.costs.smallest(name, enough=limit))
        if least > limit:
            raise InputError(
                f"no network of this space has at most {_millions(limit, least)} {_NOUNS[name]}: "
                f"the smallest has {_millions(least, limit)}"
            )

    def _require_fast(self, path: SpacePath) -> SpacePath:
        limit = self.limits.latency_ms
        if limit is None or self.allows(path):
            return path
        starts = [path, self.costs.smallest("macs")]
        path = descend(self.space, self._excess, starts, enough=1.0, sweeps=1)
        if not self.allows(path):
            raise InputError(
                f"no network of this space that takes at most {limit:g} ms was found: the fastest "
                f"of those within the other limits takes {self._latency_ms(path):.4g} ms here"
            )
        return path

    def _excess(self, path: SpacePath) -> float:
        """The largest ratio of a cost to its limit; latency is left out if another is over 1."""
        ratios = [0.0]
        if self.limits.macs is not None:
            ratios.append(self.costs.macs(path) / self.limits.macs)
        if self.limits.params is not None:
            ratios.append(self.costs.params(path) / self.limits.params)
        if self.limits.latency_ms is None:
            return max(ratios)
        if max(ratios) > 1:
            return math.inf
        return self._latency_ms(path) / self.limits.latency_ms

    def _latency_ms(self, path: SpacePath) -> float:
        assert self.latency is not None
        path = self.space.check(path)
        if path not in self._measured:
            self._measured[path] = self.latency(path)
        return self._measured[path]


def _millions(value: float, other: float = 0.0) -> str:
    """Writes a count in millions, with as many digits as set it apart from another."""
    digits = next(n for n in range(4, 18) if n == 17 or f"{value:.{n}g}" != f"{other:.{n}g}")
    return f"{value / 1e6:.{digits}g} M"


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
            if place.type != "cpu":
                torch.accelerator.synchronize(place)
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
) -> Callable[[SpacePath], float]:
    """Makes the function by which `Constraints` measures the body of a path's network.

    Weights are drawn apart from torch's global generator, which stays where it is.
    """

    def measure(path: SpacePath) -> float:
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
