"""Takes over the supernet of another search, after making sure that it is the one to be searched.

Pre-training it is the dearest part of a search and knows nothing of the detector, so that searches
under several detectors and for several data sets may share it. A fine-tuned one belongs to its
detector and data, and serves other methods and limits.
"""

import json
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from detnet.backbones import PIXEL_MEAN, PIXEL_STD
from detnet.backbones.files import read_classifier
from detnet.backbones.spaces.space import read_space
from detnet.data.classification.shards import index_images
from detnet.engine import checkpoint
from detnet.engine.runs import RunFolder
from detnet.errors import InputError
from detnet.files import read_yaml, replacing, sha256_of
from detnet.search.begun import is_complete, read_paths, write_paths
from detnet.search.records import TakenSupernet, write_record
from detnet.search.run import SearchRun, is_search
from detnet.search.split import class_folder, same_data
from detnet.search.trainings import finetune_config, path_settings, pretrain_config
from detnet.training.classification.config import PretrainConfig
from detnet.training.detection.config import TrainConfig

# Of a search: what decides which images are kept apart from its supernet, beside the data.
_PARTING = ("guide", "seed", "search_images", "train_split", "val_split")
_PARTS = ("data/search.json", "data/classes.json")  # what was kept apart
_SHOWN = 3  # classes in a message


@dataclass(frozen=True)
class _Trained:
    """A supernet's complete training.

    Args:
        folder: of its run.
        config: its settings.
    """

    folder: RunFolder
    config: PretrainConfig | TrainConfig

    @property
    def phase(self) -> str:
        return "finetune" if isinstance(self.config, TrainConfig) else "pretrain"

    @cached_property
    def search(self) -> SearchRun | None:
        """The search that it belongs to; None for a folder that was moved away from its search."""
        around = self.folder.path.resolve().parent
        return SearchRun.look(around) if is_search(around) else None


def check_supernet(run: SearchRun) -> list[str]:
    """Makes sure that the supernet to be taken over is of this search's space, width and data.

    Args:
        run: a search whose settings name a supernet; its folder need not be there yet.

    Returns:
        A line for each thing in which its training differs from what these settings ask for;
        nothing where it was taken over before.

    Raises:
        InputError: it is not there, not complete, or of another space, width, detector, other
            classes, colours or images than this search's.
    """
    if _is_taken(run):
        return []
    trained = _open(run)
    place, config = trained.folder.path, trained.config
    space = read_space(config.backbone_options["space"])
    if space.to_json() != run.space.to_json():
        raise InputError(f"supernet {place}: is one of another space than this search's")
    if config.width != run.config.width:
        raise InputError(
            f"supernet {place}: has width {config.width:g}, this search {run.config.width:g}"
        )
    if isinstance(config, TrainConfig):
        asked: Any = finetune_config(run.config, run.folder)
        group, notes = run.config.finetune, _check_finetuned(run, trained, config)
    else:
        asked = pretrain_config(run.config, run.folder)
        group, notes = run.config.pretrain, _check_pretrained(run, trained, asked)
    other = [*_differences(group, {name: getattr(config, name) for name in group})]
    if config.seed != asked.seed:
        other.append(f"seed {config.seed}, not {asked.seed}")
    if drawn := read_paths(place):
        other += _differences(path_settings(run.config, trained.phase), drawn)
    if other:
        notes.append(f"the supernet taken over was trained with {', '.join(other)}")
    return notes


def take_supernet(run: SearchRun) -> list[str]:
    """Copies it into the search's folder, as if it had been trained there, and writes where from.

    Args:
        run: that `check_supernet` let pass, its data parted.

    Returns:
        A line that tells where it came from, with its sha256; nothing where it was taken before.

    Raises:
        InputError: it has seen images that this search keeps apart.
    """
    if _is_taken(run):
        return []
    trained = _open(run)
    if _must_be_parted_alike(run, trained):
        _require_same_parts(run, trained)
    target = RunFolder(run.folder / trained.phase)
    target.path.mkdir(exist_ok=True)
    for name in ("config", "environment", "metrics"):
        shutil.copyfile(getattr(trained.folder, name), getattr(target, name))
    if drawn := read_paths(trained.folder.path):
        write_paths(target.path, drawn)
    with replacing(target.model) as beside:
        shutil.copyfile(trained.folder.model, beside)
        end = trained.folder.end()
        taken = TakenSupernet(
            source=str(trained.folder.path.resolve()),
            phase=trained.phase,
            sha256=sha256_of(beside),
            iterations=end["iteration"] if end else 0,
            notes=tuple(check_supernet(run)),
        )
        write_record(run.folder / "supernet.json", taken)  # the model, put into place last, is done
    return [taken.told]


def _is_taken(run: SearchRun) -> bool:
    taken = run.taken_supernet
    return taken is not None and is_complete(run.folder / taken.phase)


def _open(run: SearchRun) -> _Trained:
    place = Path(run.config.supernet)
    if is_search(place):
        if not (place / "pretrain").is_dir():
            raise InputError(f"supernet {place}: this search has not pre-trained one")
        place = place / "pretrain"
    folder = RunFolder.open(place)
    kind = TrainConfig if "detector" in read_yaml(folder.config) else PretrainConfig
    config = kind.read(folder.config)
    if config.backbone != "supernet":
        raise InputError(f"supernet {place}: is a run of {config.backbone}, of no supernet")
    if not is_complete(place):
        raise InputError(
            f"supernet {place}: its training is not complete; go on with it first, "
            f"`detnet search --resume {place.resolve().parent}`"
        )
    return _Trained(folder, config)


def _check_pretrained(run: SearchRun, trained: _Trained, asked: PretrainConfig) -> list[str]:
    """Refuses other classes and colours; tells of other images."""
    place = trained.folder.path
    if run.config.from_scratch:
        raise InputError(f"supernet {place}: is pre-trained, which from_scratch leaves out")
    info, images = read_classifier(trained.folder.model), index_images(class_folder(run.config))
    if info.classes != images.classes:
        strange = [name for name in info.classes if name not in images.classes]
        only = f", {', '.join(strange[:_SHOWN])} among them" if strange else ""
        raise InputError(
            f"supernet {place}: learned {len(info.classes)} classes{only}, which "
            f"are not the {len(images.classes)} of {images.path}"
        )
    colours = {
        "pixel_mean": (info.pixel_mean, asked.pixel_mean or PIXEL_MEAN),
        "pixel_std": (info.pixel_std, asked.pixel_std or PIXEL_STD),
        "channel_order": (
            info.channel_order,
            "rgb" if asked.channel_order == "auto" else asked.channel_order,
        ),
    }
    for name, (theirs, ours) in colours.items():
        if list(theirs) != list(ours):
            raise InputError(
                f"supernet {place}: learned images with {name} {_shown(theirs)}, this search takes "
                f"{_shown(ours)}; set pretrain.{name}"
            )
    if _must_be_parted_alike(run, trained):
        _require_parted_alike(run, trained)
        return []
    last = trained.folder.last
    if last.is_file() and checkpoint.load(last).get("data") != images.fingerprint():
        return [f"the supernet taken over has seen other images of the classes than {images.path}"]
    return []


def _check_finetuned(run: SearchRun, trained: _Trained, config: TrainConfig) -> list[str]:
    """Refuses another detector, and one that has seen the images kept apart."""
    place = trained.folder.path
    if run.config.by_classes:
        raise InputError(
            f"supernet {place}: is fine-tuned; classification as the guide takes one that is not"
        )
    if config.detector != run.config.detector:
        raise InputError(
            f"supernet {place}: was fine-tuned under {config.detector}, this search is for "
            f"{run.config.detector}; leave {place.name} out to take the pre-trained one"
        )
    _require_parted_alike(run, trained)
    return []


def _must_be_parted_alike(run: SearchRun, trained: _Trained) -> bool:
    """Whether the training has read images of which this search keeps some apart."""
    return run.config.by_classes or trained.phase == "finetune"


def _require_parted_alike(run: SearchRun, trained: _Trained) -> None:
    """Refuses a supernet that may have seen images on which this search scores.

    Raises:
        InputError: naming what decides otherwise which images are kept apart.
    """
    place, other = trained.folder.path, trained.search
    if other is None:
        raise InputError(
            f"supernet {place}: no search is around it that tells which images it has not seen"
        )
    for name in _PARTING:
        theirs, ours = getattr(other.config, name), getattr(run.config, name)
        if theirs != ours:
            raise InputError(
                f"supernet {place}: its search kept other images apart, by {name} {theirs}, this "
                f"one by {ours}"
            )
    if not same_data(run.config, other.folder):
        raise InputError(f"supernet {place}: its search was for other data than this one's")


def _require_same_parts(run: SearchRun, trained: _Trained) -> None:
    """Makes sure of it by what was kept apart, which another validation split changes, too."""
    assert trained.search is not None  # `check_supernet` asked
    for name in _PARTS:
        paths = [where / name for where in (run.folder, trained.search.folder)]
        if paths[0].is_file() and paths[0].read_bytes() != paths[1].read_bytes():
            raise InputError(
                f"supernet {trained.folder.path}: its search kept other images apart "
                f"({paths[1]} is not {paths[0]}); is the validation split the same?"
            )


def _differences(asked: Mapping[str, Any], had: Mapping[str, Any]) -> Iterator[str]:
    """What a training was given otherwise than these settings say, in groups one by one."""
    for name, value in asked.items():
        if isinstance(value, Mapping) and isinstance(had.get(name), Mapping):
            yield from _differences(value, {key: had[name].get(key) for key in value})
        elif json.dumps(value) != json.dumps(had.get(name)) and value != had.get(name):
            yield f"{name} {_shown(had.get(name))}, not {_shown(value)}"


def _shown(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
