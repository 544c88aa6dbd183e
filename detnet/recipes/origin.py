"""Which of the paper's numbers a run's settings were made for, and how it departs from them."""

from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from detnet.errors import InputError
from detnet.recipes.config import TrainConfig, make_config, presets
from detnet.report.published import FROM_SCRATCH, PUBLISHED, Published
from detnet.report.score_tables import Comparison

# What a run is free to choose without leaving the recipe.
_FREE = {
    "data",
    "train_annotations",
    "train_images",
    "val_annotations",
    "val_images",
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


def comparisons(config: TrainConfig, command: Sequence[str] = ()) -> list[Comparison]:
    """The paper's models that the run may be held against.

    They are those of the run's detector and backbone, where its settings came from a preset that
    follows the paper: the command says so, or nothing of the preset was changed.

    Args:
        config: of the run.
        command: that began it, from environment.json.
    """
    named, place = _names(command), (config.detector, config.backbone)
    for name in sorted(presets(), key=lambda name: name != named):  # the one named goes first
        published = _of_recipe(name, place)
        if not published:
            continue
        try:
            preset = make_config(name, {})
        except InputError:
            continue  # of another kind of run
        changes = _changes(preset, config)
        if name == named or not changes:
            recipe = _words(name, changes, config, preset)
            return [Comparison(one, recipe) for one in published]
    return []


def _of_recipe(name: str, place: tuple[str, str]) -> tuple[Published, ...]:
    """What the paper reports of a detector and backbone trained as the preset does it."""
    if name.endswith("_scratch"):
        return (FROM_SCRATCH[place],) if place in FROM_SCRATCH else ()
    return PUBLISHED.get(place, ()) if "_2x" in name else ()


def _changes(preset: TrainConfig, config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Setting -> (the preset's, the run's) where they differ."""
    pairs = {
        entry.name: (getattr(preset, entry.name), getattr(config, entry.name))
        for entry in fields(TrainConfig)
        if entry.name not in _FREE
    }
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _names(command: Sequence[str]) -> str | None:
    """What --config was given."""
    for word, after in zip(command, [*command[1:], ""], strict=True):
        if word == "--config":
            return after
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None


def _words(
    name: str, changes: Mapping[str, tuple[Any, Any]], config: TrainConfig, preset: TrainConfig
) -> str:
    backbone = f" with {config.backbone}" if config.backbone != preset.backbone else ""
    parts = [f"This run: preset {name}{backbone}"]
    if changes:
        parts.append(
            "changed: "
            + ", ".join(f"{key} {run} instead of {own}" for key, (own, run) in changes.items())
        )
    parts.append("begun from weights" if config.weights else "begun without trained weights")
    data = config.data or config.val_annotations or ""
    parts.append(f"measured on {Path(data).name} {config.val_split}")
    return "; ".join(parts) + "."
