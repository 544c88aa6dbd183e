"""The trainings that a search is made of: settings of ordinary runs, put together from its own."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from detnet.backbones.spaces.space import parse_path, read_space
from detnet.engine.launch import world_size
from detnet.errors import InputError
from detnet.search.config import SearchConfig, is_file
from detnet.search.split import search_images, training_images
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig
from detnet.training.run_config import RunConfig
from detnet.training.settings import combine, typed

# What the search itself says, the same for all its trainings.
_OURS = (
    *("data", "backbone", "backbone_options", "width", "seed", "device", "detector", "plugins"),
    *("train_annotations", "train_images", "val_annotations", "val_images"),
)

_PLAIN_FROM = 32  # images of a process, over which its own batch norm is as good as everybody's


def pretrain_config(config: SearchConfig, run: Path) -> PretrainConfig:
    """The supernet's training as a classifier.

    It is not evaluated unless its val_split says so: a supernet has no score of its own, its
    networks have, once their batch norms are recalibrated.

    Batch norm is each process's own, as in the release (128 images of a device), unless `norm` says
    otherwise or a process has fewer than 32 images at once. Running statistics of a supernet are
    never used, since each candidate's are taken again.

    Raises:
        InputError: a setting that is unknown, wrong, or the search's own.
    """
    ours = _supernet(config, {"data": config.pretrain_data})
    found: PretrainConfig = _typed(
        PretrainConfig, config, "pretrain", {"val_split": "none", **config.pretrain}, ours
    )
    if "norm" in config.pretrain:
        return found
    processes = world_size()
    plain = found.batch_size >= _PLAIN_FROM * processes * found.accumulate
    return replace(found, norm="batch" if plain else "sync")


def finetune_config(config: SearchConfig, run: Path) -> TrainConfig:
    """The supernet's training under the detector, without the images candidates are scored on.

    It is not evaluated, unless its val_split is "search".

    Raises:
        InputError: a setting that is unknown, wrong, or the search's own.
    """
    data = run.resolve() / "data"
    values = {"val_split": "none", "norm": "sync", **config.finetune}
    if values["val_split"] not in ("none", "search"):
        raise InputError(
            f"finetune: val_split is none or search, got {values['val_split']!r}: no phase before "
            "the last sees the validation split"
        )
    places = {
        "train_annotations": str(data / "train.json"),
        "train_images": str(training_images(config)) if config.data else None,
        "val_annotations": str(data / "search.json"),
        "val_images": str(search_images(config)) if config.data else None,
        "detector": config.detector,
    }
    if not config.from_scratch:
        places["weights"] = str(run.resolve() / "pretrain")
    return _typed(TrainConfig, config, "finetune", values, _supernet(config, places))


def path_settings(config: SearchConfig, phase: str) -> dict[str, Any]:
    """The settings by which a supernet's phase draws its paths; not those without effect."""
    names = [sampling := f"{phase}_sampling"]
    if phase == "pretrain" or config.from_scratch:  # weights are those drawn at random
        names.append("single_steps")
    if getattr(config, sampling) == "bins":
        names += ["bin_low", "bin_high", "bin_width"]
    return {name: getattr(config, name) for name in names}


def retrain_pretrain_config(
    config: SearchConfig, run: Path, path: Sequence[int] | str
) -> PretrainConfig:
    """The training of one network alone as a classifier.

    Raises:
        InputError: a setting that is unknown, wrong, or the search's own.
    """
    ours = _standalone(config, path, {"data": config.pretrain_data})
    return _typed(PretrainConfig, config, "retrain_pretrain", config.retrain_pretrain, ours)


def retrain_config(
    config: SearchConfig, run: Path, path: Sequence[int] | str, weights: Path | None
) -> TrainConfig:
    """The training of one network alone under the detector, on all training images.

    Args:
        weights: what it begins from, None from scratch.

    Raises:
        InputError: a setting that is unknown, wrong, or the search's own.
    """
    values = {"norm": "sync", **config.retrain}
    places: dict[str, Any] = {
        "data": config.data,
        "train_split": config.train_split,
        "val_split": config.val_split,
        "detector": config.detector,
    }
    if weights is not None:
        places["weights"] = str(weights.resolve())
    return _typed(TrainConfig, config, "retrain", values, _standalone(config, path, places))


def trainings_of_phases(
    config: SearchConfig, run: Path, path: Sequence[int] | str
) -> dict[str, PretrainConfig | TrainConfig]:
    """The settings of every training that the phases of a search have, in their order.

    Args:
        path: of the network that is trained alone.

    Raises:
        InputError: a setting that is unknown, wrong, or the search's own.
    """
    found: dict[str, PretrainConfig | TrainConfig] = {}
    if not config.from_scratch:
        found["pretrain"] = pretrain_config(config, run)
    if not config.by_classes:
        found["finetune"] = finetune_config(config, run)
    weights = None
    if not config.from_scratch:
        found["retrain_pretrain"] = retrain_pretrain_config(config, run, path)
        weights = run / "winner" / "pretrain"
    found["retrain"] = retrain_config(config, run, path, weights)
    return found


def changed(training: Any, changes: Mapping[str, Any], part: str) -> Any:
    """The settings of a run with those changes that `validate` makes to one part, if any.

    Raises:
        InputError: a change that is unknown or wrong.
    """
    if not changes.get(part):
        return training
    values = combine(asdict(training), changes[part])
    return _whole(type(training), values, f"validate: {part}")


def images_of(training: RunConfig, epoch: float) -> float:
    """Images that a training shows, of so many in an epoch."""
    length = training.length
    if "iterations" in length:
        return length["iterations"] * training.batch_size
    return length["epochs"] * epoch


def _supernet(config: SearchConfig, places: Mapping[str, Any]) -> dict[str, Any]:
    return {**places, "backbone": "supernet", "backbone_options": {"space": _table(config)}}


def _standalone(
    config: SearchConfig, path: Sequence[int] | str, places: Mapping[str, Any]
) -> dict[str, Any]:
    options = {"space": _table(config), "path": written_path(config, path)}
    return {**places, "backbone": "searched", "backbone_options": options}


def written_path(config: SearchConfig, path: Sequence[int] | str) -> str | list[int]:
    """A path as settings keep it: as text, or as numbers where YAML would take that for one."""
    text = path if isinstance(path, str) else read_space(config.space).format_path(path)
    return text if " " in text else list(parse_path(text))


def _table(config: SearchConfig) -> str | dict[str, Any]:
    """The space as a run's settings keep it: by its name, or whole, whatever becomes of a file."""
    return read_space(config.space).to_json() if is_file(config.space) else config.space


def _typed(
    kind: Any, config: SearchConfig, group: str, values: Mapping[str, Any], ours: Mapping[str, Any]
) -> Any:
    """Puts the settings of a run together; `values` are the user's, `ours` the search's."""
    refused = {*_OURS, *ours}
    if kind is TrainConfig:
        refused.add("weights")
    for name in values:
        if name in refused:
            raise InputError(f"{group}: {name} is decided by the search itself; leave it out there")
    names = ("device", "precision", "workers", "seed", "plugins")
    general = {name: getattr(config, name) for name in names}
    return _whole(kind, {**general, "width": config.width, **values, **ours}, group)


def _whole(kind: Any, values: Mapping[str, Any], where: str) -> Any:
    """The settings of a run that takes its whole length, whatever its scores on the way."""
    found = typed(kind, values, where=where)
    if found.patience:
        raise InputError(
            f"{where}: patience would end a training by its scores on val; all networks of a "
            "search take their whole length, or none could be compared"
        )
    return found
