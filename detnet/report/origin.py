"""Which of the paper's numbers a run's preset was made for, and how the run departs from it."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from detnet.report.score_tables import PaperRow
from detnet.training.detection.config import TrainConfig, presets
from detnet.training.published import FROM_SCRATCH, PUBLISHED, Published
from detnet.training.settings import read_source

# What a run is free to choose without leaving the recipe.
_FREE = {
    "train_split",
    "val_split",
    "backbone",  # has numbers of its own
    "weights",
    "precision",
    "workers",
    "device",
    "seed",
    "log_every",
    "checkpoint_every",
    "evaluate_every",
    "val_loss",
    "best_metric",
    "tensorboard",
}


def paper_rows(config: TrainConfig) -> list[PaperRow]:
    """The paper's models that the run may be held against: those of its detector and backbone,
    where it was begun from a preset that follows the paper.
    """
    published = _of_recipe(config.preset, (config.detector, config.backbone))
    if not published:
        return []
    recipe = _words(config, read_source(config.preset, presets()))
    return [PaperRow(one, recipe) for one in published]


def _of_recipe(preset: str, place: tuple[str, str]) -> tuple[Published, ...]:
    """What the paper reports of a detector and backbone trained as the preset does it."""
    if preset.endswith("_scratch"):
        return (FROM_SCRATCH[place],) if place in FROM_SCRATCH else ()
    return PUBLISHED.get(place, ()) if "_2x" in preset else ()


def _words(config: TrainConfig, preset: Mapping[str, Any]) -> str:
    backbone = f" with {config.backbone}" if config.backbone != preset["backbone"] else ""
    parts = [f"This run: preset {config.preset}{backbone}"]
    changes = {name: new for name, new in config.departures.items() if name not in _FREE}
    if changes:
        told = [f"{name} {_beside(preset, name, new)}" for name, new in changes.items()]
        parts.append(f"changed: {', '.join(told)}")
    parts.append("begun from weights" if config.weights else "begun without trained weights")
    data = config.data or config.val_annotations or ""
    parts.append(f"measured on {Path(data).name} {config.val_split}")
    return "; ".join(parts) + "."


def _beside(preset: Mapping[str, Any], name: str, new: Any) -> str:
    """A run's value and what stands in its place in the preset, or by default."""
    old = preset.get(name, getattr(TrainConfig(), name))
    if isinstance(new, Mapping):
        old = {key: value for key, value in (old or {}).items() if key in new}
    return f"{new} instead of {old}"
