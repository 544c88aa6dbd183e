"""What a search's run folder says to those who train some of its networks alone."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import torch

from detnet.backbones.spaces.space import Space, parse_path
from detnet.errors import InputError
from detnet.search.config import SearchConfig
from detnet.search.costs.constraints import Constraints, Costs
from detnet.search.run import SearchRun, open_config
from detnet.search.standalone.training import Alone
from detnet.search.trainings import retrain_config, retrain_pretrain_config
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.settings import combine, typed

# What may differ between two trainings of the same budget.
_PLACES = {"data", "weights", "backbone_options", "seed", "device", "workers"}
_PLACES |= {"train_annotations", "train_images", "val_annotations", "val_images"}
_HABITS = {"log_every", "checkpoint_every", "evaluate_every", "tensorboard", "val_loss"}


@dataclass(frozen=True)
class Search:
    """A search's run folder.

    Args:
        folder: of the run.
        constraints: what the search may take.
    """

    folder: Path
    config: SearchConfig
    space: Space
    costs: Costs
    constraints: Constraints

    def read_path(self, value: Any, where: Path) -> tuple[int, ...]:
        """A path as a file has it, digits or numbers.

        Raises:
            InputError: it does not fit the space.
        """
        try:
            return self.space.check(parse_path(value) if isinstance(value, str) else value)
        except (InputError, TypeError) as error:
            raise InputError(f"{where}: a path that does not fit the space: {error}") from error

    def about(self, path: tuple[int, ...]) -> dict[str, Any]:
        """A path as it is written, and what the network costs."""
        costs: dict[str, Any] = self.constraints.costs_of(path)
        return {"path": self.space.format_path(path), **costs}

    def alone(
        self,
        name: str,
        path: tuple[int, ...],
        seed: int,
        *,
        folder: Path,
        result: Path,
        pretrain_folder: Path | None = None,
        pretrain_seed: int | None = None,
        changes: Mapping[str, Mapping[str, Any]] | None = None,
    ) -> Alone:
        """Puts together how a network is trained alone.

        Args:
            seed: of its trainings.
            folder: of its trainings.
            result: file for what it reaches.
            pretrain_folder: of its pre-training, if that is shared; in `folder` by default.
            pretrain_seed: of its pre-training, if that is another.
            changes: of settings, by "pretrain" and "train".
        """
        place = pretrain_folder or folder / "pretrain"
        first = seed if pretrain_seed is None else pretrain_seed

        def settings() -> tuple[PretrainConfig | None, TrainConfig]:
            """Made when they are needed: a plan may be long."""
            of_pretraining, of_training = ((changes or {}).get(k) for k in ("pretrain", "train"))
            before: PretrainConfig | None = None
            if not self.config.from_scratch:
                before = retrain_pretrain_config(self.config, self.folder, path)
                before = replace(_changed(before, of_pretraining), seed=first)
            train = retrain_config(self.config, self.folder, path, place if before else None)
            return before, replace(_changed(train, of_training), seed=seed)

        about = {"name": name, **self.about(path), "seed": seed}
        return Alone(f"{name}, seed {seed}", folder, place, result, about, settings)


def open_search(run: Path) -> Search:
    """Reads a search's run folder.

    Raises:
        InputError: it is none, or cannot be used.
    """
    config = open_config(run)
    ground = SearchRun(config, run, lambda event: None)
    device = config.device
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Search(run, config, ground.space, ground.costs, ground.constraints(device))


def _changed(config: Any, changes: Mapping[str, Any] | None) -> Any:
    """Settings of a run with some of them changed."""
    if not changes:
        return config
    values = {entry.name: getattr(config, entry.name) for entry in fields(config)}
    return typed(type(config), combine(values, changes), where="validate")


def budget_of(network: Alone) -> dict[str, Any]:
    """The settings that decide what a training takes and reaches, for two to be compared by."""
    return {
        kind: {
            name: value for name, value in asdict(config).items() if name not in _PLACES | _HABITS
        }
        for kind, config in zip(("pretrain", "train"), network.settings(), strict=True)
        if config is not None
    }


def require_same_budget(plan: Mapping[str, Any], budget: Mapping[str, Any], where: Path) -> None:
    """Refuses to go on with other settings than the trainings before had.

    Raises:
        InputError: naming the first that differs.
    """
    before = plan.get("budget") or {}
    for kind in sorted({*before, *budget}):
        old, new = before.get(kind) or {}, budget.get(kind) or {}
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise InputError(
                    f"{where}: planned with {kind} {name} {old.get(name)}, the settings now say "
                    f"{new.get(name)}; restore them, or delete {where.parent} to begin anew"
                )
