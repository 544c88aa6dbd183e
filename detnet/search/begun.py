"""Whether a training of a search was begun, is complete, and is still that of the settings."""

import json
from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, TypeVar

from detnet.engine.launch import is_main
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.files import read_json, write_json
from detnet.training.run_config import RunConfig

Training = TypeVar("Training", bound=RunConfig)

# What may differ between two trainings of the same budget.
PLACES = {"data", "weights", "backbone_options", "seed", "device", "workers", "plugins"}
PLACES |= {"train_annotations", "train_images", "val_annotations", "val_images"}
# What changes nothing of what a training reaches.
HABITS = {"log_every", "checkpoint_every", "evaluate_every", "tensorboard", "val_loss"}

# What may have become another between two sessions of one training.
_FREE = PLACES - {"backbone_options", "seed"} | HABITS
_ASIDE = _FREE | {"threads", "preset", "departures"}
_PATHS = "paths.json"  # beside a supernet's config.yaml: how its paths are drawn


def is_complete(folder: Path) -> bool:
    """Whether a training has written its final model and said so."""
    run = RunFolder(folder)
    return run.model.exists() and run.end() is not None


def begun(folder: Path) -> bool:
    """Whether a training has a state to go on from; what a kill left before that is removed.

    Without a checkpoint nothing is lost by beginning again, and a kill may have cut the settings.

    Raises:
        InputError: another process is training it, and has no checkpoint yet.
    """
    run = RunFolder(folder)
    if run.last.exists():
        return True
    if is_main() and (run.config.exists() or run.metrics.exists()):
        run.lock()  # or they may be those of a training under way
        try:
            if run.last.exists():  # written and let go of meanwhile
                return True
            for path in (run.config, run.metrics):
                path.unlink(missing_ok=True)
        finally:
            run.unlock()
    return False


def going_on(folder: Path, config: Training) -> Training:
    """The settings of a training that was begun, with what may be otherwise now as it is now.

    Args:
        config: the settings asked for.
    """
    before = type(config).read(RunFolder(folder).config)
    now = {name: getattr(config, name) for name in _FREE if hasattr(config, name)}
    return replace(before, **now)


def require_same_settings(
    folder: Path,
    config: RunConfig,
    *,
    paths: Mapping[str, Any] | None = None,
    aside: Collection[str] = (),
) -> None:
    """Refuses a training that was begun or completed with other settings than asked for now.

    What the settings leave open was decided by data, weights or machine when it began.

    Args:
        folder: of the training; nothing is refused where none has a state to go on from.
        paths: of a supernet's, the search's settings by which its paths are drawn.
        aside: names of settings that are left open, too.

    Raises:
        InputError: naming the first setting that differs.
    """
    run = RunFolder(folder)
    if not (run.last.exists() or is_complete(folder)):
        return
    before, now = _flat(type(config).read(run.config)), _flat(config)
    if paths is not None and (recorded := read_paths(folder)):
        before, now = before | recorded, {**now, **paths}
    for name, new in now.items():
        if name not in aside and new not in (None, "auto", []) and before.get(name) != new:
            raise InputError(
                f"{folder}: was trained with {name} {before.get(name)}, now it is {new}; restore "
                "that, or delete the folder and all that was made of it to train again"
            )


def write_paths(folder: Path, paths: Mapping[str, Any]) -> None:
    """Notes beside a supernet's settings how its paths are drawn, before it begins.

    Args:
        paths: as `require_same_settings` takes them.
    """
    if is_main():
        folder.mkdir(exist_ok=True)
        write_json(folder / _PATHS, paths)


def read_paths(folder: Path) -> dict[str, Any]:
    """Gives what `write_paths` noted; nothing of a supernet from before that was noted."""
    place = folder / _PATHS
    return read_json(place) if place.is_file() else {}


def _flat(config: RunConfig) -> dict[str, Any]:
    """What decides a training as a file would have it, settings in groups as GROUP.NAME."""
    found: dict[str, Any] = {}
    for name, value in json.loads(json.dumps(asdict(config))).items():
        if name not in _ASIDE and isinstance(value, dict):
            found |= {f"{name}.{key}": one for key, one in value.items()}
        elif name not in _ASIDE:
            found[name] = value
    return found
