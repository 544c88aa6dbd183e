"""Which of the paper's numbers a run's settings were made for, and how it departs from them."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import yaml

from detnet.report.score_tables import Comparison
from detnet.training.detection.config import TrainConfig, presets
from detnet.training.published import FROM_SCRATCH, PUBLISHED, Published
from detnet.training.run_config import PAPERS_STRIDE

# The detector's options that weights decide, and rules that every run says of itself; named here
# since their own modules need torch.
IMAGE_OPTIONS = ("pixel_mean", "pixel_std", "channel_order")
RULES = ("anchor_strides", "threshold_on")

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
    "plugins",
    "preset",
    "departures",
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
    own = f"{config.backbone}_{config.detector}"
    # The one that was named goes first, then those of the same network.
    order = sorted(presets(), key=lambda name: (name != named, not name.startswith(own)))
    for name in order:
        published = _of_recipe(name, place)
        preset = _settings(name) if published else {}
        if "detector" not in preset:
            continue
        changes = _changes(preset, _unsettled(config, preset, command))
        if name == named or not changes:
            recipe = _words(name, changes, config, preset)
            return [Comparison(one, recipe) for one in published]
    return []


def _settings(name: str) -> dict[str, Any]:
    """A preset's settings with the defaults of what it leaves open.

    They are read as they are, not checked as those of a run: that takes a fifth of a second each.
    """
    values = yaml.safe_load(presets()[name].read_text(encoding="utf-8"))
    return {**asdict(TrainConfig()), **values} if "detector" in values else {}


def _of_recipe(name: str, place: tuple[str, str]) -> tuple[Published, ...]:
    """What the paper reports of a detector and backbone trained as the preset does it."""
    if name.endswith("_scratch"):
        return (FROM_SCRATCH[place],) if place in FROM_SCRATCH else ()
    return PUBLISHED.get(place, ()) if "_2x" in name else ()


def _unsettled(
    config: TrainConfig, preset: Mapping[str, Any], command: Sequence[str]
) -> TrainConfig:
    """The settings as they were before the weights decided what the preset leaves to them.

    A run's config.yaml says what became of it, which is no departure from the recipe, unless the
    command asked for it.
    """
    by_default = preset["stride_in"] == "auto"
    if by_default and config.stride_in == PAPERS_STRIDE:
        config = replace(config, stride_in="auto")
    words = [word.removeprefix("--detector-option=").lstrip("-") for word in command]
    asked = {word.partition("=")[0].replace("-", "_") for word in words}
    own = preset.get("detector_options") or {}
    names = (*IMAGE_OPTIONS, *RULES) if config.weights else RULES
    settled = [name for name in names if name not in own and name not in asked]
    options = {n: v for n, v in config.detector_options.items() if n not in settled}
    config = replace(config, detector_options=options)
    if not config.weights:
        return config
    return replace(config, stride_in="auto") if by_default and "stride_in" not in asked else config


def _changes(preset: Mapping[str, Any], config: TrainConfig) -> dict[str, tuple[Any, Any]]:
    """Setting -> (the preset's, the run's) where they differ."""
    pairs = {
        name: (preset.get(name), value)
        for name, value in asdict(config).items()
        if name not in _FREE
    }
    changed = {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}
    if "detector_options" in changed:
        own, run = (options or {} for options in changed["detector_options"])
        changed["detector_options"] = _beyond(own, run), _beyond(run, own)
    return changed


def _beyond(options: Mapping[str, Any], others: Mapping[str, Any]) -> dict[str, Any]:
    """The options that the others lack or have otherwise."""
    return {k: v for k, v in options.items() if k not in others or others[k] != v}


def _names(command: Sequence[str]) -> str | None:
    """What --config was given."""
    for word, after in zip(command, [*command[1:], ""], strict=False):
        if word == "--config":
            return after
        if word.startswith("--config="):
            return word.partition("=")[2]
    return None


def _words(
    name: str,
    changes: Mapping[str, tuple[Any, Any]],
    config: TrainConfig,
    preset: Mapping[str, Any],
) -> str:
    backbone = f" with {config.backbone}" if config.backbone != preset["backbone"] else ""
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
