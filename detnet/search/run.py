"""The run folder of a search: what it holds, and whether it is still the same search."""

import json
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.backbones.spaces.space import Space, read_space
from detnet.engine.precision import choose_precision
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.plugins import load_plugins
from detnet.search.config import SearchConfig, absolute, read_config, write_config
from detnet.search.costs.constraints import Constraints, Costs, Limits, path_latency
from detnet.search.standalone.sharing import read_json, write_json
from detnet.search.supernet import MacBins, PathSampler
from detnet.training.run_state import Watch

_BINS_CLASSES = 1000  # the release counts the classifier of ImageNet, whatever the data


@dataclass(frozen=True)
class SearchRun:
    """A search and its folder.

    Args:
        config: with absolute paths.
        folder: the run's.
        watch: told of everything.
    """

    config: SearchConfig
    folder: Path
    watch: Watch

    @cached_property
    def space(self) -> Space:
        return read_space(self.config.space)

    @cached_property
    def costs(self) -> Costs:
        height, width = self.config.cost_image_size
        return Costs(self.space, width=self.config.width, image_size=(height, width))

    @cached_property
    def ends(self) -> tuple[tuple[int, ...], ...]:
        """The networks of least and most multiply-adds; () where finding them takes long."""
        if not isinstance(self.space, ShuffleSpace):
            return ()
        return self.costs.smallest(), self.costs.largest()

    def constraints(self, device: str = "cpu", known: Any = None) -> Constraints:
        """What the search may take; time is measured on `device` as networks run there.

        Args:
            known: costs that were recorded earlier, see `Constraints`.
        """
        import torch

        config = self.config
        limits = Limits(config.max_macs, config.max_params, config.max_latency_ms)
        latency = None
        if config.max_latency_ms is not None or "latency_ms" in objectives(config):
            dtype = choose_precision(config.precision, torch.device(device))
            latency = path_latency(
                self.space,
                width=config.width,
                image_size=self.costs.image_size,
                device=device,
                bf16=dtype is not None,
            )
        return Constraints(self.space, self.costs, limits, latency, known=known)

    def sampler(self, *, bins: bool, first: bool = False) -> PathSampler:
        """Draws the paths of a supernet's training.

        Args:
            bins: by ranges of cost.
            first: whether the supernet's weights are still those drawn at random.

        Raises:
            InputError: the bins lie outside of the space.
        """
        single = self.config.single_steps if first else 0
        if not bins:
            return PathSampler(self.space, self.config.seed, single=single)
        low, high = self.config.bin_low, self.config.bin_high
        found = MacBins(low, high, self.config.bin_width, self._total_macs)
        ends = [self._total_macs(path) for path in self.ends]
        if ends and (high <= ends[0] or low >= ends[1]):
            raise InputError(
                f"bins from {low / 1e6:g} M to {high / 1e6:g} M multiply-adds miss the space, "
                f"whose networks have {ends[0] / 1e6:.4g} M to {ends[1] / 1e6:.4g} M with tail and "
                "classifier; set bin_low and bin_high, or pretrain_sampling to uniform"
            )
        return PathSampler(self.space, self.config.seed, found, single=single)

    def _total_macs(self, path: tuple[int, ...]) -> int:
        return self.costs.total_macs(path, num_classes=_BINS_CLASSES)


def objectives(config: SearchConfig) -> tuple[str, ...]:
    """What a search makes small beside the score."""
    return tuple(config.objectives) if config.method == "nsga2" else ()


def begin(config: SearchConfig, folder: Path) -> None:
    """Makes the folder of a new search; `config.yaml`, by which it is known, comes last.

    Raises:
        InputError: it holds a run already.
    """
    run = RunFolder.create(folder)
    write_json(folder / "space.json", read_space(config.space).to_json())
    run.write_environment()
    write_config(config, run.config)


def open_config(folder: Path) -> SearchConfig:
    """Reads the settings of the search in a folder.

    Raises:
        InputError: there is none, or its space has changed since it began.
    """
    config = absolute(read_config(RunFolder.open(folder).config))
    load_plugins(config.plugins)
    copy = folder / "space.json"
    if copy.is_file():
        began = read_json(copy)
        if json.loads(json.dumps(read_space(config.space).to_json())) != began:
            raise InputError(
                f"{folder}: its search began with another space than the settings name now; "
                f"restore space in {folder / 'config.yaml'}, or begin in a new folder"
            )
    return config
