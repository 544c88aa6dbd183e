"""The run folder of a search: what it holds, and whether it is still the same search."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import torch

from detnet.backbones.spaces.shuffle_space import ShuffleSpace
from detnet.backbones.spaces.space import Space, parse_path, read_space
from detnet.engine.machine import accelerator, choose_precision
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.files import read_json, sha256_of, write_json
from detnet.plugins import explaining_plugins
from detnet.search.config import SearchConfig, is_file
from detnet.search.costs.constraints import Constraints, Limits, path_latency
from detnet.search.costs.counting import Costs, SpacePath
from detnet.search.methods.method import Method, make_method
from detnet.search.records import (
    Baselines,
    PlannedNetwork,
    TakenSupernet,
    Validation,
    Winner,
    read_record,
    write_record,
)
from detnet.search.study.storage import quiet, reaching
from detnet.search.study.study import (
    CandidateRecord,
    SearchStudy,
    load_study,
    open_study,
    read_candidates,
)
from detnet.search.supernet import MacBins, PathSampler
from detnet.search.trainings import path_settings
from detnet.training.settings import absolute, with_plugins, write_config

_TABLE = "space.json"  # of the space; a folder with it is a search's
_BINS_CLASSES = 1000  # the release counts the classifier of ImageNet, whatever the data
# Beside space and supernet: what decides the candidates and their scores.
_DECISIVE = (
    *("seed", "width", "guide", "detector", "method", "population", "parents", "mutations"),
    *("crossovers", "mutation_rate", "max_macs", "max_params", "max_latency_ms"),
    *("cost_image_size", "scoring", "recalibration_images", "recalibration_batch"),
    *("cheap_recalibration_images", "cheap_score_images", "cheap_proposals"),
)


@dataclass(frozen=True)
class SearchRun:
    """A search and its folder.

    Args:
        folder: the run's.
        config: with absolute paths.
    """

    folder: Path
    config: SearchConfig

    @classmethod
    def create(cls, folder: Path, config: SearchConfig) -> "SearchRun":
        """Makes the folder of a new search; `config.yaml`, by which it is known, comes last.

        Raises:
            InputError: it holds a run already.
        """
        place = RunFolder.create(folder)
        run = cls(folder, config)
        write_json(run.table, run.space.to_json())
        place.write_environment()
        write_config(config, place.config)
        return run

    @classmethod
    def open(cls, folder: Path) -> "SearchRun":
        """Finds the search in a folder.

        Raises:
            InputError: there is none, or its space has changed since it began.
        """
        config = with_plugins(_read_settings(folder))
        if is_file(config.space) and not Path(str(config.space)).exists():
            # Moved away, or on the machine that the folder was copied from.
            return cls.look(folder)
        run = cls(folder, config)
        if read_json(run.table) != json.loads(json.dumps(run.space.to_json())):
            raise InputError(
                f"{folder}: its search began with another space than the settings name now; "
                f"restore space in {folder / 'config.yaml'}, or begin in a new folder"
            )
        return run

    @classmethod
    def look(cls, folder: Path) -> "SearchRun":
        """Finds the search in a folder to look at it: no plugin is imported.

        The folder's own table is taken, whatever has become of the file that it came from.

        Raises:
            InputError: there is none.
        """
        config = _read_settings(folder)
        if is_file(config.space):
            config = replace(config, space=read_json(folder / _TABLE))
        return cls(folder, config)

    @property
    def name(self) -> str:
        return self.folder.resolve().name

    @property
    def table(self) -> Path:
        """The space's own copy of its table, whatever becomes of the file it came from."""
        return self.folder / _TABLE

    @property
    def supernet_folder(self) -> Path:
        """The run whose supernet the candidates are taken from."""
        return self.folder / ("pretrain" if self.config.by_classes else "finetune")

    @cached_property
    def supernet_hash(self) -> str:
        """By which scores tell whether it is still that supernet."""
        return sha256_of(self.supernet_folder / "model.safetensors")[:16]

    # The space

    @cached_property
    def space(self) -> Space:
        file = self.folder / "config.yaml"
        if not file.exists():  # of a search that is yet to begin, which has imported its plugins
            return read_space(self.config.space)
        with explaining_plugins(self.config.plugins, file):
            return read_space(self.config.space)

    @cached_property
    def costs(self) -> Costs:
        height, width = self.config.cost_image_size
        return Costs(self.space, width=self.config.width, image_size=(height, width))

    @cached_property
    def ends(self) -> tuple[SpacePath, ...]:
        """The networks of least and most multiply-adds; () where finding them takes long."""
        if not isinstance(self.space, ShuffleSpace):
            return ()
        return self.costs.smallest(), self.costs.largest()

    @property
    def objectives(self) -> tuple[str, ...]:
        """What the search makes small beside the score."""
        return tuple(self.config.objectives) if self.config.method == "nsga2" else ()

    def read_path(self, text: str, where: Path) -> SpacePath:
        """A path as a file has it.

        Raises:
            InputError: it does not fit the space.
        """
        try:
            return self.space.check(parse_path(text))
        except InputError as error:
            raise InputError(f"{where}: a path that does not fit the space: {error}") from error

    def plan(self, path: SpacePath, constraints: Constraints, **more: Any) -> PlannedNetwork:
        """A network to be trained standalone: its path, its costs, and what else is said of it."""
        values: dict[str, Any] = {**constraints.costs_of(path), **more}
        return PlannedNetwork(path=self.space.format_path(path), **values)

    # How it searches

    def constraints(
        self,
        device: str | None = None,
        known: Mapping[SpacePath, Mapping[str, float]] | None = None,
    ) -> Constraints:
        """What the search may take; time is measured as networks run on the device.

        Args:
            device: that of the settings by default.
            known: costs that were recorded earlier, see `Constraints`.
        """
        config = self.config
        limits = Limits(config.max_macs, config.max_params, config.max_latency_ms)
        latency = None
        if config.max_latency_ms is not None or "latency_ms" in self.objectives:
            device = config.device if device is None else device
            if device == "auto":
                device = str(accelerator() or "cpu")
            latency = path_latency(
                self.space,
                width=config.width,
                image_size=self.costs.image_size,
                device=device,
                bf16=choose_precision(config.precision, torch.device(device)) is not None,
            )
        return Constraints(self.space, self.costs, limits, latency, known=known)

    def method(self, constraints: Constraints) -> Method:
        """The way of searching that the settings name.

        Raises:
            InputError: sizes that do not fit together.
        """
        names = ("seed", "population", "generations", "parents", "mutations", "crossovers")
        sizes = {name: getattr(self.config, name) for name in (*names, "mutation_rate")}
        objectives = tuple(self.config.objectives)
        return make_method(self.config.method, constraints, **sizes, objectives=objectives)

    def sampler(self, phase: str) -> PathSampler:
        """Draws the paths of a supernet's phase.

        Args:
            phase: "pretrain" or "finetune".

        Raises:
            InputError: the bins lie outside of the space; fairness is not for this space.
        """
        how = path_settings(self.config, phase)
        sampling, single = how[f"{phase}_sampling"], how.get("single_steps", 0)
        if sampling != "bins":
            fair = sampling == "fair"
            return PathSampler(self.space, self.config.seed, single=single, fair=fair)
        if not self.ends:
            raise InputError(f"bins are for DetNAS's spaces; set {phase}_sampling to uniform")
        low, high = self.config.bin_low, self.config.bin_high
        macs = partial(self.costs.total_macs, num_classes=_BINS_CLASSES)
        found = MacBins(low, high, self.config.bin_width, macs)
        ends = [macs(path) for path in self.ends]
        if high <= ends[0] or low >= ends[1]:
            raise InputError(
                f"bins from {low / 1e6:g} M to {high / 1e6:g} M multiply-adds miss the space, "
                f"whose networks have {ends[0] / 1e6:.4g} M to {ends[1] / 1e6:.4g} M with tail and "
                "classifier; set bin_low and bin_high, or pretrain_sampling to uniform"
            )
        return PathSampler(self.space, self.config.seed, found, single=single)

    # What it found

    def open_study(self, storage: str | None = None) -> SearchStudy:
        """Opens the study of its candidates, or makes it.

        Args:
            storage: where it is; by default where the settings say, or in the folder.

        Raises:
            InputError: the storage cannot be reached, or holds another search.
        """
        config = self.config
        return open_study(
            storage or config.storage or str(self.folder / "study.db"),
            objectives=("score", *self.objectives),
            heartbeat_s=config.heartbeat_s,
            identity={
                "space": self.space.to_json(),
                "supernet": self.supernet_hash,
                "objectives": list(self.objectives),
                **{name: getattr(config, name) for name in _DECISIVE},
            },
        )

    def candidates(self, storage: str | None = None) -> list[CandidateRecord]:
        """The candidates as they are now, while others may be writing them.

        Args:
            storage: of the study, as for `open_study`.

        Raises:
            StudyNotBegun: there is no study yet, though one was named.
            InputError: the storage cannot be reached, or the study is of another space.
        """
        where = storage or self.config.storage or str(self.folder / "study.db")
        if not (storage or self.config.storage or Path(where).is_file()):
            return []
        with load_study(where) as study, quiet(), reaching(study.url):
            found = read_candidates(study)
        for one in found:
            try:
                self.space.check(one.path)
            except InputError as error:
                what = f"of another space: generation {one.generation}, slot {one.slot}"
                raise InputError(f"{self.folder}: the study is {what}: {error}") from error
        return found

    def write_winner(self, candidates: Sequence[CandidateRecord]) -> Winner:
        """Names the best candidate, of equal ones the earlier.

        Raises:
            InputError: none was scored.
        """
        scored = [one for one in candidates if one.score is not None]
        if not scored:
            raise InputError(
                f"{self.folder}: no candidate was scored; `detnet search show {self.folder}` "
                "tells why"
            )
        best = max(scored, key=lambda one: one.score or 0.0)  # the first of equals
        winner = Winner(
            path=self.space.format_path(best.path),
            **best.costs,
            score=best.score or 0.0,
            generation=best.generation,
            slot=best.slot,
            generations=self.config.generations,
        )
        write_record(self.folder / "winner.json", winner)
        return winner

    @property
    def winner(self) -> Winner | None:
        """The best candidate; None before the search is over, by the generations asked for now."""
        found, asked = self._read(Winner, "winner.json"), self.config.generations
        return found if ((found and found.generations) or asked) >= asked else None

    @property
    def taken_supernet(self) -> TakenSupernet | None:
        """Where its supernet came from; None where it trains its own."""
        return self._read(TakenSupernet, "supernet.json")

    @property
    def validation(self) -> Validation | None:
        """How well the supernet ranks; None where that was not measured."""
        return self._read(Validation, "validate/validation.json")

    @property
    def baselines(self) -> Baselines | None:
        """The winner beside what it must beat; None where that was not measured."""
        return self._read(Baselines, "baselines/baselines.json")

    def _read(self, kind: Any, name: str) -> Any:
        path = self.folder / name
        return read_record(kind, path) if path.is_file() else None


def is_search(folder: Path) -> bool:
    """Whether a run folder is a search's."""
    return (folder / _TABLE).is_file()


def _read_settings(folder: Path) -> SearchConfig:
    config = RunFolder.open(folder).config
    if not is_search(folder):
        raise InputError(f"{folder}: holds no search (no {_TABLE} in it)")
    return absolute(SearchConfig.read(config))
